"""Find the cells of XLSX sheets whose value is not what the spreadsheet shows.

python-calamine returns 0.6 for a cell that shows 60 %, 123 for 00123, and nothing for an error or
for a formula without a saved result. The XML of the sheets is scanned for such cells, and for
sheets that are too large, before it is read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from xml.parsers import expat

from student_success.domain.tables.grid import MAX_COLUMNS
from student_success.domain.tables.problems import refuse

Cell = tuple[int, int]
"""Row, counted from 1, and column, counted from 0."""
Attributes = Mapping[str, str]
_BLOCK = 1 << 18
_PLAIN_FORMAT = re.compile(r"general|@|[#0,]*0?(\.[0#?]+)?(e\+0+)?( ?_?\)?)?|#.*", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_CONDITION = re.compile(r"\[[<>=][^\]]*\]")
_SCALED = re.compile(r"[0#?],+(?![0#?,])")
"""A comma behind the last digit: the number is shown as thousands."""
_DIGITS = re.compile("[0#?@dmyhsge]", re.IGNORECASE)
"""Numbers, text, dates, ``General``."""
_ZERO = re.compile("0|general|@", re.IGNORECASE)
_PERCENT_FORMATS = {9, 10}
_BUILT_IN = dict.fromkeys(range(41, 45), '0;-0;"-"') | dict.fromkeys(range(164, 1000), "other")
"""Formats without a code in the file: accounting, and those that should have one."""
_MAX_MARKS = 100_000


@dataclass(slots=True)
class Marks:
    """What is known of the cells of one sheet.

    Attributes
    ----------
    problems
        Code of the problem of a cell.
    shown
        Text that a cell shows, where it is not its value: digits with leading zeros.
    has_hidden
        Whether rows, by a filter too, or columns with something in them are not shown.
    """

    problems: dict[Cell, str] = field(default_factory=dict)
    shown: dict[Cell, str] = field(default_factory=dict)
    has_hidden: bool = False

    def add_number(self, cell: Cell, value: float, format_: str) -> None:
        """Mark a number, by what `format_kind` returns of its format, or ``hidden``."""
        if format_ in ("percent", "unit", "hidden"):
            self.problems[cell] = format_
        elif shown := with_zeros(value, format_):
            self.shown[cell] = shown
        elif format_ == "other":
            self.problems[cell] = "shown_otherwise"


def scan_xlsx(archive: zipfile.ZipFile, *, max_rows: int) -> dict[str, Marks]:
    """Scan the sheets of an XLSX file; return the marks of each by its name.

    Raises
    ------
    TableError
        If a sheet has values too far down or too far right.
    """
    targets: dict[str, str] = {}
    names: dict[str, str] = {}

    def on_relation(tag: str, attributes: Attributes) -> None:
        if tag == "Relationship":
            targets[attributes["Id"]] = attributes["Target"]

    def on_sheet(tag: str, attributes: Attributes) -> None:
        if tag == "sheet":
            names[attributes["name"]] = attributes["id"]

    workbook = _workbook_path(archive)
    folder = PurePosixPath(workbook).parent
    parse_part(archive, str(folder / "_rels" / f"{PurePosixPath(workbook).name}.rels"), on_relation)
    parse_part(archive, workbook, on_sheet)
    formats = _cell_formats(archive, str(folder / "styles.xml"))
    marks: dict[str, Marks] = {}
    for name, relation in names.items():
        target = targets.get(relation, "")
        path = target.lstrip("/") if target.startswith("/") else str(folder / target)
        if path in archive.namelist():
            marks[name] = _XlsxSheet(formats, max_rows).scan(archive, path)
    return marks


class _XlsxSheet:
    def __init__(self, formats: list[tuple[str, bool]], max_rows: int) -> None:
        self._formats, self._max_rows = formats, max_rows
        self._marks = Marks()
        self._row, self._column = 0, -1
        self._attributes: Attributes = {}
        self._tags: set[str] = set()
        self._value = ""
        self._in_value = False
        self._hides_zeros = self._row_is_hidden = False
        self._hidden: list[range] = []

    def scan(self, archive: zipfile.ZipFile, path: str) -> Marks:
        parse_part(archive, path, self._start, self._end, self._text)
        return self._marks

    def _start(self, tag: str, attributes: Attributes) -> None:
        if tag in ("row", "col"):
            is_hidden = attributes.get("hidden") in ("1", "true")
            if tag == "row":
                self._row_is_hidden = is_hidden
            elif is_hidden:
                self._hidden.append(range(int(attributes["min"]) - 1, int(attributes["max"])))
        if tag == "row":
            self._row = int(attributes.get("r", self._row + 1))
            self._column = -1
        elif tag == "c":
            place = re.fullmatch(r"([A-Z]+)([0-9]+)", attributes.get("r", ""))
            self._column = _column_index(place[1]) if place else self._column + 1
            if place:
                self._row = int(place[2])
            self._attributes, self._tags, self._value = attributes, set(), ""
        elif tag in ("v", "f", "is"):
            self._tags.add(tag)
            self._in_value = tag == "v"
        elif tag == "mergeCell":
            self._merge(attributes["ref"])
        elif tag == "sheetView" and attributes.get("showZeros") in ("0", "false"):
            self._hides_zeros = True

    def _merge(self, reference: str) -> None:
        """Mark all cells of a merged range but the first, which alone has a value."""
        place = re.fullmatch(r"([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)", reference)
        if place is None:
            return
        top, left, right = int(place[2]), _column_index(place[1]), _column_index(place[3])
        # Ranges may go on to the end of the sheet; cells without a row are not read.
        for row in range(top, min(int(place[4]), self._row) + 1):
            for column in range(left, min(right + 1, MAX_COLUMNS)):
                if (row, column) != (top, left):
                    self._marks.problems.setdefault((row, column), "merged")
        if len(self._marks.problems) > _MAX_MARKS:
            raise refuse("too_large")

    def _text(self, text: str) -> None:
        if self._in_value:
            self._value += text

    def _end(self, tag: str) -> None:
        if tag == "v":
            self._in_value = False
        elif tag == "c" and self._tags:
            self._cell()

    def _cell(self) -> None:
        cell, kind = (self._row, self._column), self._attributes.get("t", "n")
        check_place(cell, self._max_rows)
        if self._row_is_hidden or any(self._column in columns for columns in self._hidden):
            self._marks.has_hidden = True
        if kind == "e":
            self._marks.problems[cell] = "error"
        elif "f" in self._tags and not self._value and kind != "str":
            self._marks.problems[cell] = "formula"
        elif kind == "n" and self._value:
            style = int(self._attributes.get("s", 0))
            known = style < len(self._formats)
            format_, without_zeros = self._formats[style] if known else ("general", False)
            value = float(self._value)
            is_hidden = (self._hides_zeros or without_zeros) and value == 0
            self._marks.add_number(cell, value, "hidden" if is_hidden else format_)


def _cell_formats(archive: zipfile.ZipFile, path: str) -> list[tuple[str, bool]]:
    """Return of the number format of each style what `format_kind` and `hides_zeros` do."""
    codes: dict[int, str] = {}
    formats: list[tuple[str, bool]] = []
    inside: list[str] = []

    def on_start(tag: str, attributes: Attributes) -> None:
        inside.append(tag)
        if tag == "numFmt":
            codes[int(attributes["numFmtId"])] = attributes["formatCode"]
        elif tag == "xf" and "cellXfs" in inside:
            number = int(attributes.get("numFmtId", 0))
            own = codes.get(number, _BUILT_IN.get(number, "general"))
            kind = "percent" if number in _PERCENT_FORMATS else format_kind(own)
            formats.append((kind, hides_zeros(own)))

    def on_end(tag: str) -> None:
        inside.pop()

    if path in archive.namelist():
        parse_part(archive, path, on_start, on_end)
    return formats


def format_kind(code: str) -> str:
    """Return what a number format shows: ``general``, ``percent``, ``unit``, ``hidden``, ``other``.

    A unit is a number in the text beside the value, for example ``/10``. A format of zeros, such as
    ``000``, is returned as it is.
    """
    positive, *others = code.split(";")
    bare = _QUOTED.sub("", positive)
    if _CONDITION.search(code):
        # Which section is used depends on the value.
        kinds = {format_kind(_CONDITION.sub("", section)) for section in (positive, *others[:2])}
        return next((kind for kind in ("hidden", "unit", "percent") if kind in kinds), "other")
    if re.search("[%‰]", positive):
        return "percent"
    if _SCALED.search(bare) or not (_DIGITS.search(bare) or bare == code == ""):
        return "hidden"
    texts = [text for text in _QUOTED.findall(positive) if text[0] != "["]
    if re.search(r"/ ?[0-9]", bare) or any(re.search(r"[/0-9]", text) for text in texts):
        return "unit"
    if len(bare) > 1 and set(bare) == {"0"} and bare == positive:
        return bare
    return "general" if _PLAIN_FORMAT.fullmatch(bare) and bare == positive else "other"


def with_zeros(value: float, format_: str) -> str:
    """Return a whole number with the leading zeros of a format such as ``000``; "" for others.

    Another number is read as it is: the format rounds it.
    """
    has_zeros = len(format_) > 1 and set(format_) == {"0"}
    return f"{value:0{len(format_)}.0f}" if has_zeros and value.is_integer() else ""


def hides_zeros(code: str) -> bool:
    """Tell whether a number format shows no digit for 0, such as ``0;-0;"-"`` or ``#``."""
    sections = code.split(";")
    if len(sections) > 2:
        return not _ZERO.search(_QUOTED.sub("", sections[2]))
    return set(sections[0]) == {"#"}


def check_place(cell: Cell, max_rows: int) -> None:
    """Refuse a sheet with a value too far down or too far right."""
    row, column = cell
    if row > max_rows + 1000:
        raise refuse("too_long", limit=max_rows)
    if column >= MAX_COLUMNS:
        raise refuse("too_wide", limit=MAX_COLUMNS)


def _column_index(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _workbook_path(archive: zipfile.ZipFile) -> str:
    found = [name for name in archive.namelist() if name.endswith("xl/workbook.xml")]
    if not found:
        raise refuse("format")
    return found[0]


def parse_part(
    archive: zipfile.ZipFile,
    path: str,
    on_start: Callable[[str, Attributes], None],
    on_end: Callable[[str], None] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> None:
    """Parse a part of an archive; names are given without their namespace."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        on_start(_local(tag), {_local(name): value for name, value in attributes.items()})

    def refuse_declarations(*_: object) -> None:
        # Spreadsheets have none; entities could expand without limit.
        raise refuse("not_a_table")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse_declarations
    if on_end is not None:
        parser.EndElementHandler = lambda tag: on_end(_local(tag))
    if on_text is not None:
        parser.CharacterDataHandler = on_text
    with archive.open(path) as part:
        while block := part.read(_BLOCK):
            parser.Parse(block)
        parser.Parse(b"", True)


def _local(name: str) -> str:
    return name.rsplit(" ", 1)[-1]
