"""Limits on connections, and how they are installed in uvicorn."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import uvicorn.config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from student_success.server import uvicorn_connection
from student_success.server.uvicorn_connection import (
    RESERVED_DESCRIPTORS,
    Connection,
    ResponseTransport,
    install,
    limited,
)


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    copy: dict[str, Any] = dict(uvicorn.config.HTTP_PROTOCOLS)
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", copy)
    return copy


@pytest.mark.parametrize(
    ("limits", "raised_to", "max_connections"),
    [
        ((1024, 1 << 20), 4096 + RESERVED_DESCRIPTORS, 4096),
        ((1024, 2048), 2048, 2048 - RESERVED_DESCRIPTORS),
        ((1024, resource.RLIM_INFINITY), 4096 + RESERVED_DESCRIPTORS, 4096),
        ((1 << 20, 1 << 20), None, 4096),
        ((128, 128), 128, 64),
    ],
)
def test_connection_limit_reserves_file_descriptors(
    protocols: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    raised_to: int | None,
    max_connections: int,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    install(3.5)
    protocol = protocols["auto"]
    assert issubclass(protocol, Connection)
    assert (protocol.timeout_seconds, protocol.max_connections) == (3.5, max_connections)
    assert set_to == ([] if raised_to is None else [(raised_to, limits[1])])


class RecordingTransport(asyncio.Transport):
    """Records each system call that a transport would make."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.calls.append(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.calls.append("end")

    def close(self) -> None:
        self.calls.append("close")
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def calls_of(use: Callable[[ResponseTransport], object]) -> list[bytes | str]:
    recording = RecordingTransport()

    async def run() -> None:
        use(ResponseTransport(recording, asyncio.get_running_loop()))
        await asyncio.sleep(0)

    asyncio.run(run())
    return recording.calls


@pytest.mark.parametrize(
    ("calls", "sent"),
    [
        ([("write", b"head"), ("write", b"body")], [b"headbody"]),
        ([("write", b"head")], [b"head"]),
        ([("write", b"head"), ("write", b"")], [b"head"]),
        ([("write", b"1"), ("write", b"2"), ("write", b"3")], [b"12", b"3"]),
        ([("write", b"head"), ("close",)], [b"head", "close"]),
        ([("write", b"head"), ("write", b"body"), ("close",)], [b"headbody", "close"]),
        ([("write", b"head"), ("write_eof",)], [b"head", "end"]),
        ([("write", b"head"), ("abort",)], []),
        ([("close",)], ["close"]),
    ],
)
def test_response_transport_sends_two_writes_at_once_and_loses_none(
    calls: list[tuple[Any, ...]], sent: list[bytes | str]
) -> None:
    def use(transport: ResponseTransport) -> None:
        for name, *arguments in calls:
            getattr(transport, name)(*arguments)

    assert calls_of(use) == sent


def send_response(
    transport: Any, messages: Iterable[dict[str, Any]], *, method: str, keep_alive: bool
) -> None:
    """Send a response through uvicorn."""
    cycle = RequestResponseCycle(
        scope={"type": "http", "method": method},  # type: ignore[arg-type, typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=logging.getLogger(__name__),
        access_logger=logging.getLogger(__name__),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )

    async def send_all() -> None:
        for message in messages:
            await cycle.send(message)  # type: ignore[arg-type]

    coroutine = send_all()
    with pytest.raises(StopIteration):
        coroutine.send(None)


SIZED = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"5")],
}
CHUNKED = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("parts", [(b"hello",), (b"he", b"llo"), (b"he", b"l", b"lo")])
@pytest.mark.parametrize("start", [SIZED, CHUNKED])
def test_response_transport_sends_the_bytes_that_uvicorn_sends(
    start: dict[str, Any], parts: tuple[bytes, ...], keep_alive: bool, method: str
) -> None:
    messages = [
        start,
        *(
            {"type": "http.response.body", "body": part, "more_body": number < len(parts)}
            for number, part in enumerate(parts, start=1)
        ),
    ]
    recording = RecordingTransport()

    async def run() -> None:
        send_response(recording, messages, method=method, keep_alive=keep_alive)

    asyncio.run(run())
    calls = calls_of(
        lambda transport: send_response(transport, messages, method=method, keep_alive=keep_alive)
    )

    def joined(recorded: list[bytes | str]) -> bytes:
        return b"".join(item.encode() if isinstance(item, str) else item for item in recorded)

    assert joined(calls) == joined(recording.calls)
    if method == "POST":
        assert len(calls) == len(recording.calls) - (len(parts) + 1) // 2


async def read_all(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send(SIZED)
    await send({"type": "http.response.body", "body": b"hello"})


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        POST + b"X-Slow: ",
        POST + b"Content-Length: 9\r\n\r\n{",
        POST + b"\r\n",
        b"\x00\r\n\r\n",
    ],
    ids=["silent", "half a head", "half a body", "whole", "malformed"],
)
def test_ended_connection_is_freed_without_garbage_collection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(uvicorn_connection, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(uvicorn_connection, "LINGER_SECONDS", 0.02)
    config = uvicorn.Config(read_all, lifespan="off", timeout_keep_alive=1)
    config.load()
    connections: list[weakref.ref[Connection]] = []

    def connect() -> Connection:
        protocol = limited(0.1)(config=config, server_state=ServerState(), app_state={})
        connections.append(weakref.ref(protocol))
        return protocol

    async def run() -> None:
        served, client = socket.socketpair()
        with client:
            client.sendall(sent)
            await asyncio.get_running_loop().connect_accepted_socket(connect, served)
            end = time.monotonic() + 5
            while connections[0]() is not None and time.monotonic() < end:
                await asyncio.sleep(0.05)
            assert connections[0]() is None, "still in memory"

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
