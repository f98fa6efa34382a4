"""Responses: the headers that all of them have, and the one error envelope."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from starlette.responses import Response
from starlette.types import Message, Send

from student_success.api.request import RequestContext, current_request
from student_success.core.errors import (
    InvalidInputError,
    ModelUnavailableError,
    NotFoundError,
    StudentSuccessError,
    UnavailableError,
)

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
)
_CLOSING_HEADERS = (*SECURITY_HEADERS, (b"connection", b"close"))
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}
"""What the system says when something is used up, which may be free again later."""
# BentoML names itself in "server", which helps only an attacker.
_REPLACED_HEADERS = {b"server", *(name for name, _ in SECURITY_HEADERS)}


def error_body(error: StudentSuccessError, request_id: str) -> bytes:
    """Encode an error as the contract's envelope."""
    return json.dumps(
        {
            "error": error.code,
            "message": error.message,
            "request_id": request_id,
            "details": error.details,
        },
        default=str,
    ).encode()


def catch_errors(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R | Response]]:
    """Turn what a BentoML method raises into the error envelope.

    BentoML itself would replace the text of errors and log the values of the input.
    """

    @wraps(method)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        try:
            return await method(*args, **kwargs)
        except StudentSuccessError as known:
            error = known
            log_server_error(error)
        except Exception as unknown:
            error = unexpected_error(unknown)
        request = current_request()
        request.has_error_envelope = True
        return Response(
            error_body(error, request.request_id),
            status_code=error.status,
            headers=error.headers,
            media_type="application/json",
        )

    return wrapped


def log_server_error(error: StudentSuccessError) -> None:
    """Log an error of ours (5xx); errors of callers are only in the access log."""
    if error.status >= 500:
        logger.error(
            "request_failed",
            extra={"code": error.code, "request_id": current_request().request_id},
            exc_info=error,
        )


def unexpected_error(error: Exception) -> StudentSuccessError:
    """Log the exception being handled, with the request's id; return the error to answer with."""
    logger.exception("request_crashed", extra={"request_id": current_request().request_id})
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return UnavailableError("The server is short of files, processes, memory or disk space.")
    return StudentSuccessError("Something went wrong on our side.")


def _error_for_status(status: int) -> StudentSuccessError:
    """Return the error for a status that BentoML or Starlette answered with a body of its own."""
    if status == 503:
        return ModelUnavailableError("The service is not ready.")
    if status == 404:
        return NotFoundError("There is no such route.")
    if status < 500:
        # For example a byte range of a static file that cannot be satisfied.
        return InvalidInputError("The request does not match the contract.")
    return StudentSuccessError("Something went wrong on our side.")


class ResponseSender:
    """Send one response with the headers that every response has.

    Attributes
    ----------
    status
        Status that was sent; 0 before.
    """

    def __init__(self, request: RequestContext, send: Send, closing: Callable[[], bool]) -> None:
        self._request = request
        self._send = send
        self._closing = closing
        self._replaced = False
        self.status = 0

    def _common_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-request-id", self._request.request_id.encode()),
            *(_CLOSING_HEADERS if self._closing() else SECURITY_HEADERS),
        ]

    async def json(
        self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send a JSON body."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    *self._common_headers(),
                    *headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    async def error(self, error: StudentSuccessError) -> None:
        """Send the error envelope; raise the error if the response has already begun."""
        if self.status:
            raise error
        headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        await self.json(error.status, error_body(error, self._request.request_id), headers)

    async def forward(self, message: Message) -> None:
        """Send a message of the application; replace an error that is not in the envelope."""
        if message["type"] != "http.response.start":
            if not self._replaced:
                await self._send(message)
            return
        status = message["status"]
        if status >= 400 and not self._request.has_error_envelope:
            self._replaced = True
            await self.error(self._request.not_ready_error or _error_for_status(status))
            return
        self.status = status
        kept = (item for item in message["headers"] if item[0].lower() not in _REPLACED_HEADERS)
        await self._send({**message, "headers": [*kept, *self._common_headers()]})
