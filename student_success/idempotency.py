"""Keys by which a caller makes a repeated request count once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

KEY_LIFETIME_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's promise that requests with this key are one request.

    Attributes
    ----------
    key_hash, body_hash
        SHA-256 of the key (with its route) and of what was asked.
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
        body: bytes,
        asked_session: str,
        session_id: str,
        answer: bytes,
    ) -> IdempotencyKey:
        """Hash what identifies the request; the key itself is not kept."""
        return cls(
            key_hash=hashlib.sha256(f"{route}\0{key}".encode()).hexdigest(),
            body_hash=hashlib.sha256(asked_session.encode() + b"\0" + body).hexdigest(),
            session_id=session_id,
            answer=answer,
        )
