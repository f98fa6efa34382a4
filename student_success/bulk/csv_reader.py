"""Cut CSV files into slices of whole records, and read slices by column.

Records are those of Python's `csv` module: quoted cells may hold delimiters and line ends. Lines
are counted as in an editor, so that a rejected row can be found.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from student_success.bulk.types import Layout, Position, Slice, make_layout
from student_success.core.errors import DatasetError
from student_success.domain.tables.columns import Choices, count_titles, pupil_columns
from student_success.domain.tables.grid import HEADER_LINES
from student_success.domain.tables.text import choose_delimiter, guess_encoding

SLICE_BYTES = 2 << 20
LONGEST_BYTES = 64 << 20
"""Longest record; a file with a longer one is not a table."""
_HEADER_BYTES = 1 << 20
_SENTINEL = "\0end"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be scored."""

    line: int
    problem: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CsvRows:
    """The records of a slice that are as wide as the header, by column.

    Attributes
    ----------
    lines
        Line of each record.
    columns
        Cells as they stand in the file.
    """

    lines: list[int] | range
    columns: list[tuple[str, ...]]
    rejects: list[Reject]
    blank: int


def open_csv(
    path: Path, *, encoding: str | None, choices: Choices | None = None
) -> tuple[Layout, Position]:
    """Read the header.

    Parameters
    ----------
    encoding
        If None: UTF-8, or the one that gives words if the beginning of the file is not UTF-8.

    Raises
    ------
    DatasetError
        If there is none, or a required column is missing.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
        whole = len(start) < _HEADER_BYTES
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DatasetError(f"{path.name} is UTF-16: save it as CSV in UTF-8.")
    if start.startswith(b"PK\x03\x04"):
        raise DatasetError(f"{path.name} is a ZIP file, perhaps a spreadsheet: save it as CSV.")
    encoding = encoding or _guess_encoding(start, whole=whole)
    mark = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
    text = start[mark:].decode(encoding, "replace")
    recognise = partial(count_titles, columns=pupil_columns())
    delimiter, dropped = choose_delimiter(text, recognise)
    lines: list[tuple[int, list[str]]] = []
    reader = _reader(text, delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and reader.line_num > dropped:
                lines.append((reader.line_num, [title.strip() for title in row]))
            if len(lines) == HEADER_LINES:
                break
    except csv.Error as error:
        if not lines:
            raise DatasetError(f"The header of {path.name} cannot be read: {error}.") from error
    if not lines:
        raise DatasetError(f"{path.name} is empty.")
    header_line, titles = max(lines, key=lambda line: recognise(line[1]))
    layout = make_layout(
        path.name,
        "csv",
        tuple(titles),
        delimiter=delimiter,
        encoding=encoding,
        choices=choices,
    )
    return layout, Position(_after_lines(start, header_line), header_line + 1)


def cut_csv(
    path: Path, layout: Layout, start: Position, *, size: int = SLICE_BYTES
) -> Iterator[Slice]:
    """Yield the slices of a file from a position on; one empty slice if there are no records.

    Raises
    ------
    DatasetError
        If a record does not end within `LONGEST_BYTES`.
    """
    offset, line = start.offset, start.line
    with path.open("rb") as file:
        file.seek(offset)
        rest = b""
        while block := file.read(size):
            rest += block
            cut = _last_record_end(rest, layout)
            if cut:
                data, rest = rest[:cut], rest[cut:]
                first, offset, line = line, offset + cut, line + data.count(b"\n")
                yield Slice(data, first, Position(offset, line))
            elif len(rest) > LONGEST_BYTES:
                raise DatasetError(
                    f"{path.name} has no line end for {LONGEST_BYTES >> 20} MB from line {line} on."
                )
        if rest or offset == start.offset:
            yield Slice(rest, line, Position(offset + len(rest), line + rest.count(b"\n")))


def read_csv(part: Slice, layout: Layout) -> CsvRows:
    """Read a slice by column, and reject records that are not as wide as the header."""
    try:
        text, decodable = part.data.decode(layout.encoding), True
    except UnicodeDecodeError:
        text, decodable = part.data.decode(layout.encoding, "surrogateescape"), False
    rows, lines, rejects = _records(text, layout.delimiter, part.line)
    width = len(layout.titles)
    blank = 0
    if not decodable or set(map(len, rows)) != {width} or not all(map(any, rows)):
        kept_rows, kept_lines = [], []
        for line, row in zip(lines, rows, strict=True):
            problem = _problem(row, width, layout.encoding, decodable=decodable)
            if not any(row):
                blank += 1
            elif problem:
                rejects.append(Reject(line, problem, tuple(row)))
            else:
                kept_rows.append(row)
                kept_lines.append(line)
        rows, lines = kept_rows, kept_lines
    columns = list(zip(*rows, strict=True)) or [()] * width
    return CsvRows(lines, columns, rejects, blank)


def _problem(row: list[str], width: int, encoding: str, *, decodable: bool) -> str:
    if len(row) != width:
        return f"has {len(row)} cells where the header has {width}"
    if not decodable and any(not cell.isprintable() and _escaped(cell) for cell in row):
        return f"is not {encoding}"
    return ""


def _escaped(cell: str) -> bool:
    """Tell whether a cell holds a byte that could not be decoded."""
    return any("\udc80" <= letter <= "\udcff" for letter in cell)


def _records(
    text: str, delimiter: str, line: int
) -> tuple[list[list[str]], list[int] | range, list[Reject]]:
    reader = _reader(text, delimiter)
    if '"' not in text:
        try:
            found = list(reader)
            return found, range(line, line + len(found)), []
        except csv.Error:
            reader = _reader(text, delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return rows, lines, rejects
        except csv.Error as error:
            # The reader continues with the next line. Reject the lines it has read, one by one.
            broken = text.split("\n")[before : reader.line_num]
            rejects += [
                Reject(line + before + number, f"is not CSV: {error}", (raw,))
                for number, raw in enumerate(broken)
            ]
        else:
            rows.append(row)
            lines.append(line + before)


def _last_record_end(data: bytes, layout: Layout) -> int:
    """Return the end of the last record that is certainly complete; 0 if none is."""
    end = data.rfind(b"\n") + 1
    if not end or b'"' not in data:
        return end
    # To find quotes and delimiters, every extension of ASCII is alike. A line is appended: if the
    # last record is incomplete, the reader takes this line for a part of its quoted cell.
    text = data[:end].decode("latin-1") + _SENTINEL
    with contextlib.suppress(csv.Error):
        if deque(_reader(text, layout.delimiter), maxlen=1)[0] == [_SENTINEL]:
            return end
    records = _reader(text, layout.delimiter)
    before, row = 0, [""]
    while True:
        line = records.line_num
        try:
            row = next(records)
        except StopIteration:
            break
        except csv.Error:
            row = [""]
        before = line
    return end if row == [_SENTINEL] else _after_lines(data, before)


def _reader(text: str, delimiter: str) -> Any:
    # Only a line feed ends a line: a lone carriage return makes its record invalid.
    return csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter)


def _after_lines(data: bytes, lines: int) -> int:
    end = 0
    for _ in range(lines):
        end = data.find(b"\n", end) + 1
        if not end:
            return len(data)
    return end


def _guess_encoding(start: bytes, *, whole: bool) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start, final=whole)
    except UnicodeDecodeError:
        return guess_encoding(start if whole else start[: start.rfind(b"\n") + 1])
    return "utf-8"
