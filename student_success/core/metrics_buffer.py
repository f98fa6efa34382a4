"""Metrics of the hot path, counted in plain Python and handed over a few times a second.

With several workers each change of a Prometheus series is a write to a shared file behind a lock;
ten of them were a fifth of a prediction's time. Counts of the last fifth of a second are lost with
a killed process; predictions are not, they are in the history.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any

FLUSH_SECONDS = 0.2


class Tally:
    """Gather changes on the event loop's thread; not for other threads."""

    def __init__(self) -> None:
        self._counts: dict[Any, float] = {}
        self._observed: dict[Any, list[float]] = {}
        self._gauges: dict[Any, float] = {}
        self._scheduled = False

    def count(self, counter: Any) -> None:
        """Add one to a counter."""
        self._counts[counter] = self._counts.get(counter, 0.0) + 1.0
        if not self._scheduled:
            self._schedule()

    def observe(self, histogram: Any, value: float) -> None:
        """Add a value to a histogram."""
        values = self._observed.get(histogram)
        if values is None:
            values = self._observed[histogram] = []
        values.append(value)
        if not self._scheduled:
            self._schedule()

    def set(self, gauge: Any, value: float) -> None:
        """Set a gauge."""
        self._gauges[gauge] = value
        if not self._scheduled:
            self._schedule()

    def flush(self) -> None:
        """Hand everything over."""
        self._scheduled = False
        counts, self._counts = self._counts, {}
        observed, self._observed = self._observed, {}
        gauges, self._gauges = self._gauges, {}
        for counter, number in counts.items():
            counter.inc(number)
        for histogram, values in observed.items():
            observe_many(histogram, values)
        for gauge, value in gauges.items():
            gauge.set(value)

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._scheduled = True
        loop.call_later(FLUSH_SECONDS, self.flush)


def observe_many(histogram: Any, values: list[float]) -> None:
    """Add values to a histogram, one write a bucket.

    The client library observes one value at a time; this does to its buckets what that does.
    """
    numbers: dict[int, int] = {}
    for value in values:
        index = bisect_left(histogram._upper_bounds, value)
        numbers[index] = numbers.get(index, 0) + 1
    histogram._sum.inc(sum(values))
    for index, number in numbers.items():
        histogram._buckets[index].inc(number)


tally = Tally()
"""This process's; a process has one event loop that serves."""
