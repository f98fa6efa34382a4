"""Tables as files: CSV and XLSX whose cells are never formulas.

Files are made in memory and saved by the reader's own browser: nothing of a pupil is written to
the server's disk, and there is no address at which somebody else could fetch it.
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

Kind = Literal["csv", "xlsx"]
_TYPES = {
    "csv": "text/csv;charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
# Wide ones too: a spreadsheet in an East Asian language takes them for the others.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_BREAKS = ("\t", "\r", "\n")

SAVE = """
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
"""Saves what `packed` made; runs in the reader's browser."""


def packed(
    kind: Kind,
    name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    decimal_comma: bool = False,
) -> dict[str, str]:
    """Return a file for `SAVE`.

    Parameters
    ----------
    decimal_comma
        Write a CSV as a French spreadsheet reads it: semicolons, and commas in numbers.
    """
    data = _xlsx(header, rows) if kind == "xlsx" else _csv(header, rows, decimal_comma)
    return {
        "name": f"{name}.{kind}",
        "type": _TYPES[kind],
        "data": base64.b64encode(data).decode("ascii"),
    }


def harmless(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    if isinstance(value, str) and (value.startswith(_BREAKS) or _seen(value).startswith(_FORMULA)):
        return f"'{value}"
    return value


def _seen(text: str) -> str:
    """Return a text from its first character that is neither blank nor invisible."""
    for place, letter in enumerate(text):
        if unicodedata.category(letter)[0] not in "ZC":
            return text[place:]
    return ""


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]], decimal_comma: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";" if decimal_comma else ",")
    writer.writerow([harmless(title) for title in header])
    for row in rows:
        writer.writerow([_cell(harmless(value), decimal_comma) for value in row])
    # The mark at the start tells spreadsheets that accents are UTF-8.
    return text.getvalue().encode("utf-8-sig")


def _cell(value: Any, decimal_comma: bool) -> Any:
    if decimal_comma and isinstance(value, float):
        return str(value).replace(".", ",")
    return value


def _storable(value: Any) -> Any:
    """Drop the control characters that an XLSX cannot hold."""
    return ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value


def _xlsx(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    book = Workbook(write_only=True)
    sheet = book.create_sheet("1")
    sheet.freeze_panes = "A2"
    titles = []
    for title in header:
        cell = WriteOnlyCell(sheet, value=_storable(harmless(title)))
        cell.font = Font(bold=True)
        titles.append(cell)
    sheet.append(titles)
    for row in rows:
        sheet.append([_storable(harmless(value)) for value in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
