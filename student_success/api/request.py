"""The request being answered, as handlers see it."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from pydantic import BaseModel

from student_success.api.auth import Role
from student_success.core.clock import now_us
from student_success.core.errors import (
    InvalidInputError,
    MalformedRequestError,
    StudentSuccessError,
)
from student_success.core.identifiers import random_hex, time_ordered_hex
from student_success.domain.idempotency import IdempotentRequest

_SESSION_ID = re.compile(r"[\x21-\x7e]{1,128}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_MAX_QUERY_PARAMETERS = 20
_SINGLE_HEADERS = {
    b"authorization": "Authorization",
    b"host": "Host",
    b"idempotency-key": "Idempotency-Key",
    b"x-session-id": "X-Session-Id",
}
"""Headers that a request may have only once: two servers could each read another one."""


@dataclass(slots=True)
class RequestContext:
    """One request, and what the response must tell the middleware.

    Attributes
    ----------
    headers
        By lower-case name.
    body, payload
        The body as received, and the model it was validated as; None if the route reads no body.
    buffered_bytes
        Bytes of the body that count against the limit on bodies held at once.
    has_error_envelope
        Whether the response is already an error in the contract's envelope.
    not_ready_error
        Why BentoML answers 503, if our readiness check failed.
    model_version
        Version that computed the response, for the access log.
    trace_id
        Trace that the request belongs to, for the access log.
    """

    request_id: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    role: Role = Role.ANYONE
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    payload: BaseModel | None = None
    buffered_bytes: int = 0
    has_error_envelope: bool = False
    not_ready_error: StudentSuccessError | None = None
    model_version: str | None = None
    trace_id: str | None = None

    @property
    def named_session(self) -> str | None:
        """The session named by the header ``X-Session-Id`` or else by the query, if any.

        Raises
        ------
        InvalidInputError
            If either is not 1 to 128 printable ASCII characters without spaces.
        """
        header = self.headers.get(b"x-session-id")
        session = self.query.get("session_id")
        if session is not None:
            _check_session(session)
        if header is not None:
            session = header.decode("latin-1")
            _check_session(session)
        return session

    @property
    def session_id(self) -> str:
        """The named session, or a new one."""
        return self.named_session or time_ordered_hex(now_us())

    @property
    def names_session(self) -> bool:
        """Whether header, query or body names a session."""
        return (
            self.named_session is not None or getattr(self.payload, "session_id", None) is not None
        )

    def check_sessions(self) -> None:
        """Reject a request whose header, query and body do not name the same session.

        Raises
        ------
        InvalidInputError
            If two of them name different sessions.
        """
        header = self.headers.get(b"x-session-id")
        query = self.query.get("session_id")
        if header is None and query is None:
            # Looking for a session in a body that has none takes 4 microseconds.
            return
        named = {
            None if header is None else header.decode("latin-1"),
            query,
            getattr(self.payload, "session_id", None),
            # Final grades name a session in each row.
            *(row.session_id for row in getattr(self.payload, "outcomes", ())),
        }
        if len(named - {None}) > 1:
            raise invalid_field(
                "session_id", "Header, query and body name different sessions; name only one"
            )

    @property
    def idempotency(self) -> IdempotentRequest | None:
        """The idempotent request, if the header ``Idempotency-Key`` was sent.

        Raises
        ------
        InvalidInputError
            If the key is not 1 to 255 printable ASCII characters.
        """
        header = self.headers.get(b"idempotency-key")
        if header is None:
            return None
        key = header.decode("latin-1")
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise invalid_field("Idempotency-Key", "Must be 1 to 255 printable ASCII characters")
        return IdempotentRequest(key, self.body, self.named_session or "")

    @property
    def actor(self) -> str:
        """Who acts, for the audit log: the role, because tokens have no names."""
        return self.role.name.lower()


current: ContextVar[RequestContext] = ContextVar("request")


def current_request() -> RequestContext:
    """Return the request being answered."""
    return current.get()


def invalid_field(name: str, message: str) -> InvalidInputError:
    """Return the 422 for one field."""
    return InvalidInputError(
        "The request does not match the contract.",
        details=[{"loc": [name], "msg": message, "type": "value_error"}],
    )


def _check_session(session: str) -> None:
    if not _SESSION_ID.fullmatch(session):
        raise invalid_field("session_id", "Must be 1 to 128 printable ASCII characters")


def check_single_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Reject a header that is repeated although a request may have it only once.

    Raises
    ------
    MalformedRequestError
        If `Authorization`, `Host`, `Idempotency-Key` or `X-Session-Id` is repeated.
    """
    names = [name for name, _ in headers if name in _SINGLE_HEADERS]
    for name in names:
        if names.count(name) > 1:
            raise MalformedRequestError(f"Send the header {_SINGLE_HEADERS[name]} only once.")


def request_id(header: bytes | None) -> str:
    """Return the id that the client sent as ``X-Request-Id`` if it is valid, else a new one."""
    if header is not None and _REQUEST_ID.fullmatch(sent := header.decode("latin-1")):
        return sent
    return random_hex()


def parse_query(query_string: bytes) -> dict[str, str]:
    """Parse a query string.

    Raises
    ------
    InvalidInputError
        If it is malformed or repeats a parameter.
    """
    try:
        pairs = urllib.parse.parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_QUERY_PARAMETERS,
        )
    except ValueError:
        raise invalid_field("query", "Not a valid query string") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise invalid_field("query", "A parameter is repeated")
    return query
