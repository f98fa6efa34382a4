"""Read an uploaded CSV or XLSX as lines of text, within bounds, whatever it holds."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from openpyxl import load_workbook

from student_success.domain.tabular import DELIMITERS

MAX_ROWS = 10_000
MAX_COLUMNS = 200
MAX_CELL = 1_000
MAX_UNPACKED = 200 << 20
"""An XLSX is a ZIP: what it unpacks to is bounded before it is unpacked."""


@dataclass(frozen=True, slots=True)
class UnreadableError(Exception):
    """The file as a whole cannot be read; `key` is the text that says why."""

    key: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A header, and the lines under it with their number in the file."""

    header: list[str]
    lines: list[tuple[int, list[str]]]


def read(data: bytes, name: str) -> Sheet:
    """Read a file by what it is, not by what its name says.

    Raises
    ------
    UnreadableError
        If it is empty, no table, or too large.
    """
    if not data.strip():
        raise UnreadableError("file.empty")
    if data.startswith(b"PK\x03\x04"):
        rows = _xlsx(data)
    elif data.startswith(b"\xd0\xcf\x11\xe0") or name.lower().endswith((".xls", ".ods")):
        raise UnreadableError("file.old_excel")
    else:
        rows = _csv(data)
    lines: list[tuple[int, list[str]]] = []
    header: list[str] | None = None
    for number, cells in rows:
        if len(cells) > MAX_COLUMNS:
            raise UnreadableError("file.too_wide")
        if not any(cells):
            continue
        if header is None:
            header = cells
            continue
        if len(lines) == MAX_ROWS:
            raise UnreadableError("file.too_long")
        lines.append((number, cells))
    if header is None or not lines:
        raise UnreadableError("file.no_rows")
    return Sheet(header, lines)


def _csv(data: bytes) -> Iterator[tuple[int, list[str]]]:
    text = _decoded(data)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    before = 0
    try:
        for cells in reader:
            yield before + 1, [cell.strip()[:MAX_CELL] for cell in cells]
            before = reader.line_num
    except csv.Error:
        raise UnreadableError("file.not_a_table") from None


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise UnreadableError("file.not_a_table")


def _xlsx(data: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(member.file_size for member in packed.infolist()) > MAX_UNPACKED:
                raise UnreadableError("file.too_large")
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        sheet = book.worksheets[0]
        # What the file claims of its own size may be wrong, or enormous.
        sheet.reset_dimensions()
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            written = [_written(cell) for cell in cells]
            while written and not written[-1]:
                written.pop()
            yield number, written
    except UnreadableError:
        raise
    except Exception:  # openpyxl raises whatever its parsers do on a damaged file.
        raise UnreadableError("file.not_a_table") from None


def _written(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()[:MAX_CELL]
