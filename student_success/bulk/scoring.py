"""Score one part of a file: from its rows to predictions and rejected rows.

Each distinct cell of a column is read once, as in a class list, and validated by the field of
`StudentFeatures`; rows are scored by column. The reason of a rejected row is that of the API.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from student_success.bulk.model_choice import Model, load
from student_success.bulk.output import (
    RECORDED_COLUMNS,
    csv_lines,
    input_titles,
    lines_of,
    table_of,
    texts_of,
)
from student_success.bulk.reader import Part
from student_success.bulk.repeated import hash_references
from student_success.core.errors import StudentSuccessError
from student_success.core.memory import garbage_collection_paused
from student_success.domain.students import FEATURE_NAMES, PERIODS, StudentFeatures
from student_success.domain.tables.cells import feature_of, is_shortened, text_of
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.problems import TEXTS
from student_success.domain.tables.pupils import request_body_of
from student_success.domain.tables.reader import Table, header_check
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

BATCH_ROWS = 4096
"""Rows of one model call: enough to be vectorised, few enough for the processor's cache."""
_PLAIN = r"^([!-&(-*,-~]([ -*,-~]{0,62}[!-*,-~])?)?$"
"""References that stand as they are: ASCII, not too long, no apostrophe at the start, no plus."""

Floats = NDArray[np.float64]


class Recording(NamedTuple):
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


class Task(NamedTuple):
    """How to read the parts of a file, and what to return."""

    layout: Table
    to_parquet: bool = False
    with_inputs: bool = False
    recording: Recording | None = None


class Scored(NamedTuple):
    """The result of a part: output, rejected rows as CSV, numbers of rows, rows for the history.

    `references` is what `hash_references` returns.
    """

    predictions: Any
    rejects: bytes
    scored: int
    rejected: int
    blank: int
    references: tuple[bytes, bytes]
    history: Sequence[Any] = ()


def score(part: Part, task: Task, model: Model) -> Scored:
    """Predict the pupils of a part; the output is lines of a CSV file, or an Arrow table."""
    predictor, layout, recording = load(model), task.layout, task.recording
    positions, repeats_header = layout.columns.positions, header_check(layout.titles)
    with garbage_collection_paused():
        columns, lines, rejects = part.columns, part.lines, [*part.rejects]
        named = {name: columns[index] for name, index in positions.items()}
        codes, references, valid = _validate(named, len(lines))
        unknown = np.logical_and.reduce([np.isnan(column) for column in codes.values()])
        for row in np.flatnonzero(~valid | unknown).tolist():
            cells = [text_of(column[row].as_py()) for column in columns]
            if not any(map(str.strip, cells)) or repeats_header(cells, lines[row]):
                # An empty line, also where no column is required.
                valid[row] = False
            elif not valid[row]:
                values = {name: column[row].as_py() for name, column in named.items()}
                rejects.append((int(lines[row]), *_problem(request_body_of(values)), *cells))
        kept = np.flatnonzero(valid)
        codes = {name: column[kept] for name, column in codes.items()}
        lines, references = lines[kept], references.take(kept)
        predictions = _predict(predictor, codes, len(kept))
        others: dict[str, Any] = {}
        history: Sequence[Any] = ()
        if recording is not None:
            features = {name: c.take(kept) for name, c in named.items() if name != REFERENCE}
            history = _history(recording, lines, features, references, predictions, predictor)
            ids = pa.array([row.prediction_id for row in history], pa.string())
            session = pa.repeat(recording.session, len(ids))
            others = dict(zip(RECORDED_COLUMNS, (session, ids), strict=True))
        for name, index in input_titles(layout).items() if task.with_inputs else ():
            column = columns[index].take(kept)
            # The columns of Parquet keep their types.
            typed = task.to_parquet and not (layout.delimiter or layout.sheet)
            others[name] = column if typed else texts_of(column)
        unusual = predictor.training_range.unusual_columns(codes)
        table = table_of(
            lines, references, predictions, predictor.version, unusual=unusual, others=others
        )
    rejected = lines_of(sorted(rejects, key=lambda reject: reject[0]))
    content = table if task.to_parquet else csv_lines(table)
    blank = len(part.lines) + len(part.rejects) - len(kept) - len(rejects)
    hashes = hash_references(references, lines)
    return Scored(content, rejected, len(kept), len(rejects), blank, hashes, history)


def _predict(predictor: Predictor, codes: Mapping[str, Floats], count: int) -> Predictions:
    batches = [
        predictor.predict_columns({n: c[start : start + BATCH_ROWS] for n, c in codes.items()})
        for start in range(0, max(count, 1), BATCH_ROWS)
    ]
    return Predictions(*map(np.concatenate, zip(*batches, strict=True)))


@cache
def _field(name: str) -> TypeAdapter[Any]:
    """Return what validates one field of `StudentFeatures`."""
    declared = StudentFeatures.model_fields[name]
    kind: Any = Annotated[(declared.annotation, *declared.metadata)]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _value_of(name: str, cell: Any) -> Any:
    """Return the value of a feature, or the reference, that a cell holds; infinity if refused."""
    try:
        if name == REFERENCE and is_shortened(cell):
            return np.inf
        return _field(name).validate_python(request_body_of({name: cell}).get(name))
    except ValidationError:
        return np.inf


_feature = lru_cache(1 << 18, typed=True)(_value_of)


def _code_of(name: str, cell: Any) -> float:
    """Return the number of a cell: index of a category, value, NaN if unknown, inf if refused."""
    value = _feature(name, cell)
    if value is None:
        return np.nan
    return float(feature_of(name).categories.index(value) if isinstance(value, str) else value)


def _codes(name: str, column: Any) -> Floats:
    try:
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    except pa.ArrowNotImplementedError:
        # For example lists, and numbers of half precision.
        encoded = texts_of(column).dictionary_encode()
    codes = [_code_of(name, cell) for cell in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(codes)).to_numpy()
    result: Floats = np.array([*codes, _code_of(name, None)])[indices]
    return result


def _validate(
    columns: Mapping[str, Any], count: int
) -> tuple[dict[str, Floats], Any, NDArray[np.bool_]]:
    """Return the numbers of each feature, the references, and which rows are valid."""
    codes, valid = {}, np.ones(count, dtype=bool)
    for name in FEATURE_NAMES:
        codes[name] = _codes(name, columns[name]) if name in columns else np.full(count, np.nan)
        valid &= ~np.isinf(codes[name])
    for earlier, later in pairwise(PERIODS):
        valid &= ~np.isnan(codes[earlier]) | np.isnan(codes[later])
    if REFERENCE not in columns:
        return codes, pa.nulls(count, pa.string()), valid
    references = texts_of(columns[REFERENCE])
    plain = pc.match_substring_regex(references, _PLAIN).to_numpy(zero_copy_only=False)
    if not plain.all():
        texts = references.to_pylist()
        for row in np.flatnonzero(~plain).tolist():
            reference = _value_of(REFERENCE, texts[row])
            valid[row] &= reference != np.inf
            texts[row] = reference if valid[row] else None
        references = pa.array(texts, pa.string())
    return codes, references, valid


def _problem(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the columns for which the API refuses a body, and the reason in its words."""
    if is_shortened(body.get(REFERENCE, "")):
        return REFERENCE, TEXTS["shortened"].en
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        names = [p["loc"][0] if p["loc"] else p.get("ctx", {}).get("earlier", "") for p in problems]
        words = [": ".join([*map(str, p["loc"]), p["msg"]]) for p in problems]
        return "; ".join(dict.fromkeys(map(str, names))), "; ".join(words)
    # The vectorised check and the API disagree, so neither can be trusted.
    raise StudentSuccessError("A row was rejected that the API would accept: this is a bug.")


def _history(
    recording: Recording,
    lines: NDArray[np.int64],
    features: Mapping[str, Any],
    references: Any,
    predictions: Predictions,
    predictor: Predictor,
) -> list[Any]:
    # The database is imported only if predictions are recorded.
    from student_success.storage.inference_log.prediction_rows import row_of

    values = {n: [_feature(n, cell) for cell in c.to_pylist()] for n, c in features.items()}
    values[REFERENCE] = [text or None for text in references.to_pylist()]
    pupils = zip(*values.values(), strict=True)
    return [
        row_of(
            StudentFeatures.model_validate(dict(zip(values, pupil, strict=True))),
            prediction,
            prediction_id=recording.prediction_id(line),
            session_id=recording.session,
            now=recording.created_us,
            interval_level=predictor.interval_level,
            model_version=predictor.version,
        )
        for line, pupil, prediction in zip(lines.tolist(), pupils, predictions.rows(), strict=True)
    ]
