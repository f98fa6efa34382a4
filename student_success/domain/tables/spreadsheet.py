"""Read XLSX, ODS, XLS and OneRoster files in a child process with limits on memory and time.

A spreadsheet is a compressed archive: a file of a few kilobytes can need gigabytes and hours.
"""

from __future__ import annotations

import asyncio
import datetime
import io
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from student_success.core.subprocesses import (
    ChildFailure,
    bind_to_parent,
    report_to_parent,
    run,
    write_event,
)
from student_success.domain.tables.cells import text_of
from student_success.domain.tables.grid import MAX_CELL_CHARACTERS, Grid, collect_lines
from student_success.domain.tables.ods_marks import scan_ods
from student_success.domain.tables.problems import TableError, refuse
from student_success.domain.tables.sheet_marks import Marks, format_kind, hides_zeros, scan_xlsx

ZIP_START = b"PK\x03\x04"
OLE_START = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_UNPACKED_BYTES = 64 << 20
MAX_SHEETS = 50
MAX_CHARACTERS = 8 << 20
"""Of all cells; the result of the child is one line of JSON."""
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Others are unpacked without a limit, however few bytes are read."""
_MEMORY_MB = 768
_SECONDS = 20.0
_MAX_COVERED = 10_000
_MAX_EXACT = 10**15
"""A spreadsheet keeps 15 digits: of a longer code, the last ones are lost."""
_slots = threading.BoundedSemaphore(2)


def read_sheets(data: bytes, *, max_rows: int) -> tuple[list[Grid], list[str]]:
    """Return the visible sheets of a spreadsheet that hold something, and the names of all sheets.

    Raises
    ------
    TableError
        If it cannot be read within the limits.
    """
    result = _in_child(data, max_rows)
    if "problem" in result:
        raise refuse(result["problem"], **result["values"])
    grids = [
        Grid(
            [(number, cells) for number, cells in sheet["lines"]],
            {(line, column): code for line, column, code in sheet["marks"]},
            sheet=sheet["name"],
            has_hidden=sheet["has_hidden"],
        )
        for sheet in result["sheets"]
        if sheet["lines"]
    ]
    return grids, [sheet["name"] for sheet in result["sheets"]]


def _in_child(data: bytes, max_rows: int) -> dict[str, Any]:
    arguments = ("-m", "student_success.domain.tables.spreadsheet", str(max_rows))
    try:
        with _slots:
            return asyncio.run(
                run(*arguments, timeout=_SECONDS, memory_mb=_MEMORY_MB, content=data)
            )
    except ChildFailure:
        raise refuse("too_large") from None


def main() -> None:
    """Read the spreadsheet on standard input; write its sheets as the result for the parent."""
    bind_to_parent()
    data = sys.stdin.buffer.read()
    with report_to_parent() as stream:
        write_event(stream, "result", **parse(data, int(sys.argv[1])))


def parse(data: bytes, max_rows: int) -> dict[str, Any]:
    """Return the sheets of a spreadsheet, or the problem that it has, as JSON-ready values."""
    try:
        return {"sheets": list(_sheets(data, max_rows))}
    except TableError as error:
        return {"problem": error.problem.code, "values": dict(error.problem.values)}
    except MemoryError:
        return {"problem": "too_large", "values": {}}
    except Exception:  # The libraries raise arbitrary exception types for damaged files.
        return {"problem": "not_a_table", "values": {}}


def _sheets(data: bytes, max_rows: int) -> Iterator[dict[str, Any]]:
    left = MAX_CHARACTERS
    books = _xls_sheets(data) if data.startswith(OLE_START) else _zip_sheets(data, max_rows)
    for name, rows, marks in books:
        texts = ((number, _texts(number, row, marks)) for number, row in rows)
        lines = collect_lines(texts, max_rows=max_rows)
        left -= sum(len(cell) for _, cells in lines for cell in cells)
        if left < 0:
            raise refuse("too_large")
        coded = [(row, column, code) for (row, column), code in marks.problems.items()]
        yield {"name": name, "lines": lines, "marks": coded, "has_hidden": marks.has_hidden}


def _zip_sheets(data: bytes, max_rows: int) -> Iterator[tuple[str, Any, Marks]]:
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise refuse("too_large")
        if any(member.compress_type not in _COMPRESSIONS for member in archive.infolist()):
            raise refuse("not_a_table")
        if {"results.csv", "lineItems.csv"} <= {PurePosixPath(name).name for name in names}:
            # Its imports take longer than the rest of this process.
            from student_success.domain.tables.oneroster import read_oneroster

            for name, lines in read_oneroster(archive, max_rows=max_rows).items():
                yield name, lines, Marks()
            return
        if "xl/workbook.bin" in names:
            # Its percentages and errors cannot be told from other values.
            raise refuse("format")
        is_ods = "content.xml" in names
        marks = (scan_ods if is_ods else scan_xlsx)(archive, max_rows=max_rows)
    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    for sheet in book.sheets_metadata[:MAX_SHEETS]:
        if sheet.typ == SheetTypeEnum.WorkSheet:
            rows: list[Any] = []
            if sheet.visible == SheetVisibleEnum.Visible:
                rows = book.get_sheet_by_name(sheet.name).to_python(skip_empty_area=False)
            yield sheet.name, enumerate(rows, 1), marks[sheet.name]


def _xls_sheets(data: bytes) -> Iterator[tuple[str, Any, Marks]]:
    import xlrd
    from xlrd.biffh import XL_CELL_BOOLEAN, XL_CELL_DATE, XL_CELL_ERROR, XL_CELL_NUMBER

    try:
        book = xlrd.open_workbook(file_contents=data, formatting_info=True, logfile=sys.stderr)
    except Exception:  # xlrd raises arbitrary exception types for damaged files.
        raise refuse("password") from None
    for sheet in book.sheets()[:MAX_SHEETS]:
        marks, rows = Marks(), []
        for row in range(0 if sheet.visibility else sheet.nrows):
            values: list[Any] = []
            for column, cell in enumerate(sheet.row(row)):
                place, value = (row + 1, column), cell.value
                style = book.xf_list[cell.xf_index].format_key
                code = book.format_map[style].format_str
                format_ = format_kind(code)
                if value == 0 and (hides_zeros(code) or not sheet.show_zero_values):
                    format_ = "hidden"
                if cell.ctype == XL_CELL_ERROR:
                    marks.problems[place] = "error"
                elif cell.ctype == XL_CELL_DATE:
                    marks.problems[place] = "date"
                elif cell.ctype == XL_CELL_NUMBER:
                    marks.add_number(place, value, format_)
                values.append(bool(value) if cell.ctype == XL_CELL_BOOLEAN else value)
            rows.append(values)
        hidden = [n < sheet.nrows for n, row in sheet.rowinfo_map.items() if row.hidden]
        hidden += [n < sheet.ncols for n, column in sheet.colinfo_map.items() if column.hidden]
        marks.has_hidden = any(hidden)
        for top, bottom, left, right in sheet.merged_cells:
            covered = ((r, c) for r in range(top, bottom) for c in range(left, right))
            # The first cell of a range has the value of all of them.
            for row, column in islice(covered, 1, _MAX_COVERED):
                marks.problems[row + 1, column] = "merged"
        yield sheet.name, enumerate(rows, 1), marks


def _texts(row: int, cells: Sequence[object], marks: Marks) -> list[str]:
    texts: list[str] = []
    for column, cell in enumerate(cells):
        place = row, column
        if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
            marks.problems[place] = "date"
        elif isinstance(cell, float) and abs(cell) >= _MAX_EXACT:
            marks.problems[place] = "shown_otherwise"
        text = marks.shown.get(place) or text_of(cell).strip()[:MAX_CELL_CHARACTERS]
        # A cell that is marked is not blank, so that its line is read and its problem named. Of a
        # merged range, the first cell tells whether the line is blank.
        is_blank = marks.problems.get(place, "merged") == "merged"
        texts.append(text or ("" if is_blank else "?!"))
    while texts and not texts[-1]:
        texts.pop()
    return texts


if __name__ == "__main__":
    main()
