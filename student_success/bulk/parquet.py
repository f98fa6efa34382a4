"""Parquet files: read in batches, answered by column, written in row groups of equal size.

Slices and parts are Arrow streams. A Parquet file can be read only once it is closed, so the
answers of a run gather as one stream after another, and become a Parquet file in the end.
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

from student_success.bulk.csv_reader import Refused
from student_success.bulk.output import csv_lines, refused_lines
from student_success.bulk.types import ANSWERS, Layout, Part, Position, Slice, Task, laid_out
from student_success.bulk.validation import (
    CellTable,
    Floats,
    codes_of_numbers,
    judge,
    why,
)
from student_success.bulk.worker import explained, predict
from student_success.core.errors import DatasetError
from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, Feature
from student_success.domain.tabular import REFERENCE, feature_of, value_of
from student_success.model.grading import CENTS
from student_success.model.prediction import Predictions
from student_success.model.predictor import Predictor

SLICE_ROWS = 32_768
GROUP_ROWS = 131_072
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def open_parquet(path: Path) -> tuple[Layout, Position]:
    """Read the columns' names.

    Raises
    ------
    DatasetError
        If it is no Parquet file, or a column that is needed is missing.
    """
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path.name} is not a Parquet file that can be read.") from error
    return laid_out(path.name, "parquet", tuple(names)), Position(0, 1)


def cut_parquet(path: Path, start: Position, *, size: int = SLICE_ROWS) -> Iterator[Slice]:
    """Yield the slices of a file from a position on; an empty one where there is nothing."""
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


def score_arrow(part: Slice, task: Task, predictor: Predictor) -> Part:
    """Answer for the pupils of a slice."""
    batch = _batch(part.data)
    places = task.layout.places
    references = _texts(batch.column(places[REFERENCE])) if REFERENCE in places else None
    if references is not None:
        references = [text.strip() for text in references]
    codes = {
        name: _codes(feature_of(name), batch.column(place))
        for name, place in places.items()
        if name != REFERENCE
    }
    judged = judge(codes, references, batch.num_rows)
    lines: Sequence[int] = range(part.line, part.line + batch.num_rows)
    refused = []
    if not judged.right.all():
        wrong = np.flatnonzero(~judged.right)
        written = [column.take(pa.array(wrong)).to_pylist() for column in batch.columns]
        for row, cells in zip(wrong.tolist(), zip(*written, strict=True), strict=True):
            reference = references[row] if references is not None else ""
            refused.append(_refused(lines[row], cells, places, reference))
        good = np.flatnonzero(judged.right)
        batch = batch.take(pa.array(good))
        lines = [lines[row] for row in good.tolist()]
        if references is not None:
            references = [references[row] for row in good.tolist()]
    told = predict(predictor, judged)
    wanted = task.layout.inputs if task.with_inputs else ()
    columns = [batch.column(place) for place, _ in wanted]
    version = predictor.version
    if task.output == "parquet":
        answers = arrow_stream(
            lines, references, told, version=version, inputs=columns, layout=task.layout
        )
    else:
        answers = csv_lines(
            lines,
            references or [""] * len(lines),
            told,
            version=version,
            inputs=[_texts(column) for column in columns],
        )
    return Part(answers, refused_lines(refused), len(lines), len(refused), 0)


def arrow_stream(
    lines: Sequence[int],
    references: Sequence[str] | None,
    told: Predictions,
    *,
    version: str,
    inputs: Sequence[Any],
    layout: Layout,
) -> bytes:
    """Return the answers as an Arrow stream of one batch.

    Parameters
    ----------
    inputs
        Columns to repeat, as Arrow arrays or as text.
    """
    rows = len(lines)
    horizon = pa.DictionaryArray.from_arrays(told.known, [str(name) for name in HORIZONS])
    decision = pa.DictionaryArray.from_arrays(
        told.passes.astype(np.int8), [Decision.FAIL.value, Decision.PASS.value]
    )
    columns = [
        pa.array(lines, pa.int64()),
        pa.array([text or None for text in references or [""] * rows], pa.string()),
        pa.array(told.cents / CENTS),
        decision.dictionary_decode(),
        pa.array(told.pass_probability),
        pa.array(told.low, pa.int8()),
        pa.array(told.high, pa.int8()),
        horizon.dictionary_decode(),
        pa.array(told.at_risk),
        pa.repeat(version, rows),
        *(
            column if isinstance(column, pa.Array) else pa.array(column, pa.string())
            for column in inputs
        ),
    ]
    names = [*ANSWERS, *(name for _, name in layout.inputs)][: len(columns)]
    return _stream(pa.record_batch(columns, names=names))


def finish_parquet(source: Path, destination: Path) -> None:
    """Make one Parquet file of the streams that lie one after another in a file."""
    with pa.OSFile(str(source)) as file:
        batches = _streams(file)
        waiting = [next(batches)]
        with pq.ParquetWriter(destination, waiting[0].schema) as writer:
            for batch in batches:
                waiting.append(batch)
                while sum(one.num_rows for one in waiting) >= GROUP_ROWS:
                    table = pa.Table.from_batches(waiting)
                    writer.write_table(table.slice(0, GROUP_ROWS).combine_chunks())
                    waiting = table.slice(GROUP_ROWS).to_batches()
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting).combine_chunks())


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
    places = pc.fill_null(encoded.indices.cast(pa.int64()), len(codes)).to_numpy()
    found: Floats = np.array([*codes, table[""]])[places]
    return found


def _text(value: Any) -> str:
    """Write a value as a person would."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _texts(column: Any) -> list[str]:
    return [_text(value) for value in column.to_pylist()]


def _refused(line: int, cells: Sequence[Any], places: Mapping[str, int], reference: str) -> Refused:
    body: dict[str, Any] = {REFERENCE: reference} if reference else {}
    for name, place in places.items():
        if name == REFERENCE:
            continue
        feature, value = feature_of(name), cells[place]
        number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if value is None or value != value or not _text(value).strip():
            if feature.nullable:
                body[name] = None
        elif number and feature.kind != "category":
            body[name] = value if isinstance(value, int) else float(value)
        else:
            body[name] = value_of(feature, _text(value))
    return Refused(line, explained(why(body)), tuple(map(_text, cells)))


def rows_of(path: Path) -> int:
    """Return how many rows a file has."""
    found: int = pq.read_metadata(path).num_rows
    return found
