"""Write predictions and rejected rows: CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from student_success.bulk.arrow import unpack
from student_success.bulk.reader import COMPRESSIONS, OUTPUT_COLUMNS, PARQUET, Reject
from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, SCALE
from student_success.model.prediction import Predictions


def table_of(
    lines: NDArray[np.int64],
    references: Any,
    predictions: Predictions,
    *,
    version: str,
    unusual: Mapping[str, NDArray[np.bool_]],
    others: Mapping[str, Any] | None = None,
) -> Any:
    """Return predictions as an Arrow table, one row a pupil.

    Parameters
    ----------
    unusual
        As `TrainingRange.unusual_columns` returns it.
    references, others
        Arrow arrays: of the references, and of further columns by name.
    """
    shown, grades = _grades()
    ends = grades[predictions.low], grades[predictions.high]
    columns = [
        lines,
        pc.if_else(pc.equal(references, ""), None, references),
        shown[predictions.hundredths],
        _named(predictions.passes, [Decision.FAIL.value, Decision.PASS.value]),
        predictions.pass_probability,
        # A lower level may be a higher grade.
        np.minimum(*ends),
        np.maximum(*ends),
        _named(predictions.known, [str(name) for name in HORIZONS]),
        predictions.at_risk,
        pa.repeat(version, len(lines)),
        _unusual(unusual, len(lines)),
    ]
    named = dict(zip(OUTPUT_COLUMNS, map(_array, columns), strict=True)) | dict(others or {})
    return pa.table(list(named.values()), names=list(named))


def _unusual(features: Mapping[str, NDArray[np.bool_]], count: int) -> Any:
    """Return the names of the unusual features of each pupil, separated by spaces; null if none."""
    if not features:
        return pa.nulls(count, pa.string())
    names = [pc.if_else(pa.array(far), f"{name} ", "") for name, far in features.items()]
    joined = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(*names, ""))
    return pc.if_else(pc.equal(joined, ""), None, joined)


def _array(column: Any) -> Any:
    return pa.array(column) if isinstance(column, np.ndarray) else column


def _named(numbers: NDArray[Any], names: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(numbers.astype(np.int8), names).dictionary_decode()


@cache
def _grades() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return each grade by hundredths above the worst one, and each that exists by its level."""
    shown = [SCALE.displayed(part) for part in range(SCALE.highest * SCALE.parts + 1)]
    grades = [SCALE.grade(level) for level in range(SCALE.highest + 1)]
    # The smallest type of whole numbers that holds them all.
    kind = np.min_scalar_type(-round(max(map(abs, grades))))
    return np.array(shown), np.array(grades, dtype=kind if SCALE.is_whole else np.float64)


def csv_lines(table: Any) -> bytes:
    """Return one line a row."""
    if not table.num_rows:
        return b""
    cells = [_cells(column.combine_chunks()) for column in table.columns]
    cells[-1] = pc.binary_join_element_wise(cells[-1], "\n", "")
    lines = pc.binary_join_element_wise(*cells, ",")
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "")
    return bytes(joined[0].as_buffer())


def _cells(column: Any) -> Any:
    if pa.types.is_floating(column.type):
        distinct = column.dictionary_encode()
        texts = [repr(number) for number in distinct.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(distinct.indices, texts).dictionary_decode()
    cells = pc.fill_null(column.cast(pa.string()), "")
    special = pc.match_substring_regex(cells, '[,"\r\n]')
    if pc.any(special).as_py():
        quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
        cells = pc.if_else(special, quoted, cells)
    return cells


def reject_lines(rejects: Iterable[Reject]) -> bytes:
    """Return one line a rejected row, in the order of the input."""
    ordered = sorted(rejects, key=lambda row: row.line)
    return lines_of((str(row.line), row.column, row.problem, *row.cells) for row in ordered)


def lines_of(rows: Iterable[Sequence[str]]) -> bytes:
    """Return rows as lines of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Write bytes that could not be decoded as they were read.
    return text.getvalue().encode("utf-8", "surrogateescape")


def open_output(path: Path, name: str, titles: Sequence[str]) -> Any:
    """Open a file for predictions, with `write` and `close`; the ending of `name` is its format."""
    if name.lower().endswith(PARQUET):
        return _ParquetOutput(path)
    compression = COMPRESSIONS.get(Path(name).suffix.lower())
    file = pa.CompressedOutputStream(str(path), compression) if compression else path.open("wb")
    file.write(lines_of([titles]))
    return file


class _ParquetOutput:
    """A Parquet file of Arrow streams, each one row group."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer: Any = None

    def write(self, content: bytes) -> None:
        table = unpack(content)
        self._writer = self._writer or pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.close()
