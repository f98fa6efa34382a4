"""Who may do what: tokens, roles, and a growing delay for whoever guesses."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from pydantic import SecretStr

from student_success.core.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError

FREE_TRIES = 5
LONGEST_WAIT_SECONDS = 60
FORGET_SECONDS = 900
"""Quiet time after which an address starts anew: a typing error of last month is no attack."""
MAX_CLIENTS = 10_000


class Role(IntEnum):
    """What a caller has shown to be; a higher one may do all that a lower one may."""

    ANYONE = 0
    API = 1
    ADMIN = 2


class _Tries(NamedTuple):
    number: int
    blocked_until: float


class Gatekeeper:
    """Check tokens in constant time, and slow down clients that keep sending wrong ones.

    Parameters
    ----------
    admin_token, api_token
        None where no such token is set: nobody is an administrator then, and predictions are open.
    clock
        Seconds, monotonic.
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
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    @property
    def api_is_open(self) -> bool:
        """Whether predictions ask for no token."""
        return self._api is None

    def admit(
        self, authorization: bytes | None, *, needed: Role, client: str, always: bool = False
    ) -> Role:
        """Return the caller's role, or refuse.

        Parameters
        ----------
        authorization
            The header as it came.
        needed
            The role the route asks for; `Role.API` is everyone's while no API token is set.
        client
            Address by which wrong tokens are counted.
        always
            Whether `Role.API` asks for a token even while none is set: an administrator's, then.

        Raises
        ------
        UnauthenticatedError, ForbiddenError, TooManyRequestsError
            No or a wrong token; a good one of too low a role; too many wrong ones. A right token
            is never refused for somebody's wrong ones.
        """
        if needed is Role.API and self.api_is_open and not always:
            needed = Role.ANYONE
        role = self._role(authorization)
        if role >= needed:
            return role
        if role > Role.ANYONE:
            raise ForbiddenError("This token may not do that.")
        if authorization is not None:
            self._count_wrong(client)
        raise UnauthenticatedError(
            "This needs a token: send the header 'Authorization: Bearer <token>'."
        )

    def _role(self, authorization: bytes | None) -> Role:
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return Role.ANYONE
        token = authorization[7:].strip()
        # Both are always compared, so that the time tells nothing of which one was close.
        is_admin = self._admin is not None and hmac.compare_digest(token, self._admin)
        is_api = self._api is not None and hmac.compare_digest(token, self._api)
        return Role.ADMIN if is_admin else Role.API if is_api else Role.ANYONE

    def _count_wrong(self, client: str) -> None:
        now = self._clock()
        tries = self._tries.pop(client, _Tries(0, now))
        if now - tries.blocked_until > FORGET_SECONDS:
            tries = _Tries(0, now)
        count = tries.number + 1
        wait = 0.0
        if count > FREE_TRIES:
            wait = float(min(LONGEST_WAIT_SECONDS, 2 ** (count - FREE_TRIES - 1)))
        blocked = tries.blocked_until > now
        self._tries[client] = _Tries(count, max(tries.blocked_until, now + wait))
        while len(self._tries) > MAX_CLIENTS:
            self._tries.popitem(last=False)
        if blocked or wait:
            raise TooManyRequestsError(
                "Too many wrong tokens from this address.",
                retry_after=max(1, int(self._tries[client].blocked_until - now + 0.999)),
            )
