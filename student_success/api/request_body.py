"""Read request bodies within limits, and validate them."""

from __future__ import annotations

import re

from starlette.types import Message, Receive

from student_success.api.endpoints import Endpoint
from student_success.api.request import RequestContext
from student_success.api.validation import validate_json
from student_success.core.errors import (
    BodyTooLargeError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from student_success.core.memory import release_memory_soon
from student_success.core.settings import Settings

MAX_LARGEST_BODIES = 8
"""A worker buffers this many of the largest bodies at once, or as many bytes of smaller ones."""
_TRIM_BYTES = 4 << 20
"""After a body of this size, freed memory is returned to the operating system."""
_JSON_TYPE = re.compile(rb"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


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
        request.body = await self._receive_all(request, receive, limit)
        if not request.body and endpoint.body_optional:
            request.payload = endpoint.body()
            return
        content_type = request.headers.get(b"content-type", b"")
        if request.body and not _JSON_TYPE.fullmatch(content_type):
            raise UnsupportedMediaTypeError("Send the body as application/json.")
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
