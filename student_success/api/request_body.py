"""Read request bodies within limits, and validate them."""

from __future__ import annotations

from email.message import Message as MimeHeaders

from starlette.types import Message, Receive

from student_success.api.endpoints import Endpoint
from student_success.api.request import RequestContext
from student_success.api.validation import validate_json
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    BodyTooLargeError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from student_success.core.memory import release_memory_soon

MAX_LARGEST_BODIES = 8
"""A worker buffers this many of the largest bodies at once, or as many bytes of smaller ones."""
_TRIM_BYTES = 4 << 20
"""After a body of this size, freed memory is returned to the operating system."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_CONTENT_TYPE_BYTES = 256
"""Parsing takes time that grows with the square of the length."""


class ClientDisconnectedError(Exception):
    """The client closed the connection before its request was complete."""


class BodyReader:
    """Read bodies into memory; limit each of them, and all that are buffered at the same time."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_body_bytes
        self._max_batch_bytes = settings.max_batch_body_bytes
        self._max_buffered = MAX_LARGEST_BODIES * max(self._max_bytes, self._max_batch_bytes)
        self._buffered = 0

    async def read(self, endpoint: Endpoint, request: RequestContext, receive: Receive) -> None:
        """Read and validate the body of a request into its context.

        Raises
        ------
        BodyTooLargeError, UnsupportedMediaTypeError, InvalidInputError
            If the body is not what the route accepts. A body over the limit is not read to its end.
        TooManyRequestsError
            If the bodies being read would take too much memory together.
        ClientDisconnectedError
            If the client is gone.
        """
        limit = self._max_batch_bytes if endpoint.large_body else self._max_bytes
        length = request.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > limit):
            raise _too_large(limit)
        if endpoint.body is None:
            return
        if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaTypeError("Send the body without a content encoding.")
        body = await self._receive_all(request, receive, limit)
        request.body = body.removeprefix(_BYTE_ORDER_MARK)
        if not request.body and endpoint.body_optional:
            request.payload = endpoint.body()
            return
        content_type = request.headers.get(b"content-type", b"")
        if request.body and content_type != b"application/json":
            _check_content_type(content_type)
        request.payload = validate_json(endpoint.body, request.body)

    async def _receive_all(self, request: RequestContext, receive: Receive, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            more = message.get("more_body", False)
            if not chunks and not more:
                return chunk
            request.buffered_bytes += len(chunk)
            self._buffered += len(chunk)
            if self._buffered > self._max_buffered:
                raise TooManyRequestsError("Too many large bodies at once.", retry_after=1)
            chunks.append(chunk)
            if not more:
                return b"".join(chunks)

    def release(self, request: RequestContext) -> None:
        """Stop counting the body of a request that is answered."""
        self._buffered -= request.buffered_bytes
        if request.buffered_bytes >= _TRIM_BYTES:
            release_memory_soon()


def _check_content_type(content_type: bytes) -> None:
    """Reject all but JSON in UTF-8; parameters other than the charset do not matter."""
    headers = MimeHeaders()
    if len(content_type) <= _MAX_CONTENT_TYPE_BYTES and content_type.isascii():
        headers["Content-Type"] = content_type.decode("ascii")
    if headers.get_content_type() != "application/json":
        raise UnsupportedMediaTypeError("Send the body as application/json.")
    charset = headers.get_content_charset("utf-8")
    if charset.replace("-", "").replace("_", "") != "utf8":
        raise UnsupportedMediaTypeError("Send the body in UTF-8, without another charset.")


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body may have at most {limit} bytes.")


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was already read, then what follows."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
