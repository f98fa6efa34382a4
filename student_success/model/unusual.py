"""Find the values of a pupil that lie far from the training data of a model.

The limits come from the distributions in ``drift_reference.json``. A number is far if it lies
outside the range of the training pupils by more than one standard deviation, a category if no
training pupil has it. Of two numbers that are strongly related, such as the grades of two periods,
both are far if the second differs as much from what the first lets expect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.domain.students import FEATURES, StudentFeatures

Floats = NDArray[np.float64]


class TrainingRange:
    """The values that a model knows from its training data.

    Parameters
    ----------
    reference
        Content of ``drift_reference.json``. What it does not hold is not looked at: versions of
        earlier releases record no related numbers.
    """

    def __init__(self, reference: Mapping[str, Any]) -> None:
        self._numbers: list[tuple[str, float, float]] = []
        self._categories: list[tuple[str, frozenset[str]]] = []
        for feature in FEATURES:
            counts = reference.get("features", {}).get(feature.name, {}).get("counts")
            if not counts:
                continue
            if feature.kind == "category":
                if unseen := frozenset(feature.categories) - counts.keys():
                    self._categories.append((feature.name, unseen))
            else:
                low, high = _limits({float(value): n for value, n in counts.items()})
                lowest, highest = feature.bounds
                # Only where a valid value can lie outside.
                if lowest < low or highest > high:
                    self._numbers.append((feature.name, low, high))
        self._related: list[tuple[str, str, float, float, float]] = []
        for pair in reference.get("related", ()):
            first, second = pair["features"]
            slope, low, high, deviation = (
                float(pair[key]) for key in ("slope", "low", "high", "deviation")
            )
            self._related.append((first, second, slope, low - deviation, high + deviation))

    def unusual(self, student: StudentFeatures) -> list[str]:
        """Return the features of a pupil that lie far from the training data, in their order."""
        values = student.__dict__
        found = [
            name
            for name, low, high in self._numbers
            if (value := values[name]) is not None and not low <= value <= high
        ]
        found += [name for name, unseen in self._categories if values[name] in unseen]
        for first, second, slope, low, high in self._related:
            x, y = values[first], values[second]
            if x is not None and y is not None and not low <= y - slope * x <= high:
                found += first, second
        return _in_order(found) if len(found) > 1 else found

    def unusual_columns(self, columns: Mapping[str, Floats]) -> dict[str, NDArray[np.bool_]]:
        """Return for each feature which of many pupils `unusual` names it for, if it does for any.

        Parameters
        ----------
        columns
            As `Encoder.columns` takes them.
        """
        found: dict[str, NDArray[np.bool_]] = {}

        def add(name: str, far: NDArray[np.bool_]) -> None:
            if far.any():
                found[name] = found[name] | far if name in found else far

        # A comparison with NaN, a value that is not known, is false.
        for name, low, high in self._numbers:
            add(name, (columns[name] < low) | (columns[name] > high))
        for name, unseen in self._categories:
            codes = [_BY_NAME[name].categories.index(value) for value in unseen]
            add(name, np.isin(columns[name], codes))
        for first, second, slope, low, high in self._related:
            rest = columns[second] - slope * columns[first]
            far = (rest < low) | (rest > high)
            add(first, far)
            add(second, far)
        return {name: found[name] for name in _in_order(found)}


_BY_NAME = {feature.name: feature for feature in FEATURES}
_POSITIONS = {name: position for position, name in enumerate(_BY_NAME)}


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=_POSITIONS.__getitem__)


def _limits(counts: Mapping[float, float]) -> tuple[float, float]:
    """Return the range of counted values, wider by a standard deviation at both ends."""
    total = sum(counts.values())
    mean = sum(value * n for value, n in counts.items()) / total
    deviation = math.sqrt(sum((value - mean) ** 2 * n for value, n in counts.items()) / total)
    return min(counts) - deviation, max(counts) + deviation
