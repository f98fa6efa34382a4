"""Read tables of pupils of any size in parts of whole rows: text, spreadsheets and Parquet.

Encoding, delimiter, header and columns are recognised by the reader of class lists from the
beginning of the file, so that a table means the same to both.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from student_success.bulk.output import COMPRESSIONS, OWN_TITLES, PARQUET, texts_of
from student_success.core.errors import DatasetError
from student_success.domain.tables.columns import REFERENCE, Choices, find_columns, pupil_columns
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.pupils import read_pupil
from student_success.domain.tables.reader import Table, read_table
from student_success.domain.tables.spreadsheet import OLE_START, ZIP_START
from student_success.domain.tables.text import records

PART_CHARACTERS, PART_ROWS = 2 << 20, 32_768
LONGEST_RECORD = 64 << 20
"""In characters; a file with a longer line is not a table."""
_SAMPLE_BYTES, _SAMPLE_ROWS, _SHEET_ROWS = 1 << 20, 1_000, 1 << 20
_UNDECODABLE = re.compile("[\udc80-\udcff]")

Reject = tuple[Any, ...]
"""A row that cannot be scored: line, columns concerned, reason, and its cells."""


class Part(NamedTuple):
    """Consecutive rows of a file: Arrow arrays, and the line of each row; of Parquet its number.

    `rejects` are rows that cannot be read and are not in the columns; `done` is how many bytes of
    the file are read by their end.
    """

    columns: list[Any]
    lines: NDArray[np.int64]
    rejects: list[Reject]
    done: int = 0


def read_layout(path: Path, choices: Choices | None = None) -> Table:
    """Recognise encoding, delimiter, header and columns of a file; return them without its rows.

    Raises
    ------
    DatasetError
        If it is not a readable table, or its columns cannot be used without a choice.
    """
    with _named(path):
        table = (
            _parquet_sample(path, choices)
            if path.suffix.lower() in PARQUET
            else _table(_start(path), choices, _SHEET_ROWS)
            if _is_sheet(path)
            else _text_sample(path, choices)
        )
    if problems := (*table.columns.problems, *table.columns.questions):
        raise DatasetError(
            f"The columns of {path.name} cannot be used: {' '.join(map(str, problems))} "
            "--mapping FILE says what each column holds."
        )
    return replace(table, rows=(), invalid=(), marks={})


def read_parts(
    path: Path, layout: Table, choices: Choices | None = None, *, size: int | None = None
) -> Iterator[Part]:
    """Yield the rows of a file in parts; one empty part if there are none.

    Parameters
    ----------
    size
        Of a part: in characters of a text file, in rows of a Parquet file.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    with _named(path):
        if path.suffix.lower() in PARQUET:
            yield from _parquet_parts(path, size or PART_ROWS)
        elif layout.delimiter:
            yield from _text_parts(path, layout, size or PART_CHARACTERS)
        else:
            yield _sheet_part(path, choices)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise the errors of the readers with the name of the file."""
    try:
        yield
    except TableError as error:
        raise DatasetError(f"{path.name}: {error.message}") from error
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise DatasetError(f"{path.name} cannot be read, or not to its end: {error}.") from error


def _unpacked(path: Path, raw: Any) -> Any:
    compression = COMPRESSIONS.get(path.suffix.lower())
    return raw if compression is None else pa.CompressedInputStream(raw, compression)


def _start(path: Path, size: int | None = None) -> bytes:
    with path.open("rb") as raw:
        return bytes(_unpacked(path, raw).read(size))


def _is_sheet(path: Path) -> bool:
    return _start(path, len(OLE_START)).startswith((ZIP_START, OLE_START))


def _table(data: bytes, choices: Choices | None, max_rows: int) -> Table:
    options: dict[str, Any] = {"own_titles": OWN_TITLES, "rows_required": False}
    return read_table(data, pupil_columns(), choices, max_rows=max_rows, **options)


def _text_sample(path: Path, choices: Choices | None) -> Table:
    """Read the beginning of a text file as a class list."""
    sample = _start(path, _SAMPLE_BYTES)
    if len(sample) == _SAMPLE_BYTES:
        end = (sample.rfind(b"\n") if b"\n" in sample else sample.rfind(b"\r")) + 1
        # In UTF-16 a character has two bytes.
        sample = sample[: end + end % 2 if b"\0" in sample else end]
    choices = choices or Choices()
    encoding = choices.encoding
    if encoding is not None:
        # A row in another encoding is rejected later.
        try:
            sample = sample.decode(encoding, "replace").encode()
        except LookupError:
            raise DatasetError(f"There is no encoding {encoding}.") from None
        choices = replace(choices, encoding="utf-8")
    while True:
        try:
            table = _table(sample, choices, _SAMPLE_BYTES)
            titles = (*table.titles, *[""] * (table.width - len(table.titles)))
            return replace(table, titles=titles, encoding=encoding or table.encoding)
        except TableError as error:
            # A row that is not CSV is rejected later; the header above it can be read.
            at = error.problem.values.get("at", 1) - 1
            if error.problem.code != "broken_quotes" or not at:
                raise
            sample = b"".join(sample.splitlines(keepends=True)[:at])


def _text_parts(path: Path, layout: Table, size: int) -> Iterator[Part]:
    with path.open("rb") as raw:
        # Bytes that cannot be decoded are kept, so that their row is rejected as it is.
        text = io.TextIOWrapper(_unpacked(path, raw), layout.encoding, "surrogateescape")
        for _ in range(layout.header_line - 1):
            text.readline()
        header = csv.reader(iter(text.readline, ""), delimiter=layout.delimiter)
        next(header)
        first = line = layout.header_line + header.line_num
        while block := text.read(size):
            block += (end := text.readline(LONGEST_RECORD))
            if len(end) == LONGEST_RECORD:
                raise DatasetError(f"{path.name} is not a table: line {line} does not end.")
            count = block.count("\n") + (not block.endswith("\n"))
            columns = _read_plain(block, layout)
            if columns is None or len(columns[0]) != count:
                part, count = _read_records(block, count, text, layout, line)
            else:
                part = Part(columns, np.arange(line, line + count), [])
            yield part._replace(done=raw.tell())
            line += count
        if line == first:
            yield _part_of([], layout.width, [])


def _is_regular(block: str, delimiter: str) -> bool:
    """Tell whether each cell has no quotes, or is quoted whole with no quote or line end in it."""
    if '"' not in block:
        return True
    end = re.escape(delimiter) + "\n"
    cell = f'(?:"[^"\n]*+"|[^"{end}]*+)'
    return re.fullmatch(f"(?:{cell}[{end}])*+{cell}", block) is not None


def _read_plain(block: str, layout: Table) -> list[Any] | None:
    """Read lines with pyarrow, several times as fast as the csv module; None if it may be wrong.

    With irregular quotes it would not say on which line a record is, would read all lines below a
    quote that is never closed as one cell, and would join what stands beside a quoted text to it.
    """
    if not _is_regular(block, layout.delimiter):
        return None
    features = {index for name, index in layout.columns.positions.items() if name != REFERENCE}
    text, repeated = pa.string(), pa.dictionary(pa.int32(), pa.string())
    types = {str(i): repeated if i in features else text for i in range(layout.width)}
    try:
        data = block.encode()
        table = arrow_csv.read_csv(
            pa.py_buffer(data),
            arrow_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[*types]
            ),
            arrow_csv.ParseOptions(delimiter=layout.delimiter, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(column_types=types),
        )
    except (UnicodeEncodeError, pa.ArrowInvalid):
        # Bytes that could not be decoded, or a row of another width.
        return None
    return [column.combine_chunks() for column in table.columns]


def _read_records(
    block: str, count: int, text: IO[str], layout: Table, line: int
) -> tuple[Part, int]:
    """Read lines of any content, and those below to which the last record goes on.

    Return their number too.
    """
    rows: list[tuple[int, Sequence[str]]] = []
    rejects: list[Reject] = []
    seen: list[str] = []

    def lines() -> Iterator[str]:
        for content in chain(io.StringIO(block, newline="\n"), iter(text.readline, "")):
            seen.append(content)
            yield content

    for above, cells in records(lines(), layout.delimiter):
        if isinstance(cells, csv.Error):
            for at in range(above, len(seen)):
                rejects.append((line + at, "", f"is not CSV: {cells}", seen[at].rstrip("\n")))
        elif not any(map(str.strip, cells)):
            rows.append((line + above, [""] * layout.width))
        elif len(cells) != layout.width:
            words = f"has {len(cells)} cells where the header has {layout.width}"
            rejects.append((line + above, "", words, *cells))
        elif not (joined := "".join(cells)).isascii() and _UNDECODABLE.search(joined):
            rejects.append((line + above, "", f"is not {layout.encoding}", *cells))
        else:
            rows.append((line + above, cells))
        if len(seen) >= count:
            break
    return _part_of(rows, layout.width, rejects), len(seen)


def _part_of(rows: Sequence[tuple[int, Sequence[str]]], width: int, rejects: list[Reject]) -> Part:
    columns = list(zip(*(cells for _, cells in rows), strict=True)) or [()] * width
    lines = np.array([line for line, _ in rows], np.int64)
    return Part([pa.array(column, pa.string()) for column in columns], lines, rejects)


def _sheet_part(path: Path, choices: Choices | None) -> Part:
    table = _table(_start(path), choices, _SHEET_ROWS)
    rows, rejects = [], []
    for line, cells in table.rows:
        marked = table.marked(line)
        found = read_pupil(line, table.texts(cells), marked) if marked else None
        if isinstance(found, list):
            words = "; ".join(f"{problem.column}: {problem.text.en}" for problem in found)
            rejects.append((line, "; ".join(p.column for p in found), words, *cells))
        else:
            rows.append((line, [" ".join(cell.splitlines()) for cell in cells]))
    return _part_of(rows, len(table.titles), rejects)._replace(done=path.stat().st_size)


def _parquet_sample(path: Path, choices: Choices | None) -> Table:
    with pq.ParquetFile(path) as file:
        titles = tuple(file.schema_arrow.names)
        first = next(file.iter_batches(batch_size=_SAMPLE_ROWS), None)
    columns = [] if first is None else [texts_of(column).to_pylist() for column in first.columns]
    cells = list(zip(*columns, strict=True))
    found = find_columns(titles, pupil_columns(), cells, choices, OWN_TITLES)
    return Table(titles, found, (), (), {}, found.notes, None, "", 1, len(titles), "")


def _parquet_parts(path: Path, size: int) -> Iterator[Part]:
    length = path.stat().st_size
    with pq.ParquetFile(path) as file:
        above, total = 0, file.metadata.num_rows
        empty = pa.RecordBatch.from_pylist([], file.schema_arrow)
        batches = file.iter_batches(batch_size=size, use_threads=False)
        for batch in batches if total else [empty]:
            lines = above + 1 + np.arange(batch.num_rows)
            above += batch.num_rows
            yield Part(batch.columns, lines, [], done=length * above // max(total, 1))
