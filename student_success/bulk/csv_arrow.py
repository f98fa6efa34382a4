"""CSV slices read by Arrow, three times as fast as by Python; where both would say the same.

Arrow's reader is not Python's: a slice with quotes, ragged rows, empty lines or bytes that are no
text is left to `read_csv`, so that a file means the same wherever Arrow is not installed.
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
from student_success.domain.tabular import REFERENCE, feature_of


@dataclass(frozen=True, slots=True)
class Quick:
    """The rows of a slice, each of them one line of it.

    Attributes
    ----------
    inputs
        Cells of the columns asked for.
    """

    rows: int
    codes: dict[str, Floats]
    references: list[str] | None
    inputs: list[list[str]]


def read_quickly(part: Slice, layout: Layout, inputs: Sequence[int]) -> Quick | None:
    """Read a slice by column; None if that is for `read_csv` to do.

    Parameters
    ----------
    inputs
        Places of columns whose cells are wanted too.
    """
    data = part.data
    if not _installed() or not data or b'"' in data or data.startswith(codecs.BOM_UTF8):
        return None
    # A lone carriage return ends a line for Arrow, and for nobody else.
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
    for name, place in layout.places.items():
        if name != REFERENCE:
            column = columns[place]
            texts = column.dictionary.to_pylist()
            codes[name] = codes_of_dictionary(feature_of(name), texts, column.indices.to_numpy())
    references = None
    if REFERENCE in layout.places:
        written = columns[layout.places[REFERENCE]].to_pylist()
        references = [text.strip() for text in written]
    cells = [columns[place].to_pylist() for place in inputs]
    return Quick(len(columns[next(iter(layout.places.values()))]), codes, references, cells)


def _columns(data: bytes, layout: Layout, inputs: Sequence[int]) -> dict[int, Any] | None:
    import pyarrow as pa
    from pyarrow import csv

    coded = pa.dictionary(pa.int32(), pa.string())
    features = [place for name, place in layout.places.items() if name != REFERENCE]
    types = {str(place): pa.string() for place in (*layout.places.values(), *inputs)}
    types |= {str(place): coded for place in features}
    try:
        table = csv.read_csv(
            pa.py_buffer(data),
            csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=[str(place) for place in range(len(layout.titles))],
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
