"""Counts of faults and requests for each promise, printed at the end of the run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

LONG_FORM = os.environ.get("FULL", "").strip() not in {"", "0"}
"""Whether to repeat each fault often, which takes hours, or for a quarter of an hour in total."""

COLUMNS = ("faults", "requests", "acknowledged", "lost")


def repetitions(short: int, *, full: int) -> int:
    """Return the number of repetitions in this run."""
    return full if LONG_FORM else short


class Counts:
    """Sums by promise, of one process or several."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, int]] = {}

    def add(
        self,
        *,
        promise: str,
        faults: int = 0,
        requests: int = 0,
        acknowledged: int = 0,
        lost: int = 0,
    ) -> None:
        """Add to the sums of a promise; call it before the assertions, to count failures.

        Parameters
        ----------
        promise
            As in the table of `docs/guarantees.md`.
        faults
            Number of faults injected: kills, locks, hostile requests.
        requests
            Requests sent during the faults, or to cause them.
        acknowledged
            Successful requests.
        lost
            Number of violations of the promise.
        """
        self.merge(
            {promise: dict(zip(COLUMNS, (faults, requests, acknowledged, lost), strict=True))}
        )

    def merge(self, sums: Mapping[str, Mapping[str, int]]) -> None:
        """Add another process's sums."""
        for promise, values in sums.items():
            known = self._sums.setdefault(promise, dict.fromkeys(COLUMNS, 0))
            for column in COLUMNS:
                known[column] += values[column]

    def plain(self) -> dict[str, dict[str, int]]:
        """Return the sums as plain values, which can be sent to another process."""
        return {promise: dict(values) for promise, values in self._sums.items()}

    def table(self) -> list[str]:
        """Return the lines of the table; no lines without counts."""
        if not self._sums:
            return []
        total = {column: sum(row[column] for row in self._sums.values()) for column in COLUMNS}
        rows: Iterable[tuple[str, Mapping[str, int]]] = (*self._sums.items(), ("total", total))
        width = max(len(promise) for promise in (*self._sums, "total"))
        lines = [f"{'promise':<{width}}" + "".join(f"{column:>14}" for column in COLUMNS)]
        for promise, values in rows:
            lines.append(
                f"{promise:<{width}}" + "".join(f"{values[column]:>14,}" for column in COLUMNS)
            )
        return lines


counts = Counts()
"""The counts of this process."""
