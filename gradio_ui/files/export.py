"""Write tables as CSV and XLSX files in which no cell is a formula.

Files are made in memory and saved by the reader's browser. No pupil's data are written to the disk
of the server, and no address exists at which somebody else could download them.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from xlsxwriter import Workbook

from student_success.domain.tables.cells import escape_formula

Format = Literal["csv", "xlsx"]
_MEDIA_TYPES = {
    "csv": "text/csv;charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

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


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]], decimal_comma: bool) -> bytes:
    def written(value: Any) -> Any:
        if decimal_comma and isinstance(value, float):
            return str(value).replace(".", ",")
        return escape_formula(value) if isinstance(value, str) else value

    text = io.StringIO()
    writer = csv.writer(text, delimiter=";" if decimal_comma else ",")
    writer.writerows([written(value) for value in row] for row in (header, *rows))
    # With a byte order mark spreadsheets read the file as UTF-8.
    return text.getvalue().encode("utf-8-sig")


def _xlsx(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet("1")
        sheet.freeze_panes(1, 0)
        bold = book.add_format({"bold": True})
        for number, row in enumerate((header, *rows)):
            for column, value in enumerate(row):
                if isinstance(value, str):
                    # An XLSX file cannot hold control characters.
                    text = _CONTROL_CHARACTERS.sub("", escape_formula(value))
                    sheet.write_string(number, column, text, None if number else bold)
                elif value is not None:
                    sheet.write(number, column, value)
    return out.getvalue()
