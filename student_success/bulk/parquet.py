"""Parquet files: read in batches, scored by column, written in row groups of equal size.

A slice and its predictions are Arrow streams. A Parquet file is readable only after it is closed,
so a run appends one stream after another to a file, and converts it to Parquet at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from student_success.bulk.csv_reader import Reject
from student_success.bulk.output import csv_lines, displayed_of, interval_of, reject_lines
from student_success.bulk.types import (
    OUTPUT_COLUMNS,
    Layout,
    Position,
    ScoredSlice,
    Slice,
    Task,
    make_layout,
)
from student_success.bulk.validation import (
    CellTable,
    Floats,
    codes_of_numbers,
    problem_of,
    validate,
)
from student_success.bulk.worker import predict, require_problem
from student_success.core.errors import DatasetError
from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, Feature
from student_success.domain.tables.cells import feature_of, parse_cell, parse_reference
from student_success.domain.tables.columns import REFERENCE, Choices
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

SLICE_ROWS = 32_768
GROUP_ROWS = 131_072
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def open_parquet(path: Path, choices: Choices | None = None) -> tuple[Layout, Position]:
    """Read the names of the columns.

    Raises
    ------
    DatasetError
        If it is not a Parquet file, or a required column is missing.
    """
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path.name} is not a readable Parquet file.") from error
    layout = make_layout(path.name, "parquet", tuple(names), choices=choices)
    return layout, Position(0, 1)


def cut_parquet(path: Path, start: Position, *, size: int = SLICE_ROWS) -> Iterator[Slice]:
    """Yield the slices of a file from a position on; one empty slice if there are no rows."""
    with pq.ParquetFile(path) as file:
        rows = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        ends = list(accumulate(rows))
        groups = [number for number, end in enumerate(ends) if end > start.offset]
        before = ends[groups[0]] - rows[groups[0]] if groups else 0
        at = start.offset
        if not groups:
            columns = [pa.array([], field.type) for field in file.schema_arrow]
            batch = pa.RecordBatch.from_arrays(columns, schema=file.schema_arrow)
            yield Slice(_stream(batch), at + 1, start)
            return
        for batch in file.iter_batches(batch_size=size, row_groups=groups, use_threads=False):
            kept = batch.slice(min(max(0, at - before), batch.num_rows))
            before += batch.num_rows
            if kept.num_rows:
                yield Slice(_stream(kept), at + 1, Position(before, before + 1))
                at = before


def score_arrow(part: Slice, task: Task, predictor: Predictor) -> ScoredSlice:
    """Predict the pupils of a slice."""
    batch = _batch(part.data)
    positions = task.layout.positions
    references = None
    if REFERENCE in positions:
        references = list(map(parse_reference, _texts(batch.column(positions[REFERENCE]))))
    if references is not None:
        references = [text.strip() for text in references]
    codes = {
        name: _codes(feature_of(name), batch.column(index))
        for name, index in positions.items()
        if name != REFERENCE
    }
    validated = validate(codes, references, batch.num_rows)
    lines: Sequence[int] = range(part.line, part.line + batch.num_rows)
    rejects = []
    if not validated.valid.all():
        invalid = np.flatnonzero(~validated.valid)
        values = [column.take(pa.array(invalid)).to_pylist() for column in batch.columns]
        for row, cells in zip(invalid.tolist(), zip(*values, strict=True), strict=True):
            reference = references[row] if references is not None else ""
            rejects.append(_reject(lines[row], cells, positions, reference))
        valid = np.flatnonzero(validated.valid)
        batch = batch.take(pa.array(valid))
        lines = [lines[row] for row in valid.tolist()]
        if references is not None:
            references = [references[row] for row in valid.tolist()]
    predictions = predict(predictor, validated)
    repeated = task.layout.inputs if task.with_inputs else ()
    columns = [batch.column(index) for index, _ in repeated]
    version = predictor.version
    if task.output == "parquet":
        output = arrow_stream(
            lines, references, predictions, version=version, inputs=columns, layout=task.layout
        )
    else:
        output = csv_lines(
            lines,
            references or [""] * len(lines),
            predictions,
            version=version,
            inputs=[_texts(column) for column in columns],
        )
    return ScoredSlice(output, reject_lines(rejects), len(lines), len(rejects), 0)


def arrow_stream(
    lines: Sequence[int],
    references: Sequence[str] | None,
    predictions: Predictions,
    *,
    version: str,
    inputs: Sequence[Any],
    layout: Layout,
) -> bytes:
    """Return the predictions as an Arrow stream of one batch.

    Parameters
    ----------
    inputs
        Columns to repeat, as Arrow arrays or as text.
    """
    rows = len(lines)
    horizon = pa.DictionaryArray.from_arrays(predictions.known, [str(name) for name in HORIZONS])
    decision = pa.DictionaryArray.from_arrays(
        predictions.passes.astype(np.int8), [Decision.FAIL.value, Decision.PASS.value]
    )
    columns = [
        pa.array(lines, pa.int64()),
        pa.array([text or None for text in references or [""] * rows], pa.string()),
        pa.array(displayed_of(predictions)),
        decision.dictionary_decode(),
        pa.array(predictions.pass_probability),
        *map(pa.array, interval_of(predictions)),
        horizon.dictionary_decode(),
        pa.array(predictions.at_risk),
        pa.repeat(version, rows),
        *(
            column if isinstance(column, pa.Array) else pa.array(column, pa.string())
            for column in inputs
        ),
    ]
    names = [*OUTPUT_COLUMNS, *(name for _, name in layout.inputs)][: len(columns)]
    return _stream(pa.record_batch(columns, names=names))


def write_parquet(source: Path, destination: Path) -> None:
    """Convert a file of consecutive Arrow streams to a Parquet file."""
    with pa.OSFile(str(source)) as file:
        batches = _streams(file)
        pending = [next(batches)]
        with pq.ParquetWriter(destination, pending[0].schema) as writer:
            for batch in batches:
                pending.append(batch)
                while sum(batch.num_rows for batch in pending) >= GROUP_ROWS:
                    table = pa.Table.from_batches(pending)
                    writer.write_table(table.slice(0, GROUP_ROWS).combine_chunks())
                    pending = table.slice(GROUP_ROWS).to_batches()
            if pending:
                writer.write_table(pa.Table.from_batches(pending).combine_chunks())


def _streams(file: Any) -> Iterator[Any]:
    size = file.size()
    while file.tell() < size:
        with pa.ipc.open_stream(file) as stream:
            yield from stream


def _stream(batch: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_LZ4) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _batch(data: bytes) -> Any:
    with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
        return next(iter(stream))


def _codes(feature: Feature, column: Any) -> Floats:
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if numeric and feature.kind != "category":
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return codes_of_numbers(feature, numbers)
    encoded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
    table = CellTable(feature)
    codes = [table[_text(value).strip()] for value in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(codes)).to_numpy()
    result: Floats = np.array([*codes, table[""]])[indices]
    return result


def _text(value: Any) -> str:
    """Return a value as a person would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _texts(column: Any) -> list[str]:
    return [_text(value) for value in column.to_pylist()]


def _reject(
    line: int, cells: Sequence[Any], positions: Mapping[str, int], reference: str
) -> Reject:
    body: dict[str, Any] = {REFERENCE: reference} if reference else {}
    for name, index in positions.items():
        if name == REFERENCE:
            continue
        feature, value = feature_of(name), cells[index]
        number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if value is None or value != value or not _text(value).strip():
            if feature.nullable:
                body[name] = None
        elif number and feature.kind != "category":
            body[name] = value if isinstance(value, int) else float(value)
        else:
            body[name] = parse_cell(feature, _text(value))
    return Reject(line, require_problem(problem_of(body)), tuple(map(_text, cells)))


def rows_of(path: Path) -> int:
    """Return the number of rows of a file."""
    rows: int = pq.read_metadata(path).num_rows
    return rows
