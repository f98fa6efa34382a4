"""Convert columns of cells to columns of numbers, and validate rows by the rules of the API.

Each distinct text of a column is converted once and then looked up. The checks here decide only
whether a row is valid; `StudentFeatures` gives the reason, in the words of the API.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from student_success.domain.students import FEATURES, PERIODS, Feature, StudentFeatures
from student_success.domain.tables.cells import feature_of, parse_cell
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.pupils import request_body_of

Floats = NDArray[np.float64]

INVALID = math.inf
"""Marks an invalid cell; no feature may be infinite."""
UNKNOWN = math.nan
_CACHED_TEXTS = 1 << 16
"""Most texts cached for a column; a column may have millions of distinct ones."""


class ValidatedRows(NamedTuple):
    """Rows as `Predictor.predict_columns` takes them, and which of them are valid.

    Attributes
    ----------
    codes
        One number a row for each feature: the index of a category, a value, or NaN for unknown.
    valid
        One truth value a row.
    """

    codes: Mapping[str, Floats]
    valid: NDArray[np.bool_]


class CellTable(dict[str, float]):
    """Number of each text in the column of one feature, computed once."""

    def __init__(self, feature: Feature) -> None:
        super().__init__()
        self._feature = feature

    def __missing__(self, text: str) -> float:
        if len(self) >= _CACHED_TEXTS:
            self.clear()
        given = text or self._feature.nullable
        value = parse_cell(self._feature, text) if given else None
        code = self[text] = code_of(self._feature, value)
        return code


def code_of(feature: Feature, value: object) -> float:
    """Return the number of a value: a category's index, an integer, a grade, or `INVALID`."""
    if value is None:
        return UNKNOWN if feature.nullable else INVALID
    if feature.kind == "category":
        return float(feature.categories.index(value)) if value in feature.categories else INVALID
    if not isinstance(value, int | float) or isinstance(value, bool):
        return INVALID
    assert feature.low is not None
    assert feature.high is not None
    within = feature.low <= value <= feature.high
    whole = feature.kind == "number" or float(value).is_integer()
    return float(value) if within and whole else INVALID


def codes_of_texts(feature: Feature, texts: Sequence[str]) -> Floats:
    """Return the number of each cell of a feature's column."""
    return np.fromiter(map(_table(feature.name).__getitem__, texts), np.float64, len(texts))


def codes_of_dictionary(feature: Feature, texts: Sequence[str], indices: Any) -> Floats:
    """Return the numbers of a dictionary-encoded column: distinct texts, and an index a row."""
    table = _table(feature.name)
    distinct = np.array([table[text] for text in texts], dtype=np.float64)
    codes: Floats = distinct[indices] if len(distinct) else np.empty(0)
    return codes


def codes_of_numbers(feature: Feature, numbers: Floats) -> Floats:
    """Return the numbers of a numeric column of a feature without categories; NaN is unknown."""
    assert feature.low is not None
    assert feature.high is not None
    valid = (numbers >= feature.low) & (numbers <= feature.high)
    if feature.kind == "integer":
        valid &= np.floor(numbers) == numbers
    if feature.nullable:
        valid |= np.isnan(numbers)
    return np.where(valid, numbers, INVALID)


def validate(
    codes: dict[str, Floats], references: Sequence[str] | None, rows: int
) -> ValidatedRows:
    """Check whole rows. A feature without a column is unknown."""
    for feature in FEATURES:
        if feature.name not in codes:
            codes[feature.name] = np.full(rows, UNKNOWN)
    valid = np.ones(rows, dtype=bool)
    for column in codes.values():
        valid &= ~np.isinf(column)
    for earlier, later in pairwise(PERIODS):
        valid &= ~np.isnan(codes[earlier]) | np.isnan(codes[later])
    if references is not None:
        # Invalid references are rare: check all of them together first.
        field = StudentFeatures.model_fields[REFERENCE]
        longest = next(m.max_length for m in field.metadata if hasattr(m, "max_length"))
        if max(map(len, references), default=0) > longest or "\0" in "".join(references):
            valid &= [len(text) <= longest and "\0" not in text for text in references]
    return ValidatedRows(codes, valid)


def problem_of_texts(texts: Mapping[str, str]) -> str:
    """Return the problem of a row of cells in the API's words; empty if it is valid."""
    return problem_of(request_body_of(texts))


def problem_of(body: Mapping[str, Any]) -> str:
    """Return the problem of a request body in the API's words; empty if it is valid."""
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
