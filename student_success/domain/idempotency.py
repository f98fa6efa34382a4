"""Keys by which a caller makes a repeated request count once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

KEY_LIFETIME_US = 24 * 3600 * 1_000_000


class IdempotentRequest(NamedTuple):
    """A request with a key, as it came.

    Attributes
    ----------
    key, body, session
        As sent; the session is empty where none was named.
    caller
        Role that the caller's token has shown.
    """

    key: str
    body: bytes
    session: str
    caller: str


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's promise that requests with this key are one request.

    Attributes
    ----------
    key_hash
        SHA-256 of the key with its route, its caller's role and the session asked for: what others
        send under the same key is another request.
    body_hash
        SHA-256 of the body.
    session_id
        The session of the answer, by which it is erased.
    answer
        The body to give again.
    """

    key_hash: str
    body_hash: str
    session_id: str
    answer: bytes

    @classmethod
    def of(
        cls,
        key: str,
        *,
        route: str,
        caller: str,
        body: bytes,
        asked_session: str,
        session_id: str,
        answer: bytes,
    ) -> IdempotencyKey:
        """Hash what identifies the request; the key itself is not kept."""
        # No part can hold the character between them.
        scope = "\0".join((route, caller, asked_session, key))
        return cls(
            key_hash=hashlib.sha256(scope.encode()).hexdigest(),
            body_hash=hashlib.sha256(body).hexdigest(),
            session_id=session_id,
            answer=answer,
        )
