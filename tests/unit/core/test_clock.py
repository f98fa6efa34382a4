"""The clock for deletion by age accepts a jump forward only after a day."""

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


def test_clock_ignores_jump_forward_for_a_day(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US - 1, wrong=YEAR_US) == 0
    assert clocks.after(1, wrong=YEAR_US) == YEAR_US


def test_clock_is_unchanged_after_jump_is_reverted(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=0) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=YEAR_US) == 0
    assert clocks.after(TRUSTED_AFTER_US // 2, wrong=YEAR_US) == 0


def test_clock_follows_jump_back_at_once_and_its_correction_after_a_day(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=-YEAR_US) == -YEAR_US
    assert clocks.after(SECOND_US) == -YEAR_US
    assert clocks.after(TRUSTED_AFTER_US) == 0


def test_clock_follows_small_steps(clocks: Clocks) -> None:
    assert clocks.after(SECOND_US, wrong=TOLERATED_STEP_US) == TOLERATED_STEP_US
    assert clocks.after(SECOND_US) == 0


def test_clock_equals_wall_clock_without_jumps() -> None:
    assert abs(cautious_now_us() - now_us()) < TOLERATED_STEP_US
