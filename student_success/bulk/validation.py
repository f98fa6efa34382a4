"""Columns of cells into columns of numbers, by the rules of `StudentFeatures`.

Each way of writing a cell is looked at once and then looked up. The rules here only say whether a
row is right; why it is not, pydantic says, in the words of the API.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from student_success.domain.students import FEATURES, Feature, StudentFeatures
from student_success.domain.tabular import REFERENCE, body_of, feature_of, value_of

Floats = NDArray[np.float64]

BAD = math.inf
"""Stands for a cell that is not right; no feature may be infinite."""
UNKNOWN = math.nan
_REMEMBERED = 1 << 16
"""Ways of writing a cell that are kept; a column may have millions of them."""


class Judged(NamedTuple):
    """Pupils as `Predictor.predict_columns` takes them, and which of them are right."""

    codes: Mapping[str, Floats]
    right: NDArray[np.bool_]


class CellTable(dict[str, float]):
    """The number that each text stands for in the column of one feature."""

    def __init__(self, feature: Feature) -> None:
        super().__init__()
        self._feature = feature

    def __missing__(self, text: str) -> float:
        if len(self) >= _REMEMBERED:
            self.clear()
        said = text or self._feature.nullable
        found = self[text] = code_of(self._feature, value_of(self._feature, text) if said else None)
        return found


def code_of(feature: Feature, value: object) -> float:
    """Return a value's number: a category's position, a whole number, a grade, `BAD`."""
    if value is None:
        return UNKNOWN if feature.nullable else BAD
    if feature.kind == "category":
        return float(feature.categories.index(value)) if value in feature.categories else BAD
    if not isinstance(value, int | float) or isinstance(value, bool):
        return BAD
    assert feature.low is not None
    assert feature.high is not None
    within = feature.low <= value <= feature.high
    whole = feature.kind == "number" or float(value).is_integer()
    return float(value) if within and whole else BAD


def codes_of_texts(feature: Feature, texts: Sequence[str]) -> Floats:
    """Return the number of each cell of a feature's column."""
    return np.fromiter(map(_table(feature.name).__getitem__, texts), np.float64, len(texts))


def codes_of_dictionary(feature: Feature, texts: Sequence[str], places: Any) -> Floats:
    """Return the same for a column that names each text once, and then its place."""
    table = _table(feature.name)
    known = np.array([table[text] for text in texts], dtype=np.float64)
    found: Floats = known[places] if len(known) else np.empty(0)
    return found


def codes_of_numbers(feature: Feature, numbers: Floats) -> Floats:
    """Return the same for the column of a feature that is no category, NaN standing for nothing."""
    assert feature.low is not None
    assert feature.high is not None
    right = (numbers >= feature.low) & (numbers <= feature.high)
    if feature.kind == "integer":
        right &= np.floor(numbers) == numbers
    if feature.nullable:
        right |= np.isnan(numbers)
    return np.where(right, numbers, BAD)


def judge(codes: dict[str, Floats], references: Sequence[str] | None, rows: int) -> Judged:
    """Tell which rows are right, all their cells together."""
    for feature in FEATURES:
        if feature.name not in codes:
            codes[feature.name] = np.full(rows, UNKNOWN)
    right = np.ones(rows, dtype=bool)
    for column in codes.values():
        right &= ~np.isinf(column)
    right &= ~np.isnan(codes["G1"]) | np.isnan(codes["G2"])
    if references is not None:
        # Whether one of them is wrong is seldom, and quickly told of all.
        field = StudentFeatures.model_fields[REFERENCE]
        longest = next(m.max_length for m in field.metadata if hasattr(m, "max_length"))
        if max(map(len, references), default=0) > longest or "\0" in "".join(references):
            right &= [len(text) <= longest and "\0" not in text for text in references]
    return Judged(codes, right)


def why_texts(texts: Mapping[str, str]) -> str:
    """Say what is wrong with a row of cells; empty if nothing is."""
    return why(body_of(texts))


def why(body: Mapping[str, Any]) -> str:
    """Say what is wrong with the body of a request, in the API's words; empty if nothing is."""
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(
            ": ".join([*(str(part) for part in problem["loc"]), problem["msg"]])
            for problem in problems
        )
    return ""


@cache
def _table(name: str) -> CellTable:
    return CellTable(feature_of(name))
