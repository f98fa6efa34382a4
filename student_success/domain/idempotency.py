"""Idempotency keys: a request that is repeated with the same key has one effect."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

KEY_LIFETIME_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The hashed key of a request, with its response.

    Attributes
    ----------
    key_hash
        SHA-256 of the key with route and requested session. A caller that repeats a request with
        another token, or without one, gets the first response.
    body_hash
        SHA-256 of the body.
    session_id
        Session of the response, by which it is erased.
    answer
        Body of the response to send again.
    """

    key_hash: str
    body_hash: str
    session_id: str
    answer: bytes


class IdempotentRequest(NamedTuple):
    """A request with an idempotency key.

    Attributes
    ----------
    key, body, session
        As sent; the session is empty if the request names none.
    """

    key: str
    body: bytes
    session: str

    def hashed(self, route: str, *, session_id: str, answer: bytes) -> IdempotencyKey:
        """Hash what identifies the request. The key itself is not stored."""
        # None of the parts can contain NUL.
        scope = "\0".join((route, self.session, self.key))
        return IdempotencyKey(
            key_hash=hashlib.sha256(scope.encode()).hexdigest(),
            body_hash=hashlib.sha256(self.body).hexdigest(),
            session_id=session_id,
            answer=answer,
        )
