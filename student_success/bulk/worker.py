"""What a worker does: a slice in, the bytes of its answers out; it remembers only the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from student_success.bulk.csv_arrow import read_quickly
from student_success.bulk.csv_reader import Refused, read_csv
from student_success.bulk.model_choice import Model, opened
from student_success.bulk.output import csv_lines, refused_lines
from student_success.bulk.types import Part, Slice, Task
from student_success.bulk.validation import Judged, codes_of_texts, judge, why_texts
from student_success.core.errors import StudentSuccessError
from student_success.core.memory import garbage_collection_paused
from student_success.domain.tabular import REFERENCE, feature_of
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

ROWS_AT_ONCE = 4096
"""Rows a run of the model: enough to sort, few enough to stay in the processor's cache."""


def score(part: Slice, task: Task, model: Model) -> Part:
    """Answer for the pupils of a slice."""
    predictor = opened(model)
    with garbage_collection_paused():
        if task.layout.kind == "parquet":
            from student_success.bulk.parquet import score_arrow

            return score_arrow(part, task, predictor)
        return _score_csv(part, task, predictor)


class _Read(NamedTuple):
    """The rows of a slice.

    Attributes
    ----------
    right
        Which of them can be scored; `lines`, `references` and `inputs` are of those alone.
    """

    judged: Judged
    lines: Sequence[int]
    references: list[str] | None
    inputs: Sequence[Sequence[str]]
    refused: list[Refused]
    blank: int


def _score_csv(part: Slice, task: Task, predictor: Predictor) -> Part:
    wanted = [place for place, _ in task.layout.inputs] if task.with_inputs else []
    quick = _quickly(part, task, wanted) if task.large else None
    read = quick or _thoroughly(part, task, wanted)
    told = predict(predictor, read.judged)
    if task.output == "parquet":
        from student_success.bulk.parquet import arrow_stream

        answers = arrow_stream(
            read.lines,
            read.references,
            told,
            version=predictor.version,
            inputs=read.inputs,
            layout=task.layout,
        )
    else:
        answers = csv_lines(
            read.lines,
            [""] * len(read.lines) if read.references is None else read.references,
            told,
            version=predictor.version,
            inputs=read.inputs,
        )
    refused = refused_lines(read.refused)
    return Part(answers, refused, len(read.lines), len(read.refused), read.blank)


def _quickly(part: Slice, task: Task, wanted: list[int]) -> _Read | None:
    quick = read_quickly(part, task.layout, wanted)
    if quick is None:
        return None
    judged = judge(quick.codes, quick.references, quick.rows)
    lines: Sequence[int] = range(part.line, part.line + quick.rows)
    if judged.right.all():
        return _Read(judged, lines, quick.references, quick.inputs, [], 0)
    # The others are lines of their own, and are looked at as if they came alone.
    raw = part.data.split(b"\n")
    refused: list[Refused] = []
    blank = 0
    for row in np.flatnonzero(~judged.right).tolist():
        alone = Slice(raw[row] + b"\n", lines[row], part.end)
        found = _thoroughly(alone, task, [])
        refused += found.refused
        blank += found.blank
    return _of_right(judged, lines, quick.references, quick.inputs, refused, blank)


def _thoroughly(part: Slice, task: Task, wanted: list[int]) -> _Read:
    cells = read_csv(part, task.layout)
    places, columns = task.layout.places, cells.columns
    references = None
    if REFERENCE in places:
        references = [text.strip() for text in columns[places[REFERENCE]]]
    codes = {
        name: codes_of_texts(feature_of(name), columns[place])
        for name, place in places.items()
        if name != REFERENCE
    }
    judged = judge(codes, references, len(cells.lines))
    refused = cells.refused
    for row in np.flatnonzero(~judged.right).tolist():
        texts = {name: columns[place][row].strip() for name, place in places.items()}
        whole = tuple(column[row] for column in columns)
        refused.append(Refused(cells.lines[row], explained(why_texts(texts)), whole))
    inputs = [columns[place] for place in wanted]
    return _of_right(judged, cells.lines, references, inputs, refused, cells.blank)


def _of_right(
    judged: Judged,
    lines: Sequence[int],
    references: list[str] | None,
    inputs: Sequence[Sequence[str]],
    refused: list[Refused],
    blank: int,
) -> _Read:
    if not judged.right.all():
        right = np.flatnonzero(judged.right).tolist()
        lines = [lines[row] for row in right]
        references = None if references is None else [references[row] for row in right]
        inputs = [[column[row] for row in right] for column in inputs]
    return _Read(judged, lines, references, inputs, refused, blank)


def explained(problem: str) -> str:
    """Return a problem's words; there must be some.

    Raises
    ------
    StudentSuccessError
        If the two ways to look at a row disagree: then neither can be trusted.
    """
    if not problem:
        raise StudentSuccessError("A row was set aside that the API would accept: this is a bug.")
    return problem


def predict(predictor: Predictor, judged: Judged) -> Predictions:
    """Answer for the rows that are right."""
    codes, right = judged
    chosen = codes if right.all() else {name: column[right] for name, column in codes.items()}
    rows = int(right.sum())
    parts = [
        predictor.predict_columns(
            {name: column[start : start + ROWS_AT_ONCE] for name, column in chosen.items()}
        )
        for start in range(0, max(rows, 1), ROWS_AT_ONCE)
    ]
    return Predictions(*map(np.concatenate, zip(*parts, strict=True)))
