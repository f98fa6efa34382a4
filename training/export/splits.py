"""Convert splits of fitted trees to tests on a pupil's features.

A split compares a scaled column with a threshold. It becomes an exact test on an input of the
compiled trees: numbers are scaled in the same way as in training, and the largest one that goes
left is found by bisection over the float64 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.compose import ColumnTransformer

from grade_models import FILL, GRADES, LOGGED
from student_success.domain.students import FEATURES, GRADE_MAX, GRADE_MIN, HORIZONS, Horizon

INTEGERS = tuple(f.name for f in FEATURES if f.kind == "integer")
TREND = "trend"
CUT = (*GRADES, TREND)
"""Inputs that are encoded as the number of cut points below them."""
RANGES = {"G1": (GRADE_MIN, GRADE_MAX), "G2": (GRADE_MIN, GRADE_MAX), TREND: (-20.0, 20.0)}
CONSTANT: Mapping[Horizon, Mapping[str, float]] = {
    HORIZONS[0]: {"G1": FILL, "G2": FILL, "last": FILL, TREND: 0.0, "known": 0.0},
    HORIZONS[1]: {"G2": FILL, TREND: 0.0, "known": 1.0},
    HORIZONS[2]: {"known": 2.0},
}
"""Values of derived columns and unknown grades that are the same for all pupils of a horizon."""
LAST: Mapping[Horizon, str] = {HORIZONS[1]: "G1", HORIZONS[2]: "G2"}
"""Which grade is the last known one."""

_BY_NAME = {feature.name: feature for feature in FEATURES}


@dataclass(frozen=True, slots=True)
class Question:
    """One split as a test of an input: ``values[name] <= cut``; `swap` exchanges the branches."""

    name: str
    cut: float
    swap: bool = False


class Splits:
    """Turn splits on scaled columns into tests on a pupil's own features."""

    def __init__(self, columns: ColumnTransformer) -> None:
        self.scale: dict[str, tuple[float, float]] = {}
        self.source: list[tuple[str, str | None]] = []
        numbers = columns.named_transformers_["numbers"]
        logged = columns.named_transformers_["logged"].named_steps["standardscaler"]
        for scaler, names in ((numbers, columns.transformers_[0][2]), (logged, LOGGED)):
            for name, mean, scale in zip(names, scaler.mean_, scaler.scale_, strict=True):
                self.scale[name] = (mean, scale)
                self.source.append((name, None))
        encoder = columns.named_transformers_["categories"]
        dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * 99
        for name, values, drop in zip(
            columns.transformers_[2][2], encoder.categories_, dropped, strict=False
        ):
            self.source += [(name, str(v)) for i, v in enumerate(values) if i != drop]
        self._known: dict[tuple[int, float, bool, Horizon], Question | bool] = {}

    def scaled(self, name: str, x: float) -> np.float64:
        """Scale a number as the fitted columns do."""
        mean, scale = self.scale[name]
        return np.float64((np.log1p(x) if name in LOGGED else x) - mean) / scale

    def question(
        self, column: int, threshold: float, single: bool, horizon: Horizon
    ) -> Question | bool:
        """Return the test, or True if every pupil of the horizon goes left, False if right."""
        key = (column, threshold, single, horizon)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(
        self, column: int, threshold: float, single: bool, horizon: Horizon
    ) -> Question | bool:
        name, value = self.source[column]
        if value is not None:
            return _category_test(name, value, threshold)

        def left(x: float) -> bool:
            scaled = self.scaled(name, x)
            # Compare in float64: numpy would round the threshold to float32 otherwise.
            return bool((np.float64(np.float32(scaled)) if single else scaled) <= threshold)

        if name in CONSTANT[horizon]:
            return left(CONSTANT[horizon][name])
        feature = LAST[horizon] if name == "last" else name
        low, high = RANGES.get(feature) or bounds_of(feature)
        if left(high):
            return True
        if not left(low):
            return False
        return Question(feature, _last_left(left, low, high, whole=feature not in CUT))


def bounds_of(name: str) -> tuple[float, float]:
    """Return the least and the greatest value of a whole-number feature."""
    low, high = _BY_NAME[name].low, _BY_NAME[name].high
    assert low is not None
    assert high is not None
    return low, high


def _category_test(name: str, value: str, threshold: float) -> Question | bool:
    if not 0 <= threshold < 1:
        return threshold >= 1
    values = _BY_NAME[name].categories
    if len(values) == 2:
        # The input is 1 for the second value; a split on the first value exchanges the branches.
        return Question(name, 0.5, swap=value == values[0])
    return Question(f"{name}={value}", 0.5)


def _last_left(left: Callable[[float], bool], low: float, high: float, *, whole: bool) -> float:
    """Return the largest number that goes left, given that `low` does and `high` does not."""
    first, last = (int(low), int(high)) if whole else (_rank(low), _rank(high))
    while last - first > 1:
        middle = (first + last) // 2
        if left(middle if whole else _number(middle)):
            first = middle
        else:
            last = middle
    return first + 0.5 if whole else _number(first)


def _rank(x: float) -> int:
    """Return the rank of a float64 number among all of them."""
    bits = int(np.float64(x).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _number(rank: int) -> float:
    """Return the float64 number of a rank."""
    return float(np.int64(abs(rank)).view(np.float64)) * (1 if rank >= 0 else -1)
