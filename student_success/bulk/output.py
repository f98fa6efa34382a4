"""Predictions as lines of a CSV file. The texts of all possible values are looked up, for speed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from student_success.bulk.csv_reader import Reject
from student_success.bulk.types import OUTPUT_COLUMNS, Layout
from student_success.domain.students import HORIZONS
from student_success.model.grading import CENTS, HIGHEST, TEN_THOUSANDTHS, decide
from student_success.model.prediction import Predictions

_GRADES = HIGHEST + 1
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
    grades, probabilities, endings = _texts(version)
    probability = np.rint(predictions.pass_probability * TEN_THOUSANDTHS).astype(np.int64)
    interval = predictions.low * _GRADES + predictions.high
    ending = (interval * len(HORIZONS) + predictions.known) * 2 + predictions.at_risk
    columns: list[Iterable[str]] = [
        map(str, lines),
        _quoted(references),
        map(grades.__getitem__, predictions.cents.tolist()),
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


@lru_cache(maxsize=1)
def _texts(version: str) -> tuple[list[str], list[str], list[str]]:
    """Return each grade with its decision, each probability, and each possible rest of a line."""
    values = [cents / CENTS for cents in range(HIGHEST * CENTS + 1)]
    grades = [f"{value!r},{decide(value)}" for value in values]
    probabilities = [repr(number / TEN_THOUSANDTHS) for number in range(TEN_THOUSANDTHS + 1)]
    name = _quoted([version])[0]
    endings = [
        f"{low},{high},{horizon},{risk},{name}"
        for low in range(_GRADES)
        for high in range(_GRADES)
        for horizon in HORIZONS
        for risk in ("false", "true")
    ]
    return grades, probabilities, endings
