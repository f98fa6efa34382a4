"""Score one part of a file: from its rows to predictions and rejected rows.

Each distinct cell of a column is read once, as in a class list, and validated by the field of
`StudentFeatures`; rows are scored by column. The reason of a rejected row is that of the API.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from student_success.bulk.arrow import pack, text_of, texts_of
from student_success.bulk.model_choice import Model, load
from student_success.bulk.output import csv_lines, reject_lines, table_of
from student_success.bulk.reader import RECORDED_COLUMNS, Layout, Part, Reject
from student_success.bulk.rows import Rows, read_rows
from student_success.core.errors import StudentSuccessError
from student_success.core.memory import garbage_collection_paused
from student_success.domain.students import FEATURE_NAMES, PERIODS, StudentFeatures
from student_success.domain.tables.cells import feature_of
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.pupils import request_body_of
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

BATCH_ROWS = 4096
"""Rows of one model call: enough to be vectorised, few enough for the processor's cache."""
_PLAIN = r"^([!-&(-~]([ -~]{0,62}[!-~])?)?$"
"""References that stand as they are: ASCII, not too long, without an apostrophe at the start."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """How the predictions of a file are recorded in the history.

    Attributes
    ----------
    name
        Of the file and the model; the same name and line give the same prediction id, so that a
        repeated run records nothing twice.
    id_time_us, created_us
        Microseconds since 1970: at the start of the ids, and of the predictions.
    """

    session: str
    name: str
    id_time_us: int
    created_us: int

    def prediction_id(self, line: int) -> str:
        """Return the id of the prediction of a line."""
        digest = hashlib.sha256(f"{self.session}\0{self.name}\0{line}".encode()).hexdigest()
        return f"{self.id_time_us // 1000:012x}{digest[:20]}"


@dataclass(frozen=True, slots=True)
class Task:
    """How to read a part, and what to return."""

    layout: Layout
    to_parquet: bool = False
    with_inputs: bool = False
    recording: Recording | None = None


class Scored(NamedTuple):
    """The result of one part.

    Attributes
    ----------
    predictions
        Lines of a CSV file, or an Arrow stream.
    rejects
        Lines of the CSV file of rejected rows.
    scored, rejected, blank
        Number of rows that were scored, were rejected, and were empty.
    history
        Rows for the history.
    """

    predictions: bytes
    rejects: bytes
    scored: int
    rejected: int
    blank: int
    history: Sequence[Any] = ()


def score(part: Part, task: Task, model: Model) -> Scored:
    """Predict the pupils of a part."""
    predictor, layout, recording = load(model), task.layout, task.recording
    with garbage_collection_paused():
        inputs = layout.inputs if task.with_inputs else {}
        rows = read_rows(part, layout, {*layout.positions.values(), *inputs.values()})
        codes, references, valid = _validate(rows, layout)
        rejects, blank = [*part.rejects, *rows.rejects], rows.blank
        for row in np.flatnonzero(~valid).tolist():
            cells = tuple(rows.cells(row))
            if any(map(str.strip, cells)):
                values = {
                    name: rows.columns[i][row].as_py() for name, i in layout.positions.items()
                }
                rejects.append(Reject(rows.lines[row], *_problem(body_of(values)), cells))
            else:
                blank += 1
        kept = np.flatnonzero(valid)
        codes = {name: column[kept] for name, column in codes.items()}
        lines, references = np.array(rows.lines, np.int64)[kept], references.take(kept)
        predictions = _predict(predictor, codes, len(kept))
        others: dict[str, Any] = {}
        history: Sequence[Any] = ()
        if recording is not None:
            ids = [recording.prediction_id(line) for line in lines.tolist()]
            columns = pa.repeat(recording.session, len(ids)), pa.array(ids, pa.string())
            others = dict(zip(RECORDED_COLUMNS, columns, strict=True))
            pupils = _pupils(codes, references.to_pylist())
            history = _history(recording, ids, pupils, predictions, predictor)
        for name, index in inputs.items():
            column = rows.columns[index].take(kept)
            others[name] = texts_of(column) if layout.is_text or not task.to_parquet else column
        table = table_of(
            lines,
            references,
            predictions,
            version=predictor.version,
            unusual=predictor.training_range.unusual_columns(codes),
            others=others,
        )
        content = pack(table) if task.to_parquet else csv_lines(table)
        return Scored(content, reject_lines(rejects), len(kept), len(rejects), blank, history)


def _predict(predictor: Predictor, codes: Mapping[str, Floats], count: int) -> Predictions:
    batches = [
        predictor.predict_columns({n: c[start : start + BATCH_ROWS] for n, c in codes.items()})
        for start in range(0, max(count, 1), BATCH_ROWS)
    ]
    return Predictions(*map(np.concatenate, zip(*batches, strict=True)))


def body_of(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of ``POST /predict`` for a row; it is not validated.

    Text is read as in a class list. A number of a Parquet file is certain, and stays.
    """
    numbers = {
        name: cell if isinstance(cell, int) else float(cell)
        for name, cell in cells.items()
        if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool) and cell == cell
        if name != REFERENCE and feature_of(name).kind != "category"
    }
    texts = {n: text_of(cell).strip() for n, cell in cells.items() if n not in numbers}
    return request_body_of(texts) | numbers


@lru_cache(1 << 18, typed=True)
def code_of(name: str, cell: Any) -> float:
    """Return the number of a cell: index of a category, value, NaN if unknown, inf if refused."""
    try:
        value = _field(name).validate_python(body_of({name: cell}).get(name))
    except ValidationError:
        return np.inf
    if value is None:
        return np.nan
    feature = feature_of(name)
    return float(feature.categories.index(value) if feature.kind == "category" else value)


@cache
def _field(name: str) -> TypeAdapter[Any]:
    """Return what validates one field of `StudentFeatures`."""
    declared = StudentFeatures.model_fields[name]
    kind: Any = Annotated[(declared.annotation, *declared.metadata)]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _validate(rows: Rows, layout: Layout) -> tuple[dict[str, Floats], Any, NDArray[np.bool_]]:
    """Return the numbers of each feature, the references, and which rows are valid."""
    count, columns = len(rows.lines), rows.columns
    codes, valid = {}, np.ones(count, dtype=bool)
    for name in FEATURE_NAMES:
        index = layout.positions.get(name)
        codes[name] = np.full(count, np.nan) if index is None else _codes(name, columns[index])
        valid &= ~np.isinf(codes[name])
    for earlier, later in pairwise(PERIODS):
        valid &= ~np.isnan(codes[earlier]) | np.isnan(codes[later])
    if REFERENCE not in layout.positions:
        return codes, pa.nulls(count, pa.string()), valid
    references = texts_of(columns[layout.positions[REFERENCE]])
    plain = pc.match_substring_regex(references, _PLAIN).to_numpy(zero_copy_only=False)
    if not plain.all():
        texts = references.to_pylist()
        for row in np.flatnonzero(~plain).tolist():
            try:
                given = body_of({REFERENCE: texts[row]}).get(REFERENCE)
                texts[row] = _field(REFERENCE).validate_python(given)
            except ValidationError:
                valid[row] = False
        references = pa.array(texts, pa.string())
    return codes, references, valid


def _codes(name: str, column: Any) -> Floats:
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        column = texts_of(column)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = [code_of(name, cell) for cell in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(codes)).to_numpy()
    result: Floats = np.array([*codes, code_of(name, None)])[indices]
    return result


def _problem(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the columns for which the API refuses a body, and the reason in its words."""
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        names = [p["loc"][0] if p["loc"] else p.get("ctx", {}).get("earlier", "") for p in problems]
        words = [": ".join([*map(str, p["loc"]), p["msg"]]) for p in problems]
        return "; ".join(dict.fromkeys(map(str, names))), "; ".join(words)
    # The vectorised check and the API disagree, so neither can be trusted.
    raise StudentSuccessError("A row was rejected that the API would accept: this is a bug.")


def _pupils(
    codes: Mapping[str, Floats], references: Sequence[str | None]
) -> Iterator[StudentFeatures]:
    """Return the pupils that the numbers of `code_of` stand for."""
    columns: dict[str, list[Any]] = {REFERENCE: [text or None for text in references]}
    for name in FEATURE_NAMES:
        values = [None if code != code else code for code in codes[name].tolist()]
        if names := feature_of(name).categories:
            values = [code if code is None else names[int(code)] for code in values]
        columns[name] = values
    for row in zip(*columns.values(), strict=True):
        yield StudentFeatures.model_validate(dict(zip(columns, row, strict=True)))


def _history(
    recording: Recording,
    ids: Sequence[str],
    pupils: Iterable[StudentFeatures],
    predictions: Predictions,
    predictor: Predictor,
) -> list[Any]:
    # The database is imported only if predictions are recorded.
    from student_success.storage.inference_log.prediction_rows import row_of

    return [
        row_of(
            pupil,
            prediction,
            prediction_id=prediction_id,
            session_id=recording.session,
            now=recording.created_us,
            interval_level=predictor.interval_level,
            model_version=predictor.version,
        )
        for pupil, prediction, prediction_id in zip(pupils, predictions.rows(), ids, strict=True)
    ]
