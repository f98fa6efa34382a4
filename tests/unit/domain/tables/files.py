"""Make tables as schools' programs write them: text in many dialects, XLSX, XLS and ODS files."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import xlwt
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from gradio_ui.files.class_file import pupils_of, read_class_table
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, PERIODS
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.pupils import PupilList

Rows = Sequence[Sequence[Any]]
HEADER = ["reference", *FEATURE_NAMES]
FIRST_GRADE = HEADER.index(PERIODS[0])


def read_class_list(data: bytes, choices: Choices | None = None) -> PupilList:
    """Read a class list as the interface does."""
    return pupils_of(read_class_table(data, choices))


def row(reference: str, *grades: Any, **changes: Any) -> list[Any]:
    """Return a valid row; `grades` are those of the periods, None for the others."""
    known = dict(zip(PERIODS, (*grades, *[None] * len(PERIODS)), strict=False))
    values = {**EXAMPLE, **known, **changes}
    return [reference, *(values[name] for name in FEATURE_NAMES)]


def text(
    rows: Rows,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    end: str = "\r\n",
    comma: bool = False,
    above: str = "",
    quoting: Any = csv.QUOTE_MINIMAL,
) -> bytes:
    """Return rows as a text file; `above` stands before the header."""

    def written(value: Any) -> str:
        if comma and isinstance(value, float):
            return str(value).replace(".", ",")
        return "" if value is None else str(value)

    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([written(value) for value in cells] for cells in rows)
    return (above + out.getvalue()).encode(encoding)


def xlsx(
    sheets: dict[str, Rows], change: Callable[[Workbook, Worksheet], None] | None = None
) -> bytes:
    """Return sheets as an XLSX file; `change` gets the book and its first sheet."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for cells in rows:
            sheet.append(list(cells))
    if change is not None:
        change(book, book.worksheets[0])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def with_part(
    data: bytes, part_name: str, change: Callable[[bytes], bytes], *, name: str | None = None
) -> bytes:
    """Return a ZIP file with one of its parts changed, and renamed if `name` is given."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.namelist():
            part = source.read(member)
            if member == part_name:
                target.writestr(name or member, change(part))
            else:
                target.writestr(member, part)
    return out.getvalue()


def xls(
    rows: Rows,
    formats: dict[tuple[int, int], str] | None = None,
    merged: tuple[int, int, int, int] | None = None,
    hidden_row: int | None = None,
) -> bytes:
    """Return rows as an XLS file; `formats` are number formats by row and column, from 0.

    `merged` are the first and last row, and the first and last column, of merged cells.
    """
    book = xlwt.Workbook()
    sheet = book.add_sheet("1")
    for number, cells in enumerate(rows):
        for column, value in enumerate(cells):
            format_ = (formats or {}).get((number, column), "General")
            if value is not None:
                sheet.write(number, column, value, xlwt.easyxf(num_format_str=format_))
    if merged is not None:
        sheet.merge(*merged)
    if hidden_row is not None:
        sheet.row(hidden_row).hidden = True
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def ods(rows: Rows, kinds: dict[tuple[int, int], str] | None = None) -> bytes:
    """Return rows as an ODS file; `kinds` are attributes of cells by row and column, from 0."""
    lines = []
    for number, cells in enumerate(rows):
        line = ""
        for column, value in enumerate(cells):
            attributes = (kinds or {}).get((number, column))
            shown = "" if value is None else str(value)
            if attributes is None and isinstance(value, int | float):
                attributes = f'office:value-type="float" office:value="{value}"'
            elif attributes is None:
                attributes = 'office:value-type="string"' if shown else ""
            content = f"<text:p>{quoteattr(shown)[1:-1]}</text:p>" if shown else ""
            line += f"<table:table-cell {attributes}>{content}</table:table-cell>"
        lines.append(f"<table:table-row>{line}</table:table-row>")
    names = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document-content xmlns:office="{names}:office:1.0" '
        f'xmlns:table="{names}:table:1.0" xmlns:text="{names}:text:1.0"><office:body>'
        f'<office:spreadsheet><table:table table:name="1">{"".join(lines)}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = (
        f'<manifest:manifest xmlns:manifest="{names}:manifest:1.0"><manifest:file-entry '
        f'manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("META-INF/manifest.xml", manifest)
        archive.writestr("content.xml", content)
    return out.getvalue()
