"""Tokens and roles, and the growing delay, on a clock of the test's own."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from student_success.api import auth
from student_success.api.auth import FREE_TRIES, LONGEST_WAIT_SECONDS, Gatekeeper, Role
from student_success.core.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError

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
def keeper(clock: Clock) -> Gatekeeper:
    return Gatekeeper(
        admin_token=SecretStr("the-admin"), api_token=SecretStr("the-api"), clock=clock
    )


def refusal(
    keeper: Gatekeeper, token: bytes | None = b"Bearer wrong", *, client: str = "c"
) -> type[Exception]:
    with pytest.raises((UnauthenticatedError, TooManyRequestsError, ForbiddenError)) as caught:
        keeper.admit(token, needed=Role.ADMIN, client=client)
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
def test_token_opens_what_its_role_may(
    keeper: Gatekeeper,
    token: bytes | None,
    needed: Role,
    expected: Role | type[Exception],
) -> None:
    if isinstance(expected, Role):
        assert keeper.admit(token, needed=needed, client="c") is expected
    else:
        with pytest.raises(expected):
            keeper.admit(token, needed=needed, client="c")


def test_predictions_are_everyones_without_an_api_token() -> None:
    keeper = Gatekeeper(admin_token=SecretStr("the-admin"), api_token=None)
    assert keeper.api_is_open
    assert keeper.admit(None, needed=Role.API, client="c") is Role.ANYONE
    assert keeper.admit(ADMIN, needed=Role.API, client="c") is Role.ADMIN


@pytest.mark.parametrize("token", [None, SecretStr("")])
@pytest.mark.parametrize("sent", [None, b"", b"Bearer", b"Bearer ", b"Bearer None", b"Bearer x"])
def test_nobody_is_administrator_without_a_token(
    token: SecretStr | None, sent: bytes | None
) -> None:
    keeper = Gatekeeper(admin_token=token, api_token=None)
    with pytest.raises(UnauthenticatedError):
        keeper.admit(sent, needed=Role.ADMIN, client="c")


@pytest.mark.parametrize("token", [ADMIN, API, b"Bearer wrong"])
def test_both_tokens_are_compared_in_constant_time_each_time(
    keeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    compared: list[bytes] = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    keeper.admit(token, needed=Role.ANYONE, client="c")
    assert compared == [b"the-admin", b"the-api"]


def test_delay_doubles_up_to_its_limit(keeper: Gatekeeper, clock: Clock) -> None:
    for _ in range(FREE_TRIES):
        assert refusal(keeper) is UnauthenticatedError
    waits = []
    for _ in range(10):
        with pytest.raises(TooManyRequestsError) as caught:
            keeper.admit(b"Bearer wrong", needed=Role.ADMIN, client="c")
        waits.append(caught.value.retry_after)
        clock.now += caught.value.retry_after
    assert waits == [1, 2, 4, 8, 16, 32, *[LONGEST_WAIT_SECONDS] * 4]


def test_right_token_passes_whatever_others_sent(keeper: Gatekeeper) -> None:
    for _ in range(100):
        refusal(keeper)
    assert refusal(keeper) is TooManyRequestsError
    assert keeper.admit(ADMIN, needed=Role.ADMIN, client="c") is Role.ADMIN
    assert keeper.admit(API, needed=Role.API, client="c") is Role.API
    assert keeper.admit(None, needed=Role.ANYONE, client="c") is Role.ANYONE


def test_right_token_of_too_low_a_role_or_no_token_is_no_guess(keeper: Gatekeeper) -> None:
    for _ in range(50):
        assert refusal(keeper, API) is ForbiddenError
        assert refusal(keeper, None) is UnauthenticatedError
    assert refusal(keeper) is UnauthenticatedError


def test_each_address_has_a_count_of_its_own(keeper: Gatekeeper) -> None:
    for _ in range(FREE_TRIES + 1):
        refusal(keeper, client="a")
    assert refusal(keeper, client="a") is TooManyRequestsError
    assert refusal(keeper, client="b") is UnauthenticatedError


def test_guesses_of_long_ago_are_forgotten(keeper: Gatekeeper, clock: Clock) -> None:
    for _ in range(50):
        refusal(keeper)
    clock.now += LONGEST_WAIT_SECONDS + 1
    assert refusal(keeper) is TooManyRequestsError, "a minute is not long"
    clock.now += auth.FORGET_SECONDS + LONGEST_WAIT_SECONDS + 1
    assert refusal(keeper) is UnauthenticatedError


def test_table_of_addresses_is_bounded(keeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_CLIENTS", 100)
    for number in range(1000):
        refusal(keeper, client=str(number))
    assert len(keeper._tries) == 100
    assert "999" in keeper._tries


def test_no_message_shows_a_token(keeper: Gatekeeper) -> None:
    for token in (API, b"Bearer wrong-secret"):
        with pytest.raises((ForbiddenError, UnauthenticatedError)) as caught:
            keeper.admit(token, needed=Role.ADMIN, client="c")
        for secret in ("the-admin", "the-api", "wrong-secret"):
            assert secret not in str(caught.value.to_json())
    assert "the-admin" not in repr(vars(keeper).get("admin_token", ""))
