"""Times as the database stores them: microseconds since 1970, UTC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

TOLERATED_STEP_US = 60 * 1_000_000
"""A step forward that is accepted at once, as a time server makes it."""
TRUSTED_AFTER_US = 24 * 3600 * 1_000_000


def now_us() -> int:
    """Return the wall clock in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def _steady_us() -> int:
    # Linux's monotonic clock stops while the machine sleeps.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1000


class CautiousClock:
    """A wall clock for deletion by age, which accepts a jump forward only after a day.

    Data must not be erased because the system clock was set wrong. A jump back is accepted at once:
    it only makes data look younger. The time at the start of the process is trusted.

    Parameters
    ----------
    wall, steady
        Clocks in microseconds: the wall clock, which may jump, and a monotonic clock.
    """

    def __init__(
        self, wall: Callable[[], int] = now_us, steady: Callable[[], int] = _steady_us
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._lock = threading.Lock()
        self._ahead = wall() - steady()
        self._jumped_at: int | None = None

    def now_us(self) -> int:
        """Return the time in microseconds since 1970, UTC."""
        with self._lock:
            steady = self._steady()
            ahead = self._wall() - steady
            if ahead <= self._ahead + TOLERATED_STEP_US:
                self._ahead, self._jumped_at = ahead, None
            elif self._jumped_at is None:
                self._jumped_at = steady
            elif steady - self._jumped_at >= TRUSTED_AFTER_US:
                self._ahead, self._jumped_at = ahead, None
            return steady + self._ahead


def iso(us: int) -> str:
    """Format a database time as ISO 8601 in UTC, e.g. ``2026-11-23T08:00:00.000000Z``."""
    return f"{_iso_second(us // 1_000_000)}.{us % 1_000_000:06d}Z"


@lru_cache(maxsize=1024)
def _iso_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, tz=UTC):%Y-%m-%dT%H:%M:%S}"


_cautious = CautiousClock()


def cautious_now_us() -> int:
    """Return the time to compute the age of data by, before it is erased."""
    return _cautious.now_us()
