"""Predictions as lines of a CSV file. The texts of all possible values are looked up, for speed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.bulk.csv_reader import Reject
from student_success.bulk.types import OUTPUT_COLUMNS, Layout
from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, SCALE
from student_success.model.grading import TEN_THOUSANDTHS
from student_success.model.prediction import Predictions

_GRADES = SCALE.highest + 1
_DECISIONS = (Decision.FAIL.value, Decision.PASS.value)
Grades = NDArray[Any]

_SPECIAL = re.compile('[,"\r\n]')


def header(layout: Layout, *, with_inputs: bool) -> bytes:
    """Return the header of the predictions."""
    names = [*OUTPUT_COLUMNS, *(name for _, name in layout.inputs if with_inputs)]
    return (",".join(_quoted(names)) + "\n").encode()


def csv_lines(
    lines: Iterable[int],
    references: Sequence[str],
    predictions: Predictions,
    *,
    version: str,
    inputs: Sequence[Sequence[str]] = (),
) -> bytes:
    """Return one line a pupil.

    Parameters
    ----------
    inputs
        Columns of the input to repeat.
    """
    grades, probabilities = _texts()
    endings = _endings(version)
    probability = np.rint(predictions.pass_probability * TEN_THOUSANDTHS).astype(np.int64)
    interval = predictions.low * _GRADES + predictions.high
    ending = (interval * len(HORIZONS) + predictions.known) * 2 + predictions.at_risk
    columns: list[Iterable[str]] = [
        map(str, lines),
        _quoted(references),
        map(grades.__getitem__, (predictions.hundredths * 2 + predictions.passes).tolist()),
        map(probabilities.__getitem__, probability.tolist()),
        map(endings.__getitem__, ending.tolist()),
        *map(_quoted, inputs),
    ]
    joined = "\n".join(map(",".join, zip(*columns, strict=True)))
    return (joined + "\n").encode("utf-8", "surrogateescape") if joined else b""


def rejects_header(layout: Layout) -> bytes:
    """Return the header of the rejected rows: line, problem, then the columns of the input."""
    return _written([["line", "problem", *layout.titles]])


def reject_lines(rejects: Iterable[Reject]) -> bytes:
    """Return one line a rejected row, in the order of the input."""
    ordered = sorted(rejects, key=lambda row: row.line)
    return _written([[str(row.line), row.problem, *row.cells] for row in ordered])


def _written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Write bytes that could not be decoded as they were read.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _quoted(cells: Sequence[str]) -> Sequence[str]:
    if not _SPECIAL.search("\0".join(cells)):
        return cells
    return [
        '"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells
    ]


class _Endings(dict[int, str]):
    """The rest of a line from the interval on, by number; a fine scale has millions of them."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self._version = _quoted([version])[0]

    def __missing__(self, number: int) -> str:
        rest, at_risk = divmod(number, 2)
        interval, known = divmod(rest, len(HORIZONS))
        low, high = sorted(map(SCALE.grade, divmod(interval, _GRADES)))
        risk = "true" if at_risk else "false"
        text = self[number] = f"{low},{high},{HORIZONS[known]},{risk},{self._version}"
        return text


@lru_cache(maxsize=1)
def _endings(version: str) -> _Endings:
    return _Endings(version)


@lru_cache(maxsize=1)
def _texts() -> tuple[list[str], list[str]]:
    """Return each grade with each decision, by hundredths above the worst, and each probability."""
    grades = [f"{grade!r},{decision}" for grade in _displayed().tolist() for decision in _DECISIONS]
    probabilities = [repr(number / TEN_THOUSANDTHS) for number in range(TEN_THOUSANDTHS + 1)]
    return grades, probabilities


def displayed_of(predictions: Predictions) -> Grades:
    """Return the predicted grades, one a pupil."""
    return _displayed()[predictions.hundredths]


@lru_cache(maxsize=1)
def _displayed() -> Grades:
    """Return every grade that can be displayed, by hundredths above the worst one."""
    return np.array([SCALE.displayed(part) for part in range(SCALE.highest * SCALE.parts + 1)])


def interval_of(predictions: Predictions) -> tuple[Grades, Grades]:
    """Return the lower and the higher end of the intervals as grades, one of each a pupil."""
    grades = _grades_by_level()
    ends = grades[predictions.low], grades[predictions.high]
    return np.minimum(*ends), np.maximum(*ends)


@lru_cache(maxsize=1)
def _grades_by_level() -> Grades:
    grades = [SCALE.grade(level) for level in range(_GRADES)]
    # The smallest type of whole numbers that holds them all.
    kind = np.min_scalar_type(-round(max(map(abs, grades))))
    return np.array(grades, dtype=kind if SCALE.is_whole else np.float64)
