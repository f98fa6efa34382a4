"""Score one slice: what a worker process does. It keeps nothing but the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from student_success.bulk.csv_arrow import read_with_arrow
from student_success.bulk.csv_reader import Reject, read_csv
from student_success.bulk.model_choice import Model, load
from student_success.bulk.output import csv_lines, reject_lines
from student_success.bulk.types import ScoredSlice, Slice, Task
from student_success.bulk.validation import (
    ValidatedRows,
    codes_of_texts,
    problem_of_texts,
    validate,
)
from student_success.core.errors import StudentSuccessError
from student_success.core.memory import garbage_collection_paused
from student_success.domain.tables.cells import feature_of, parse_reference
from student_success.domain.tables.columns import REFERENCE
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

BATCH_ROWS = 4096
"""Rows of one model call: enough to be vectorised, few enough for the processor's cache."""


def score(part: Slice, task: Task, model: Model) -> ScoredSlice:
    """Predict the pupils of a slice."""
    predictor = load(model)
    with garbage_collection_paused():
        if task.layout.format == "parquet":
            from student_success.bulk.parquet import score_arrow

            return score_arrow(part, task, predictor)
        return _score_csv(part, task, predictor)


class _Rows(NamedTuple):
    """The rows of a slice; `lines`, `references` and `inputs` are those of the valid rows alone."""

    validated: ValidatedRows
    lines: Sequence[int]
    references: list[str] | None
    inputs: Sequence[Sequence[str]]
    rejects: list[Reject]
    blank: int


def _score_csv(part: Slice, task: Task, predictor: Predictor) -> ScoredSlice:
    indices = [index for index, _ in task.layout.inputs] if task.with_inputs else []
    rows = _read_with_arrow(part, task, indices) if task.large else None
    rows = rows or _read(part, task, indices)
    predictions = predict(predictor, rows.validated)
    if task.output == "parquet":
        from student_success.bulk.parquet import arrow_stream

        output = arrow_stream(
            rows.lines,
            rows.references,
            predictions,
            version=predictor.version,
            inputs=rows.inputs,
            layout=task.layout,
        )
    else:
        output = csv_lines(
            rows.lines,
            [""] * len(rows.lines) if rows.references is None else rows.references,
            predictions,
            version=predictor.version,
            inputs=rows.inputs,
        )
    rejects = reject_lines(rows.rejects)
    return ScoredSlice(output, rejects, len(rows.lines), len(rows.rejects), rows.blank)


def _read_with_arrow(part: Slice, task: Task, indices: list[int]) -> _Rows | None:
    table = read_with_arrow(part, task.layout, indices)
    if table is None:
        return None
    validated = validate(table.codes, table.references, table.rows)
    lines: Sequence[int] = range(part.line, part.line + table.rows)
    rejects: list[Reject] = []
    blank = 0
    if not validated.valid.all():
        # Read each invalid row, which is one line, again with Python to explain the problem.
        raw = part.data.split(b"\n")
        for row in np.flatnonzero(~validated.valid).tolist():
            single = _read(Slice(raw[row] + b"\n", lines[row], part.end), task, [])
            rejects += single.rejects
            blank += single.blank
    return _keep_valid(validated, lines, table.references, table.inputs, rejects, blank)


def _read(part: Slice, task: Task, indices: list[int]) -> _Rows:
    table = read_csv(part, task.layout)
    positions, columns = task.layout.positions, table.columns
    references = None
    if REFERENCE in positions:
        references = list(map(parse_reference, columns[positions[REFERENCE]]))
    codes = {
        name: codes_of_texts(feature_of(name), columns[index])
        for name, index in positions.items()
        if name != REFERENCE
    }
    validated = validate(codes, references, len(table.lines))
    rejects = table.rejects
    for row in np.flatnonzero(~validated.valid).tolist():
        texts = {name: columns[index][row].strip() for name, index in positions.items()}
        cells = tuple(column[row] for column in columns)
        rejects.append(Reject(table.lines[row], require_problem(problem_of_texts(texts)), cells))
    inputs = [columns[index] for index in indices]
    return _keep_valid(validated, table.lines, references, inputs, rejects, table.blank)


def _keep_valid(
    validated: ValidatedRows,
    lines: Sequence[int],
    references: list[str] | None,
    inputs: Sequence[Sequence[str]],
    rejects: list[Reject],
    blank: int,
) -> _Rows:
    if not validated.valid.all():
        valid = np.flatnonzero(validated.valid).tolist()
        lines = [lines[row] for row in valid]
        references = None if references is None else [references[row] for row in valid]
        inputs = [[column[row] for row in valid] for column in inputs]
    return _Rows(validated, lines, references, inputs, rejects, blank)


def require_problem(problem: str) -> str:
    """Return the problem of a rejected row.

    Raises
    ------
    StudentSuccessError
        If there is none: the vectorised check and the API disagree, so neither can be trusted.
    """
    if not problem:
        raise StudentSuccessError("A row was rejected that the API would accept: this is a bug.")
    return problem


def predict(predictor: Predictor, rows: ValidatedRows) -> Predictions:
    """Predict the valid rows."""
    codes, valid = rows
    columns = codes if valid.all() else {name: column[valid] for name, column in codes.items()}
    count = int(valid.sum())
    batches = [
        predictor.predict_columns(
            {name: column[start : start + BATCH_ROWS] for name, column in columns.items()}
        )
        for start in range(0, max(count, 1), BATCH_ROWS)
    ]
    return Predictions(*map(np.concatenate, zip(*batches, strict=True)))
