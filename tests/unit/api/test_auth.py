"""Tokens and roles, and the delay after wrong tokens, on a fake clock."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from student_success.api import auth
from student_success.api.auth import FREE_ATTEMPTS, MAX_DELAY_SECONDS, AccessControl, Role
from student_success.core.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError
from student_success.core.metrics import wrong_tokens_total

ADMIN, API = b"Bearer the-admin", b"Bearer the-api"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> AccessControl:
    return AccessControl(
        admin_token=SecretStr("the-admin"), api_token=SecretStr("the-api"), clock=clock
    )


def rejection(
    access: AccessControl, token: bytes | None = b"Bearer wrong", *, client: str = "c"
) -> type[Exception]:
    with pytest.raises((UnauthenticatedError, TooManyRequestsError, ForbiddenError)) as caught:
        access.authorise(token, needed=Role.ADMIN, client=client)
    return caught.type


@pytest.mark.parametrize(
    ("token", "needed", "expected"),
    [
        (None, Role.ANYONE, Role.ANYONE),
        (b"Bearer wrong", Role.ANYONE, Role.ANYONE),
        (None, Role.API, UnauthenticatedError),
        (b"Bearer wrong", Role.API, UnauthenticatedError),
        (API, Role.ANYONE, Role.API),
        (API, Role.API, Role.API),
        (API, Role.ADMIN, ForbiddenError),
        (ADMIN, Role.API, Role.ADMIN),
        (ADMIN, Role.ADMIN, Role.ADMIN),
        (b"", Role.ADMIN, UnauthenticatedError),
        (b"Bearer", Role.ADMIN, UnauthenticatedError),
        (b"Bearer ", Role.ADMIN, UnauthenticatedError),
        (b"the-admin", Role.ADMIN, UnauthenticatedError),
        (b"Basic the-admin", Role.ADMIN, UnauthenticatedError),
        (b"Bearer THE-ADMIN", Role.ADMIN, UnauthenticatedError),
        (b"Bearer the-admi", Role.ADMIN, UnauthenticatedError),
        (b"Bearer the-admin\xff", Role.ADMIN, UnauthenticatedError),
        (b"bearer  the-admin ", Role.ADMIN, Role.ADMIN),
    ],
)
def test_token_gives_its_role_or_is_rejected(
    access: AccessControl,
    token: bytes | None,
    needed: Role,
    expected: Role | type[Exception],
) -> None:
    if isinstance(expected, Role):
        assert access.authorise(token, needed=needed, client="c") is expected
    else:
        with pytest.raises(expected):
            access.authorise(token, needed=needed, client="c")


def test_predictions_need_no_token_when_no_api_token_is_set() -> None:
    access = AccessControl(admin_token=SecretStr("the-admin"), api_token=None)
    assert access.api_is_open
    assert access.authorise(None, needed=Role.API, client="c") is Role.ANYONE
    assert access.authorise(ADMIN, needed=Role.API, client="c") is Role.ADMIN


@pytest.mark.parametrize("token", [None, SecretStr("")])
@pytest.mark.parametrize("sent", [None, b"", b"Bearer", b"Bearer ", b"Bearer None", b"Bearer x"])
def test_nobody_is_administrator_when_no_admin_token_is_set(
    token: SecretStr | None, sent: bytes | None
) -> None:
    access = AccessControl(admin_token=token, api_token=None)
    with pytest.raises(UnauthenticatedError):
        access.authorise(sent, needed=Role.ADMIN, client="c")


@pytest.mark.parametrize("token", [ADMIN, API, b"Bearer wrong"])
def test_every_token_is_compared_with_both_in_constant_time(
    access: AccessControl, monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    compared: list[bytes] = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def compare(sent: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return real(sent, expected)

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    access.authorise(token, needed=Role.ANYONE, client="c")
    assert compared == [b"the-admin", b"the-api"]


def test_delay_doubles_up_to_its_limit_after_wrong_tokens(
    access: AccessControl, clock: Clock
) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert rejection(access) is UnauthenticatedError
    delays = []
    for _ in range(10):
        with pytest.raises(TooManyRequestsError) as caught:
            access.authorise(b"Bearer wrong", needed=Role.ADMIN, client="c")
        delays.append(caught.value.retry_after)
        clock.now += caught.value.retry_after
    assert delays == [1, 2, 4, 8, 16, 32, *[MAX_DELAY_SECONDS] * 4]


def test_valid_token_is_accepted_after_wrong_ones_from_the_same_address(
    access: AccessControl,
) -> None:
    for _ in range(100):
        rejection(access)
    assert rejection(access) is TooManyRequestsError
    assert access.authorise(ADMIN, needed=Role.ADMIN, client="c") is Role.ADMIN
    assert access.authorise(API, needed=Role.API, client="c") is Role.API
    assert access.authorise(None, needed=Role.ANYONE, client="c") is Role.ANYONE


def test_missing_token_and_token_of_lower_role_are_not_counted_as_wrong(
    access: AccessControl,
) -> None:
    for _ in range(50):
        assert rejection(access, API) is ForbiddenError
        assert rejection(access, None) is UnauthenticatedError
    assert rejection(access) is UnauthenticatedError


def test_metric_counts_wrong_tokens_only(access: AccessControl) -> None:
    before = wrong_tokens_total._value.get()
    for sent in (API, None):
        rejection(access, sent)
    assert wrong_tokens_total._value.get() == before
    for _ in range(FREE_ATTEMPTS + 2):
        rejection(access)
    assert wrong_tokens_total._value.get() == before + FREE_ATTEMPTS + 2


def test_wrong_tokens_are_counted_by_address(access: AccessControl) -> None:
    for _ in range(FREE_ATTEMPTS + 1):
        rejection(access, client="a")
    assert rejection(access, client="a") is TooManyRequestsError
    assert rejection(access, client="b") is UnauthenticatedError


def test_wrong_tokens_are_forgotten_after_a_quiet_time(access: AccessControl, clock: Clock) -> None:
    for _ in range(50):
        rejection(access)
    clock.now += MAX_DELAY_SECONDS + 1
    assert rejection(access) is TooManyRequestsError, "a minute is not long"
    clock.now += auth.FORGET_SECONDS + MAX_DELAY_SECONDS + 1
    assert rejection(access) is UnauthenticatedError


def test_number_of_counted_addresses_is_limited(
    access: AccessControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MAX_CLIENTS", 100)
    for number in range(1000):
        rejection(access, client=str(number))
    assert len(access._attempts) == 100
    assert "999" in access._attempts


def test_error_messages_contain_no_token(access: AccessControl) -> None:
    for token in (API, b"Bearer wrong-secret"):
        with pytest.raises((ForbiddenError, UnauthenticatedError)) as caught:
            access.authorise(token, needed=Role.ADMIN, client="c")
        for secret in ("the-admin", "the-api", "wrong-secret"):
            assert secret not in str(caught.value.to_json())
    assert "the-admin" not in repr(vars(access).get("admin_token", ""))


def test_wrong_token_has_words_of_its_own() -> None:
    access = AccessControl(admin_token=SecretStr("a" * 40), api_token=None)
    with pytest.raises(UnauthenticatedError, match="This needs a token"):
        access.authorise(None, needed=Role.ADMIN, client="c")
    with pytest.raises(UnauthenticatedError, match="This token is not valid"):
        access.authorise(b"Bearer wrong", needed=Role.ADMIN, client="c")
