"""The time as the database keeps it: microseconds since 1970, UTC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

HARDLY_US = 60 * 1_000_000
"""A step forward that changes nothing by much, as a time server makes it."""
TRUSTED_AFTER_US = 24 * 3600 * 1_000_000


def now_us() -> int:
    """Return the wall clock in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def _steady_us() -> int:
    # Linux's monotonic clock stands still while the machine sleeps.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1000


class SettledClock:
    """The wall clock for what cannot be undone: a leap forward counts once it has lasted a day.

    What is erased or forgotten for its age must not go because somebody set the clock wrong. Back
    it is followed at once: then things only look younger. The clock it starts with it believes.

    Parameters
    ----------
    wall, steady
        Clocks in microseconds: the one that may leap, and one that never does.
    """

    def __init__(
        self, wall: Callable[[], int] = now_us, steady: Callable[[], int] = _steady_us
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._lock = threading.Lock()
        self._ahead = wall() - steady()
        self._leapt: int | None = None

    def now_us(self) -> int:
        """Return the time in microseconds since 1970, UTC."""
        with self._lock:
            steady = self._steady()
            ahead = self._wall() - steady
            if ahead <= self._ahead + HARDLY_US:
                self._ahead, self._leapt = ahead, None
            elif self._leapt is None:
                self._leapt = steady
            elif steady - self._leapt >= TRUSTED_AFTER_US:
                self._ahead, self._leapt = ahead, None
            return steady + self._ahead


def iso(us: int) -> str:
    """Write a time of the database as ISO 8601 in UTC, e.g. ``2026-11-23T08:00:00.000000Z``."""
    return f"{_iso_second(us // 1_000_000)}.{us % 1_000_000:06d}Z"


@lru_cache(maxsize=1024)
def _iso_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, tz=UTC):%Y-%m-%dT%H:%M:%S}"


_settled = SettledClock()


def settled_us() -> int:
    """Return the time by which things are old enough to be erased or forgotten."""
    return _settled.now_us()
