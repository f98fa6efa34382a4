"""Encode pupils as inputs of the compiled trees, which are exact in float32.

Numbers with cut points become the number of cut points below them, other whole numbers stay,
categories become 0 and 1, in the order that the compiler recorded. An unknown number becomes the
value that stands in for it, and 1 in an input of its own.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from student_success.core.errors import ArtefactError
from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    PERIODS,
    SCALE,
    StudentFeatures,
)

TREND = "trend"
"""An input of older versions: the last known grade minus the one before it."""

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]


class Encoded(NamedTuple):
    """The inputs of the trees for many pupils.

    Attributes
    ----------
    inputs
        ``(pupils, inputs)``.
    known
        How many period grades of each pupil are known.
    unknown
        How many other values of each pupil are not known.
    levels
        ``(pupils, periods)``, the period grades as levels; NaN where not known.
    """

    inputs: Inputs
    known: NDArray[np.int64]
    unknown: NDArray[np.int64]
    levels: Floats


class Encoder:
    """Encode pupils as `inputs` of serving.json describes.

    Raises
    ------
    ArtefactError
        If the trees were made for other features than this program's.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._codes: list[dict[str | None, tuple[float, ...]]] = [
            {value: tuple(code) for value, code in item["codes"].items()}
            | ({None: tuple(item["unknown"])} if item.get("unknown") else {})
            for item in inputs["categories"]
        ]
        categories = [item["name"] for item in inputs["categories"]]
        numbers = list(inputs["integers"])
        names = [*categories, *numbers, *PERIODS]
        if sorted(names) != sorted(FEATURE_NAMES):
            raise ArtefactError("The model was made for other features than this program's.")
        self._pick = itemgetter(*names) if len(names) > 1 else lambda values: (values[names[0]],)
        self._names = names
        self._numbers = slice(len(categories), len(categories) + len(numbers))
        self._cuts: list[list[float] | None] = [inputs["cuts"].get(name) for name in numbers]
        fills: Mapping[str, float] = inputs.get("fills", {})
        self._fills = [fills.get(name) for name in numbers]
        self._nullable = [at for at, fill in enumerate(self._fills) if fill is not None]
        self._plain = not any(self._cuts) and not self._nullable
        self._period_cuts: list[list[float]] = [inputs["cuts"][name] for name in PERIODS]
        self._trend_cuts: list[float] | None = inputs["cuts"].get(TREND)
        self._width = len(inputs["names"])
        # The periods come last, and split pupils most.
        self._sort_keys = list(range(self._width - len(PERIODS) - 1, self._width))
        self._pack = struct.Struct(f"{self._width}f").pack
        self._periods = slice(len(names) - len(PERIODS), len(names))

    def one(self, student: StudentFeatures) -> tuple[Inputs, int, int, tuple[Any, ...]]:
        """Return the inputs of a pupil as a table of one row, and what `Encoded` has beside them.

        Each period grade is on the scale of its period, None where not known.
        """
        values = self._pick(student.__dict__)
        row: list[float] = []
        for codes, value in zip(self._codes, values, strict=False):
            row += codes[value]
        numbers = values[self._numbers]
        if self._plain:
            row += numbers
        else:
            for value, cuts, fill in zip(numbers, self._cuts, self._fills, strict=True):
                number: Any = fill if value is None else value
                row.append(number if cuts is None else bisect_left(cuts, number))
            row += [float(numbers[at] is None) for at in self._nullable]
        grades = values[self._periods]
        known = 0
        for cuts, grade in zip(self._period_cuts, grades, strict=True):
            if grade is None:
                row.append(0.0)
            else:
                known += 1
                row.append(bisect_left(cuts, grade))
        if self._trend_cuts is not None:
            row.append(
                bisect_left(self._trend_cuts, grades[known - 1] - grades[known - 2])
                if known > 1
                else 0.0
            )
        # A new buffer for each call: several threads may encode at once.
        inputs = np.frombuffer(self._pack(*row), dtype=np.float32).reshape(1, -1)
        return inputs, known, values.count(None) - len(grades) + known, grades

    def many(self, students: Sequence[StudentFeatures]) -> Encoded:
        """Return the inputs of many pupils, each equal to those of `one`."""
        rows = [self._pick(student.__dict__) for student in students]
        columns = list(zip(*rows, strict=True))
        blocks = [
            np.array([codes[value] for value in column], dtype=np.float32)
            for codes, column in zip(self._codes, columns, strict=False)
        ]
        # None becomes NaN.
        numbers = [np.array(column, dtype=np.float64) for column in columns[self._numbers]]
        grades = [np.array(column, dtype=np.float64) for column in columns[self._periods]]
        unknown = np.array([values.count(None) for values in rows], dtype=np.int64)
        return self._filled(blocks, numbers, grades, unknown)

    def columns(self, columns: Mapping[str, Floats]) -> Encoded:
        """Return the inputs of many valid pupils given as columns, each equal to those of `one`.

        Parameters
        ----------
        columns
            By feature: the position of a category among the feature's, or a number; NaN where it is
            not known.
        """
        categories = {feature.name: feature.categories for feature in FEATURES}
        blocks = []
        for codes, name in zip(self._codes, self._names, strict=False):
            values = [*categories[name], None] if None in codes else categories[name]
            table = np.array([codes[value] for value in values], dtype=np.float32)
            at = np.where(np.isnan(columns[name]), len(values) - 1, columns[name])
            blocks.append(table[at.astype(np.int64)])
        numbers = [columns[name] for name in self._names[self._numbers]]
        unknown = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
        for name in self._names:
            unknown += np.isnan(columns[name])
        return self._filled(blocks, numbers, [columns[name] for name in PERIODS], unknown)

    def similar_order(self, data: Inputs) -> NDArray[np.int64]:
        """Return an order of pupils in which similar ones are neighbours.

        They take the same branches of the trees, which is faster for the processor's cache.
        """
        return np.lexsort(tuple(data[:, at] for at in self._sort_keys))

    def _filled(
        self,
        blocks: Sequence[Inputs],
        numbers: Sequence[Floats],
        grades: list[Floats],
        unknown: NDArray[np.int64],
    ) -> Encoded:
        rows = len(unknown)
        data = np.zeros((rows, self._width), dtype=np.float32)
        at = 0
        for block in blocks:
            data[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        for column, cuts, fill in zip(numbers, self._cuts, self._fills, strict=True):
            values = column if fill is None else np.where(np.isnan(column), fill, column)
            data[:, at] = values if cuts is None else np.searchsorted(cuts, values)
            at += 1
        for nullable in self._nullable:
            data[:, at] = np.isnan(numbers[nullable])
            at += 1
        known = np.zeros(rows, dtype=np.int64)
        for column, cuts in zip(grades, self._period_cuts, strict=True):
            has = ~np.isnan(column)
            data[has, at] = np.searchsorted(cuts, column[has])
            known += has
            at += 1
        if self._trend_cuts is not None:
            trend = grades[1] - grades[0]
            has = ~np.isnan(trend)
            data[has, at] = np.searchsorted(self._trend_cuts, trend[has])
        levels = np.empty((rows, len(grades)))
        for number, column in enumerate(grades):
            levels[:, number] = SCALE.level(column)
        return Encoded(data, known, unknown - len(grades) + known, levels)
