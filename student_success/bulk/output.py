"""Answers as lines of a CSV file: looked up rather than written, for there are only so many."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from student_success.bulk.csv_reader import Refused
from student_success.bulk.types import ANSWERS, Layout
from student_success.domain.students import HORIZONS
from student_success.model.grading import CENTS, HIGHEST, TEN_THOUSANDTHS, decide
from student_success.model.prediction import Predictions

_GRADES = HIGHEST + 1
_SPECIAL = re.compile('[,"\r\n]')


def header(layout: Layout, *, with_inputs: bool) -> bytes:
    """Return the first line of the answers."""
    names = [*ANSWERS, *(name for _, name in layout.inputs if with_inputs)]
    return (",".join(_quoted(names)) + "\n").encode()


def csv_lines(
    lines: Iterable[int],
    references: Sequence[str],
    told: Predictions,
    *,
    version: str,
    inputs: Sequence[Sequence[str]] = (),
) -> bytes:
    """Return one line a pupil."""
    before, chances, after = _texts(version)
    probability = np.rint(told.pass_probability * TEN_THOUSANDTHS).astype(np.int64)
    rest = ((told.low * _GRADES + told.high) * len(HORIZONS) + told.known) * 2 + told.at_risk
    columns: list[Iterable[str]] = [
        map(str, lines),
        _quoted(references),
        map(before.__getitem__, told.cents.tolist()),
        map(chances.__getitem__, probability.tolist()),
        map(after.__getitem__, rest.tolist()),
        *map(_quoted, inputs),
    ]
    joined = "\n".join(map(",".join, zip(*columns, strict=True)))
    return (joined + "\n").encode("utf-8", "surrogateescape") if joined else b""


def refused_header(layout: Layout) -> bytes:
    """Return the first line of what was set aside: why, then the row as it is."""
    return _written([["line", "problem", *layout.titles]])


def refused_lines(refused: Iterable[Refused]) -> bytes:
    """Return one line a row that was set aside, in the order of the input."""
    ordered = sorted(refused, key=lambda row: row.line)
    return _written([[str(row.line), row.problem, *row.cells] for row in ordered])


def _written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Bytes that are no text leave as they came.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _quoted(cells: Sequence[str]) -> Sequence[str]:
    if not _SPECIAL.search("\0".join(cells)):
        return cells
    return [
        '"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells
    ]


@lru_cache(maxsize=1)
def _texts(version: str) -> tuple[list[str], list[str], list[str]]:
    """Return every grade with its decision, every probability, and every ending there may be."""
    grades = [cents / CENTS for cents in range(HIGHEST * CENTS + 1)]
    before = [f"{grade!r},{decide(grade)}" for grade in grades]
    chances = [repr(number / TEN_THOUSANDTHS) for number in range(TEN_THOUSANDTHS + 1)]
    name = _quoted([version])[0]
    after = [
        f"{low},{high},{horizon},{risk},{name}"
        for low in range(_GRADES)
        for high in range(_GRADES)
        for horizon in HORIZONS
        for risk in ("false", "true")
    ]
    return before, chances, after
