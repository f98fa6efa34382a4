"""Read an uploaded CSV or XLSX file as lines of text, within fixed limits."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from openpyxl import load_workbook

from student_success.domain.tabular import guess_delimiter

MAX_ROWS = 10_000
MAX_COLUMNS = 200
MAX_CELL_CHARACTERS = 1_000
MAX_UNPACKED_BYTES = 200 << 20
"""Limit for the content of an XLSX file, which is a ZIP archive; checked before it is unpacked."""


@dataclass(frozen=True, slots=True)
class UnreadableError(Exception):
    """The file cannot be read; `key` names the text that explains why."""

    key: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A header, and the lines below it with their number in the file."""

    header: list[str]
    lines: list[tuple[int, list[str]]]


def read_sheet(data: bytes, name: str) -> Sheet:
    """Read a file; its format is recognised by its content, not by its name.

    Raises
    ------
    UnreadableError
        If it is empty, too large, or not a table.
    """
    if not data.strip():
        raise UnreadableError("file.empty")
    if data.startswith(b"PK\x03\x04"):
        rows = _xlsx_rows(data)
    elif data.startswith(b"\xd0\xcf\x11\xe0") or name.lower().endswith((".xls", ".ods")):
        raise UnreadableError("file.old_excel")
    else:
        rows = _csv_rows(data)
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


def _csv_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    text = _decode(data)
    delimiter = guess_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines_before = 0
    try:
        for cells in reader:
            yield lines_before + 1, [cell.strip()[:MAX_CELL_CHARACTERS] for cell in cells]
            lines_before = reader.line_num
    except csv.Error:
        raise UnreadableError("file.not_a_table") from None


def _decode(data: bytes) -> str:
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise UnreadableError("file.not_a_table")


def _xlsx_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise UnreadableError("file.too_large")
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        sheet = book.worksheets[0]
        # The size that a file states for its sheet may be wrong, or enormous.
        sheet.reset_dimensions()
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            texts = [_cell_text(cell) for cell in cells]
            while texts and not texts[-1]:
                texts.pop()
            yield number, texts
    except UnreadableError:
        raise
    except Exception:  # openpyxl raises arbitrary exception types for damaged files.
        raise UnreadableError("file.not_a_table") from None


def _cell_text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()[:MAX_CELL_CHARACTERS]
