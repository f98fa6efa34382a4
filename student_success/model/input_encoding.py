"""Encode pupils as inputs of the compiled trees, which are exact in float32.

Grades become the number of cut points below them, whole numbers stay, categories become 0 and 1,
in the order that the compiler recorded.
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
from student_success.domain.students import FEATURE_NAMES, FEATURES, StudentFeatures

CUT_INPUTS = ("G1", "G2", "trend")
"""The last inputs of the trees: each is the number of cut points below the value."""

_SORT_KEYS = ("absences", "failures", "school", "higher", "trend", "G1", "G2")
"""The inputs that split pupils most, the strongest last, as measured; only speed depends on it."""

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
    g1, g2
        The grades; NaN where not known.
    """

    inputs: Inputs
    known: NDArray[np.int64]
    g1: Floats
    g2: Floats


class Encoder:
    """Encode pupils as `inputs` of serving.json describes.

    Raises
    ------
    ArtefactError
        If the trees were made for other features than this program's.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._codes: list[dict[str, tuple[float, ...]]] = [
            {value: tuple(code) for value, code in item["codes"].items()}
            for item in inputs["categories"]
        ]
        names = [item["name"] for item in inputs["categories"]] + inputs["integers"] + ["G1", "G2"]
        if sorted(names) != sorted(FEATURE_NAMES):
            raise ArtefactError("The model was made for other features than this program's.")
        self._pick = itemgetter(*names)
        self._integers = slice(len(self._codes), len(names) - 2)
        self._cuts: list[list[float]] = [inputs["cuts"][name] for name in CUT_INPUTS]
        self._names = names
        self._sort_keys = [
            inputs["names"].index(name) for name in _SORT_KEYS if name in inputs["names"]
        ]
        self._width = len(inputs["names"])
        self._pack = struct.Struct(f"{self._width}f").pack

    def one(self, student: StudentFeatures) -> tuple[Inputs, float | None, float | None]:
        """Return the inputs of one pupil as a table of one row, G1 and G2."""
        values = self._pick(student.__dict__)
        row: list[float] = []
        for codes, value in zip(self._codes, values, strict=False):
            row += codes[value]
        row += values[self._integers]
        g1, g2 = values[-2:]
        if g2 is not None:
            cuts1, cuts2, cuts3 = self._cuts
            row += bisect_left(cuts1, g1), bisect_left(cuts2, g2), bisect_left(cuts3, g2 - g1)
        elif g1 is not None:
            row += bisect_left(self._cuts[0], g1), 0.0, 0.0
        else:
            row += 0.0, 0.0, 0.0
        # A new buffer for each call: several threads may encode at once.
        return np.frombuffer(self._pack(*row), dtype=np.float32).reshape(1, -1), g1, g2

    def many(self, students: Sequence[StudentFeatures]) -> Encoded:
        """Return the inputs of many pupils, each equal to those of `one`."""
        pick = self._pick
        columns = list(zip(*[pick(student.__dict__) for student in students], strict=True))
        blocks = [
            np.array([codes[value] for value in column], dtype=np.float32)
            for codes, column in zip(self._codes, columns, strict=False)
        ]
        g1: Floats = np.array(columns[-2], dtype=np.float64)  # None becomes NaN
        g2: Floats = np.array(columns[-1], dtype=np.float64)
        return self._filled(blocks, columns[self._integers], g1, g2)

    def columns(self, columns: Mapping[str, Floats]) -> Encoded:
        """Return the inputs of many valid pupils given as columns, each equal to those of `one`.

        Parameters
        ----------
        columns
            By feature: the position of a category among the feature's, a whole number, or a grade,
            NaN where it is not known.
        """
        categories = {feature.name: feature.categories for feature in FEATURES}
        blocks = []
        for codes, name in zip(self._codes, self._names, strict=False):
            table = np.array([codes[value] for value in categories[name]], dtype=np.float32)
            blocks.append(table[columns[name].astype(np.int64)])
        integers = [columns[name] for name in self._names[self._integers]]
        return self._filled(blocks, integers, columns["G1"], columns["G2"])

    def similar_order(self, data: Inputs) -> NDArray[np.int64]:
        """Return an order of pupils in which similar ones are neighbours.

        They take the same branches of the trees, which is faster for the processor's cache.
        """
        return np.lexsort(tuple(data[:, at] for at in self._sort_keys))

    def _filled(
        self, blocks: Sequence[Inputs], integers: Sequence[Any], g1: Floats, g2: Floats
    ) -> Encoded:
        data = np.zeros((len(g1), self._width), dtype=np.float32)
        at = 0
        for block in blocks:
            data[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        for column in integers:
            data[:, at] = column
            at += 1
        has1, has2 = ~np.isnan(g1), ~np.isnan(g2)
        for values, cuts, known in zip(
            (g1, g2, g2 - g1), self._cuts, (has1, has2, has2), strict=True
        ):
            data[known, at] = np.searchsorted(cuts, values[known])
            at += 1
        return Encoded(data, has1.astype(np.int64) + has2, g1, g2)
