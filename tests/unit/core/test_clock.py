"""The clock by which things grow old: it is not in a hurry."""

from __future__ import annotations

import pytest

from student_success.core.clock import (
    TOLERATED_STEP_US,
    TRUSTED_AFTER_US,
    CautiousClock,
    cautious_now_us,
    now_us,
)

YEAR_US = 365 * 86_400 * 1_000_000
SECOND_US = 1_000_000


class Clocks:
    """A wall clock that can be set, and a steady one."""

    def __init__(self) -> None:
        self.passed = 0
        self.wrong = 0
        self.settled = CautiousClock(lambda: 50 * YEAR_US + self.passed + self.wrong, self.steady)

    def steady(self) -> int:
        return self.passed

    def after(self, us: int, *, wrong: int = 0) -> int:
        """Return how far the settled clock is from the right time."""
        self.passed += us
        self.wrong = wrong
        return self.settled.now_us() - 50 * YEAR_US - self.passed


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_leap_forward_is_not_followed_before_it_has_lasted(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US - 1, wrong=YEAR_US) == 0
    assert clocks.after(1, wrong=YEAR_US) == YEAR_US


def test_leap_that_is_taken_back_leaves_no_trace(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=0) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=YEAR_US) == 0


def test_leap_back_is_followed_at_once_and_its_end_later(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=-YEAR_US) == -YEAR_US
    assert clocks.after(SECOND_US) == -YEAR_US
    assert clocks.after(TRUSTED_AFTER_US) == 0


def test_small_steps_are_followed(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=TOLERATED_STEP_US) == TOLERATED_STEP_US
    assert clocks.after(SECOND_US) == 0


def test_it_is_the_wall_clock_where_nothing_leaps() -> None:
    assert abs(cautious_now_us() - now_us()) < TOLERATED_STEP_US
