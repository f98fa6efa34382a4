"""Answers that go out in one piece.

The web server writes the head of an answer when it is told it, and the body when that comes: two
system calls for every answer, a twelfth of a prediction's time with what goes with them. Here the
head waits for the body, and where that is the whole of it both go out together.

The request cycle of uvicorn (0.54) is changed here, for it has no setting for this; a test holds
the bytes to those of the original.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

MAX_BYTES = 64 * 1024
"""A longer body is not worth copying behind its head."""


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    _head: Any = None

    async def send(self, message: Any) -> None:
        """Take a part of an answer; its head is kept until what follows is known."""
        if self.response_started:
            await super().send(message)
        elif message["type"] == "http.response.start":
            self._head = message
        elif self._head is None or not await self._send_whole(message):
            if self._head is not None:
                await super().send(self._head)
            await super().send(message)

    async def send_500_response(self) -> None:
        """Say that the application failed; not where it had begun to say something else."""
        if self._head is None:
            await super().send_500_response()
        else:
            self.transport.close()

    async def _send_whole(self, message: Any) -> bool:
        """Write head and body at once; False where they are not the whole, or not simple."""
        body: bytes = message.get("body", b"")
        if message.get("more_body") or len(body) > MAX_BYTES or self.access_log:
            return False
        head = self._plain_head(len(body))
        if head is None:
            return False
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return True
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(head if self.scope["method"] == "HEAD" else head + body)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

    def _plain_head(self, length: int) -> bytes | None:
        """Join the head; None where it says how the body is sent in any way but by its length."""
        headers = (*self.default_headers, *self._head.get("headers", ()))
        sized = self.scope["method"] == "HEAD"
        lines = [STATUS_LINE[self._head["status"]]]
        for name, value in headers:
            if not _plain(name):
                if name != b"content-length" or (not sized and value != b"%d" % length):
                    return None
                sized = True
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        head = b"".join(lines)
        ends = len(headers) + (2 if self.keep_alive else 3)
        whole = head.count(b"\n") == head.count(b"\r") == ends and b"\0" not in head
        return head if sized and whole else None


@lru_cache(maxsize=256)
def _plain(name: bytes) -> bool:
    """Tell whether a header's name is written as it is and says nothing to the server."""
    if name in (b"content-length", b"transfer-encoding", b"connection"):
        return False
    return name.islower() and not HEADER_RE.search(name)


def install() -> None:
    """Have the web server of this process answer so; call before it starts."""
    httptools_impl.RequestResponseCycle = Cycle  # type: ignore[misc]
