"""One HTTP/1.1 connection over a plain socket.

HTTP libraries may send a request again when a connection breaks. This connection never does, so a
test knows exactly what was sent and which requests got no response. It connects to the loopback
address only.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

LOOPBACK = "127.0.0.1"
RESPONSE_SECONDS = 60.0


class ConnectionLostError(Exception):
    """The connection ended after a request was sent, in whole or in part, without a response."""


@dataclass(frozen=True)
class HttpResponse:
    """One response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


def http_request(
    method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a request; a body that is not bytes is sent as JSON.

    A `Host` among the headers replaces the default.
    """
    headers = {"Host": "localhost", **(headers or {})}
    content = (
        b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(content)}"]
    if body is not None:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class HttpConnection:
    """A connection to a port of this machine.

    Parameters
    ----------
    port
        Port of the server.
    seconds
        Longest time to wait for the connection, and for each part of a response.

    Raises
    ------
    OSError
        If the connection cannot be made. Nothing was sent then.
    """

    def __init__(self, port: int, *, seconds: float = RESPONSE_SECONDS) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def is_closed_by_server(self) -> bool:
        """Return whether the server has closed; call it only while no response is expected."""
        # Not `select`, which takes no descriptor above 1,023.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, content: bytes) -> None:
        """Send bytes.

        Raises
        ------
        ConnectionLostError
            If the connection ends meanwhile.
        """
        try:
            self._socket.sendall(content)
        except OSError as error:
            raise ConnectionLostError(str(error)) from error

    def exchange(self, content: bytes) -> HttpResponse:
        """Send a request and read its response.

        Raises
        ------
        ConnectionLostError
            If the connection ends before the response is complete.
        """
        self.send(content)
        return self.read_response()

    def read_response(self) -> HttpResponse:
        """Read one response.

        Raises
        ------
        ConnectionLostError
            If the connection ends before the response is complete.
        """
        head = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = self._read_bytes(int(headers.get("content-length", "0")))
        return HttpResponse(int(head[0].split()[1]), headers, body)

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._receive()
        content, _, self._received = self._received.partition(end)
        return content

    def _read_bytes(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        content, self._received = self._received[:size], self._received[size:]
        return content

    def _receive(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except OSError as error:
            raise ConnectionLostError(str(error) or type(error).__name__) from error
        if not received:
            raise ConnectionLostError("the server closed the connection without a response")
        self._received += received
