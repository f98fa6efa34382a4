"""Write tables as CSV and XLSX files in which no cell is a formula.

Files are made in memory and saved by the reader's browser. No pupil's data are written to the disk
of the server, and no address exists at which somebody else could download them.
"""

from __future__ import annotations

import base64
import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font

Format = Literal["csv", "xlsx"]
_MEDIA_TYPES = {
    "csv": "text/csv;charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
# East Asian spreadsheets also treat the full-width characters as the start of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LINE_BREAKS = ("\t", "\r", "\n")

SAVE_SCRIPT = """
(file) => {
  if (!file || !file.data) return;
  const bytes = Uint8Array.from(atob(file.data), (c) => c.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
  link.download = file.name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
"""
"""Saves the result of `build_file` in the reader's browser."""


def build_file(
    file_format: Format,
    name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    decimal_comma: bool = False,
) -> dict[str, str]:
    """Return name, media type and content (base64) of a file, for `SAVE_SCRIPT`.

    Parameters
    ----------
    name
        File name without its ending.
    decimal_comma
        Write a CSV as French spreadsheets expect it: semicolons, and commas in numbers.
    """
    data = _xlsx(header, rows) if file_format == "xlsx" else _csv(header, rows, decimal_comma)
    return {
        "name": f"{name}.{file_format}",
        "type": _MEDIA_TYPES[file_format],
        "data": base64.b64encode(data).decode("ascii"),
    }


def escape_formula(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    if not isinstance(value, str):
        return value
    # Blanks and invisible characters before a formula do not stop a spreadsheet.
    visible = next((i for i, c in enumerate(value) if unicodedata.category(c)[0] not in "ZC"), 0)
    if value.startswith(_LINE_BREAKS) or value.startswith(_FORMULA_STARTS, visible):
        return f"'{value}"
    return value


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]], decimal_comma: bool) -> bytes:
    def written(value: Any) -> Any:
        if decimal_comma and isinstance(value, float):
            return str(value).replace(".", ",")
        return escape_formula(value)

    text = io.StringIO()
    writer = csv.writer(text, delimiter=";" if decimal_comma else ",")
    writer.writerow([escape_formula(title) for title in header])
    writer.writerows([written(value) for value in row] for row in rows)
    # With a byte order mark spreadsheets read the file as UTF-8.
    return text.getvalue().encode("utf-8-sig")


def _xlsx(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    def written(value: Any) -> Any:
        # An XLSX file cannot hold control characters.
        value = escape_formula(value)
        return ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value

    book = Workbook(write_only=True)
    sheet = book.create_sheet("1")
    sheet.freeze_panes = "A2"
    titles = [WriteOnlyCell(sheet, value=written(title)) for title in header]
    for cell in titles:
        cell.font = Font(bold=True)
    sheet.append(titles)
    for row in rows:
        sheet.append([written(value) for value in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
