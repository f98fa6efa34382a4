"""Read simple CSV slices with Arrow, three times as fast as with Python.

Arrow's reader treats some input differently from Python's. A slice with quotes, rows of another
width, empty lines or undecodable bytes is left to `read_csv`, so that a file means the same where
Arrow is not installed.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from student_success.bulk.types import Layout, Slice
from student_success.bulk.validation import Floats, codes_of_dictionary
from student_success.domain.tables.cells import feature_of, parse_reference
from student_success.domain.tables.columns import REFERENCE


@dataclass(frozen=True, slots=True)
class ArrowRows:
    """The rows of a slice, each of which is one line.

    Attributes
    ----------
    inputs
        Cells of the columns to repeat.
    """

    rows: int
    codes: dict[str, Floats]
    references: list[str] | None
    inputs: list[list[str]]


def read_with_arrow(part: Slice, layout: Layout, inputs: Sequence[int]) -> ArrowRows | None:
    """Read a slice by column; None if `read_csv` must read it.

    Parameters
    ----------
    inputs
        Indices of the columns to repeat.
    """
    data = part.data
    if not _installed() or not data or b'"' in data or data.startswith(codecs.BOM_UTF8):
        return None
    # Only Arrow treats a lone carriage return as a line end.
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    if layout.encoding.lower() not in ("utf-8", "utf8"):
        try:
            data = data.decode(layout.encoding).encode()
        except UnicodeDecodeError:
            return None
    columns = _columns(data, layout, inputs)
    if columns is None:
        return None
    codes = {}
    for name, index in layout.positions.items():
        if name != REFERENCE:
            column = columns[index]
            texts = column.dictionary.to_pylist()
            codes[name] = codes_of_dictionary(feature_of(name), texts, column.indices.to_numpy())
    references = None
    if REFERENCE in layout.positions:
        texts = columns[layout.positions[REFERENCE]].to_pylist()
        references = list(map(parse_reference, texts))
    cells = [columns[index].to_pylist() for index in inputs]
    return ArrowRows(len(columns[next(iter(layout.positions.values()))]), codes, references, cells)


def _columns(data: bytes, layout: Layout, inputs: Sequence[int]) -> dict[int, Any] | None:
    import pyarrow as pa
    from pyarrow import csv

    dictionary = pa.dictionary(pa.int32(), pa.string())
    features = [index for name, index in layout.positions.items() if name != REFERENCE]
    types = {str(index): pa.string() for index in (*layout.positions.values(), *inputs)}
    types |= {str(index): dictionary for index in features}
    try:
        table = csv.read_csv(
            pa.py_buffer(data),
            csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=[str(index) for index in range(len(layout.titles))],
            ),
            csv.ParseOptions(
                delimiter=layout.delimiter, quote_char=False, ignore_empty_lines=False
            ),
            csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
    except pa.ArrowInvalid:
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if table.num_rows != lines or any(column.num_chunks != 1 for column in table.columns):
        return None
    return {int(name): table.column(name).chunk(0) for name in table.column_names}


@cache
def _installed() -> bool:
    return find_spec("pyarrow") is not None
