"""Access control: tokens, roles, and a growing delay for clients that send wrong tokens."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from pydantic import SecretStr

from student_success.core.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError
from student_success.core.metrics import wrong_tokens_total

FREE_ATTEMPTS = 5
MAX_DELAY_SECONDS = 60
FORGET_SECONDS = 900
"""Time without wrong tokens after which the count of an address starts again."""
MAX_CLIENTS = 10_000


class Role(IntEnum):
    """The role of a caller; a higher role includes the lower ones."""

    ANYONE = 0
    API = 1
    ADMIN = 2


class _Attempts(NamedTuple):
    failures: int
    blocked_until: float


class AccessControl:
    """Check tokens in constant time; delay clients that keep sending wrong ones.

    Parameters
    ----------
    admin_token, api_token
        None if not set. Without an admin token nobody is an administrator; without an API token
        predictions are open to everyone.
    clock
        Monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        admin_token: SecretStr | None,
        api_token: SecretStr | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admin = admin_token.get_secret_value().encode() if admin_token else None
        self._api = api_token.get_secret_value().encode() if api_token else None
        self._clock = clock
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    @property
    def api_is_open(self) -> bool:
        """Whether predictions need no token."""
        return self._api is None

    def authorise(
        self,
        authorization: bytes | None,
        *,
        needed: Role,
        client: str,
        token_required: bool = False,
    ) -> Role:
        """Return the role of a caller, or reject it.

        Parameters
        ----------
        authorization
            The header ``Authorization``.
        needed
            The lowest role that may call the route.
        client
            Address for which wrong tokens are counted.
        token_required
            Whether `Role.API` needs a token even while no API token is set; the admin token then.

        Raises
        ------
        UnauthenticatedError, ForbiddenError, TooManyRequestsError
            Without a valid token; with one of too low a role; after too many wrong ones. A valid
            token is never rejected because of wrong ones from the same address.
        """
        if needed is Role.API and self.api_is_open and not token_required:
            needed = Role.ANYONE
        role = self._role(authorization)
        if role >= needed:
            return role
        if role > Role.ANYONE:
            raise ForbiddenError("The role of this token may not do this.")
        if authorization is not None:
            self._count_wrong_token(client)
            raise UnauthenticatedError(
                "This token is not valid. Send ADMIN_TOKEN or API_TOKEN of the server in the "
                "header 'Authorization: Bearer <token>'."
            )
        name = "ADMIN_TOKEN" if needed is Role.ADMIN or self.api_is_open else "API_TOKEN"
        raise UnauthenticatedError(
            f"This needs a token: send the header 'Authorization: Bearer <token>' with {name} of "
            "the server, which is in its .env file or its environment."
        )

    def _role(self, authorization: bytes | None) -> Role:
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return Role.ANYONE
        token = authorization[7:].strip()
        # Both are always compared, so that the time does not depend on the token.
        is_admin = self._admin is not None and hmac.compare_digest(token, self._admin)
        is_api = self._api is not None and hmac.compare_digest(token, self._api)
        return Role.ADMIN if is_admin else Role.API if is_api else Role.ANYONE

    def _count_wrong_token(self, client: str) -> None:
        wrong_tokens_total.inc()
        now = self._clock()
        attempts = self._attempts.pop(client, _Attempts(0, now))
        if now - attempts.blocked_until > FORGET_SECONDS:
            attempts = _Attempts(0, now)
        count = attempts.failures + 1
        delay = 0.0
        if count > FREE_ATTEMPTS:
            delay = float(min(MAX_DELAY_SECONDS, 2 ** (count - FREE_ATTEMPTS - 1)))
        blocked = attempts.blocked_until > now
        self._attempts[client] = _Attempts(count, max(attempts.blocked_until, now + delay))
        while len(self._attempts) > MAX_CLIENTS:
            self._attempts.popitem(last=False)
        if blocked or delay:
            raise TooManyRequestsError(
                "Too many wrong tokens from this address.",
                retry_after=max(1, int(self._attempts[client].blocked_until - now + 0.999)),
            )
