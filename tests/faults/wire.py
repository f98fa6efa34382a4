"""HTTP/1.1 over a bare socket, so that no library sends anything a second time behind our back."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_SECONDS = 60.0


class CutError(Exception):
    """A request was sent, at least in part, and the connection ended without an answer."""


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Write a request; a body that is not bytes becomes JSON."""
    content = (
        b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if body is not None:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Wire:
    """One connection.

    Raises
    ------
    OSError
        If it cannot be made: then nothing was sent.
    """

    def __init__(self, port: int, *, seconds: float = ANSWER_SECONDS) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ended(self) -> bool:
        """Tell whether the other side has closed; looked at when nothing is on its way."""
        readable, _, _ = select.select([self._socket], [], [], 0)
        return bool(readable)

    def send(self, content: bytes) -> None:
        try:
            self._socket.sendall(content)
        except OSError as error:
            raise CutError(str(error)) from error

    def ask(self, content: bytes) -> Answer:
        """Send a request and read its answer.

        Raises
        ------
        CutError
            If the connection ends before the answer is whole.
        """
        self.send(content)
        return self.read()

    def read(self) -> Answer:
        """Read one answer."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = self._take(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._left:
            self._more()
        head, _, self._left = self._left.partition(mark)
        return head

    def _take(self, size: int) -> bytes:
        while len(self._left) < size:
            self._more()
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def _more(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except OSError as error:
            raise CutError(str(error) or type(error).__name__) from error
        if not received:
            raise CutError("closed without an answer")
        self._left += received
