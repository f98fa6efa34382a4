"""Write predictions and rejected rows: CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, PREDICTED, SCALE
from student_success.domain.tables.cells import normalise, text_of
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.outcomes import PREDICTION, SESSION
from student_success.domain.tables.reader import Table
from student_success.model.grading import GRADES, SHOWN
from student_success.model.prediction import Predictions

PARQUET = (".parquet", ".pq")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
OUTPUT_COLUMNS = (
    *("line", REFERENCE, PREDICTED, "decision", "pass_probability"),
    *("interval_low", "interval_high", "horizon", "at_risk", "model_version", "unusual"),
)
"""Columns of the output: the line of the pupil in the input, then the fields of `/predict`."""
RECORDED_COLUMNS = (SESSION, PREDICTION)
"""Further columns of predictions that are recorded in the history."""
REJECT_COLUMNS = ("line", "column", "problem")
"""Columns of rejected rows; the cells of the row follow."""
OWN_TITLES = frozenset(map(normalise, (*OUTPUT_COLUMNS, *RECORDED_COLUMNS, *REJECT_COLUMNS)))

_SHOWN = np.array(SHOWN)
# The smallest type of whole numbers that holds them all.
_WHOLE = np.min_scalar_type(-1 - round(max(map(abs, GRADES))))
_GRADES = np.array(GRADES, dtype=_WHOLE if SCALE.is_whole else np.float64)


def input_titles(layout: Table) -> dict[str, int]:
    """Return the output name and the index of the columns that `--with-inputs` repeats."""
    own = (*OUTPUT_COLUMNS, *RECORDED_COLUMNS)
    return {
        f"{title}_input" if title in own else title: index
        for index, title in enumerate(layout.titles)
        if title and index != layout.columns.positions.get(REFERENCE)
    }


def table_of(
    lines: NDArray[np.int64],
    references: Any,
    predictions: Predictions,
    version: str,
    *,
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
    ends = _GRADES[predictions.low], _GRADES[predictions.high]
    columns = [
        lines,
        pc.if_else(pc.equal(references, ""), None, references),
        _SHOWN[predictions.hundredths],
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
    return pa.table(dict(zip(OUTPUT_COLUMNS, columns, strict=True)) | dict(others or {}))


def _unusual(features: Mapping[str, NDArray[np.bool_]], count: int) -> Any:
    """Return the names of the unusual features of each pupil, separated by spaces; null if none."""
    if not features:
        return pa.nulls(count, pa.string())
    names = [pc.if_else(pa.array(far), f"{name} ", "") for name, far in features.items()]
    joined = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(*names, ""))
    return pc.if_else(pc.equal(joined, ""), None, joined)


def _named(numbers: NDArray[Any], names: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(numbers.astype(np.int8), names).dictionary_decode()


def csv_lines(table: Any) -> bytes:
    """Return one line a row, with the digits of the API."""
    columns = [_exact(column.combine_chunks()) for column in table.columns]
    sink = pa.BufferOutputStream()
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    try:
        arrow_csv.write_csv(pa.table(columns, names=table.column_names), sink, options)
    except pa.ArrowInvalid:
        # A cell needs quotes. pyarrow would put them around every text.
        texts = [column.cast(pa.string()).to_pylist() for column in columns]
        return lines_of(zip(*texts, strict=True))
    return bytes(sink.getvalue())


def _exact(column: Any) -> Any:
    """Return floating-point numbers as Python writes them; pyarrow writes 5.0 as 5."""
    if not pa.types.is_floating(column.type):
        return column
    distinct = column.dictionary_encode()
    texts = [repr(number) for number in distinct.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(distinct.indices, texts).dictionary_decode()


def texts_of(column: Any) -> Any:
    """Return an Arrow array as text; what is missing is empty."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        return pc.fill_null(column, "")
    return pa.array(list(map(text_of, column.to_pylist())), pa.string())


def lines_of(rows: Iterable[Sequence[Any]]) -> bytes:
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
    """A Parquet file of Arrow tables, each one row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, table: Any) -> None:
        self._writer = self._writer or pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
