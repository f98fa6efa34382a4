"""Find the cells of ODS sheets whose value is not what the spreadsheet shows."""

from __future__ import annotations

import re
import zipfile

from student_success.domain.tables.grid import MAX_COLUMNS
from student_success.domain.tables.sheet_marks import (
    Attributes,
    Cell,
    Marks,
    check_place,
    parse_part,
)


def scan_ods(archive: zipfile.ZipFile, *, max_rows: int) -> dict[str, Marks]:
    """Scan the sheets of an ODS file, as `scan_xlsx` does."""
    scan = _OdsSheets(max_rows)
    parse_part(archive, "content.xml", scan.start, scan.end, scan.text)
    return scan.marks


class _OdsSheets:
    def __init__(self, max_rows: int) -> None:
        self.marks: dict[str, Marks] = {}
        self._max_rows = max_rows
        self._current = Marks()
        self._row, self._column = 0, 0
        self._rows, self._cells = 1, 1
        self._attributes: Attributes = {}
        self._written: str | None = None
        self._row_is_hidden, self._columns = False, 0
        self._hidden: list[range] = []

    def start(self, tag: str, attributes: Attributes) -> None:
        if tag == "table":
            self._current = self.marks.setdefault(attributes.get("name", ""), Marks())
            self._row = 0
            self._columns, self._hidden = 0, []
        elif tag == "table-column":
            first, count = self._columns, int(attributes.get("number-columns-repeated", 1))
            self._columns += count
            if attributes.get("visibility", "visible") != "visible":
                self._hidden.append(range(first, self._columns))
        elif tag == "table-row":
            self._row_is_hidden = attributes.get("visibility", "visible") != "visible"
            self._rows = int(attributes.get("number-rows-repeated", 1))
            self._column = 0
        elif tag in ("table-cell", "covered-table-cell"):
            self._attributes, self._written = attributes, None
            self._cells = int(attributes.get("number-columns-repeated", 1))
        elif tag == "p":
            self._written = self._written or ""

    def text(self, text: str) -> None:
        if self._written is not None:
            self._written += text

    def end(self, tag: str) -> None:
        if tag == "table-row":
            self._row += self._rows
        elif tag in ("table-cell", "covered-table-cell"):
            self._cell(is_covered=tag == "covered-table-cell")
            self._column += self._cells
            self._written = None

    def _cell(self, *, is_covered: bool) -> None:
        kind = self._attributes.get("value-type", "")
        if not kind and not self._written and "formula" not in self._attributes:
            if is_covered:
                self._mark("merged")
            return
        check_place((self._row + self._rows, self._column + self._cells - 1), self._max_rows)
        if self._row_is_hidden or any(self._column in columns for columns in self._hidden):
            self._current.has_hidden = True
        written, problem = self._written or "", ""
        if is_covered:
            problem = "merged"
        elif kind == "percentage" or (kind == "float" and re.search("[%‰]", written)):
            problem = "percent"
        elif "formula" in self._attributes and not kind:
            problem = "formula"
        elif re.match(r"#[A-Z]|Err:[0-9]", written) and "formula" in self._attributes:
            problem = "error"
        elif kind == "float" and re.search(r"/ ?[0-9]", written):
            problem = "unit"
        elif kind == "float" and self._written is not None and not re.search("[0-9]", written):
            problem = "hidden"
        if problem:
            self._mark(problem)
        elif kind == "float" and re.fullmatch("0[0-9]+", written) and self._is_exact(written):
            self._mark(written, self._current.shown)

    def _is_exact(self, written: str) -> bool:
        return float(written) == float(self._attributes.get("value", "nan"))

    def _mark(self, text: str, marks: dict[Cell, str] | None = None) -> None:
        """Mark the cell and its repetitions, as far as they can be used."""
        marks = self._current.problems if marks is None else marks
        rows, columns = min(self._rows, self._max_rows), min(self._cells, MAX_COLUMNS)
        for row in range(self._row + 1, self._row + rows + 1):
            for column in range(self._column, self._column + columns):
                marks[row, column] = text
