"""Arrow data as bytes, to be sent to another process, and as text."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas, which takes a second and is not used in scoring.

    Call it only in a process that never gives pyarrow and pandas the same data.
    """
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        # pyarrow tries to import it once, with the first list.
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def text_of(value: Any) -> str:
    """Return a value as a person would write it."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def texts_of(column: Any) -> Any:
    """Return an Arrow array as text; what is missing is empty."""
    if pa.types.is_string(column.type):
        return pc.fill_null(column, "")
    return pa.array(list(map(text_of, column.to_pylist())), pa.string())


def pack(rows: Any) -> bytes:
    """Return a batch or table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write(rows)
    return bytes(sink.getvalue())


def unpack(content: bytes) -> Any:
    """Return the table of an Arrow stream."""
    with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
        return stream.read_all()
