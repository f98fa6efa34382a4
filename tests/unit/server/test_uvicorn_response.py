"""Answers in one piece: the same bytes as the web server's own, in fewer writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from student_success.server import uvicorn_response
from student_success.server.uvicorn_response import MAX_BYTES, Cycle

Message = dict[str, Any]


class Transport:
    """What was written, and whether the connection was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Said:
    """What one way of answering did."""

    def __init__(
        self,
        kind: type[RequestResponseCycle],
        messages: Sequence[Message],
        *,
        method: str = "POST",
        keep_alive: bool = True,
        fails: bool = False,
    ) -> None:
        self.transport = Transport()
        self.responses = 0
        self.error = ""
        logger = logging.getLogger("test_answers")
        logger.disabled = True
        cycle = kind(
            scope={"type": "http", "method": method},  # type: ignore[arg-type, typeddict-item]
            transport=self.transport,  # type: ignore[arg-type]
            flow=FlowControl(self.transport),  # type: ignore[arg-type]
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._on_response,
        )

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                for message in messages:
                    await send(message)
            except RuntimeError as error:
                self.error = str(error)
                raise
            if fails:
                raise RuntimeError("after all that was said")

        asyncio.run(cycle.run_asgi(app))
        self.complete = cycle.response_complete

    def _on_response(self) -> None:
        self.responses += 1

    @property
    def outcome(self) -> tuple[bytes, bool, int, bool]:
        return b"".join(self.transport.writes), self.transport.closed, self.responses, self.complete


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


SIZED = (b"content-length", b"5")
LONG = b"x" * (MAX_BYTES + 1)
ANSWERS: dict[str, list[Message]] = {
    "whole": [start((b"content-type", b"text/plain"), SIZED), part(b"hello")],
    "error": [start(SIZED, status=422), part(b"hello")],
    "unknown status": [start(SIZED, status=599), part(b"hello")],
    "empty": [start((b"content-length", b"0")), part()],
    "no content": [start(status=204), part()],
    "not modified": [start((b"etag", b'"a"'), status=304), part()],
    "of no length": [start(), part(b"hello")],
    "chunked": [start((b"transfer-encoding", b"chunked")), part(b"hello")],
    "in parts": [start(SIZED), part(b"he", more=True), part(b"llo")],
    "in parts of no length": [start(), part(b"he", more=True), part(b"llo")],
    "long": [start((b"content-length", b"%d" % len(LONG))), part(LONG)],
    "closing": [start(SIZED, (b"connection", b"close")), part(b"hello")],
    "names in capitals": [start((b"Content-Length", b"5"), (b"X-A", b"b")), part(b"hello")],
    "no list of headers": [{"type": "http.response.start", "status": 200}, part(b"hello")],
}
WRONG: dict[str, list[Message]] = {
    "too long": [start(SIZED), part(b"hello!")],
    "too short": [start(SIZED), part(b"hell")],
    "a line in a value": [start(SIZED, (b"x-a", b"b\r\nset-cookie: c")), part(b"hello")],
    "half a line in a value": [start(SIZED, (b"x-a", b"b\nc")), part(b"hello")],
    "a zero in a value": [start(SIZED, (b"x-a", b"b\0c")), part(b"hello")],
    "a line in a name": [start(SIZED, (b"x-a\r\nb", b"c")), part(b"hello")],
    "a body first": [part(b"hello")],
    "more after the end": [start(SIZED), part(b"hello"), part(b"hello")],
    "nothing": [],
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_same_bytes(name: str, method: str, keep_alive: bool) -> None:
    ours, original = (
        Said(kind, ANSWERS[name], method=method, keep_alive=keep_alive)
        for kind in (Cycle, RequestResponseCycle)
    )
    assert ours.outcome == original.outcome
    assert ours.outcome[0].startswith(b"HTTP/1.1 ")
    assert ours.responses == 1


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_as_before(name: str) -> None:
    ours, original = (Said(kind, WRONG[name]) for kind in (Cycle, RequestResponseCycle))
    assert ours.error == original.error
    assert ours.outcome == original.outcome


def test_whole_answer_is_one_write() -> None:
    assert len(Said(Cycle, ANSWERS["whole"]).transport.writes) == 1
    assert len(Said(RequestResponseCycle, ANSWERS["whole"]).transport.writes) == 2


@pytest.mark.parametrize("fails", [True, False])
def test_answer_begun_and_not_ended_closes_the_connection(fails: bool) -> None:
    said = Said(Cycle, [start(SIZED)], fails=fails)
    assert said.transport.closed
    assert not said.transport.writes, "half an answer helps nobody"


def test_failure_before_an_answer_is_said() -> None:
    ours, original = (Said(kind, [], fails=True) for kind in (Cycle, RequestResponseCycle))
    assert ours.outcome == original.outcome
    assert b" 500 " in ours.outcome[0]


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"x-a", b"X-B", b"a b", b"content-type", b"", b"x:y"]),
            st.binary(max_size=8),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=16),
)
def test_whatever_is_written_is_what_the_original_writes(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    messages = [start(*headers, (b"content-length", b"%d" % len(body))), part(body)]
    original = Said(RequestResponseCycle, messages)
    ours = Said(Cycle, messages)
    if not original.error:
        assert ours.outcome == original.outcome
    elif not ours.error:
        # Control signs that cannot end a line are let through.
        assert ours.outcome[0].count(b"\n") == 4 + len(headers) + body.count(b"\n")


def test_installed_in_the_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", RequestResponseCycle)
    uvicorn_response.install()
    assert httptools_impl.RequestResponseCycle is Cycle
