"""Read a table of any format: its sheet, its header, its columns, its rows."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from student_success.core.errors import DatasetError
from student_success.domain.tables.cells import normalise
from student_success.domain.tables.columns import (
    Choices,
    Column,
    Columns,
    count_titles,
    find_columns,
)
from student_success.domain.tables.grid import HEADER_LINES, Grid
from student_success.domain.tables.problems import Problem, TableError, refuse
from student_success.domain.tables.spreadsheet import OLE_START, ZIP_START, read_sheets
from student_success.domain.tables.text import read_text

MAX_ROWS = 10_000
_MANY_SHORT = 3
"""Fewer short lines, such as a footer, do not show that a program cuts off empty cells."""
_DECIMAL = re.compile(r"[0-9][.,][0-9]")


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table, as text.

    Attributes
    ----------
    titles
        Its header.
    rows
        Line number in the file and cells of each row that is as wide as the header.
    invalid
        Rows of another width.
    marks
        Line and column index to the code of the problem, see `Grid`.
    notes
        What a person should know.
    header_line, width
        First line of the header, and the number of its cells, empty ones at its end included.
    delimiter
        Of a text file; "" for a spreadsheet.
    """

    titles: tuple[str, ...]
    columns: Columns
    rows: tuple[tuple[int, list[str]], ...]
    invalid: tuple[Problem, ...]
    marks: Mapping[tuple[int, int], str]
    notes: tuple[Problem, ...]
    encoding: str | None
    sheet: str
    header_line: int
    width: int
    delimiter: str

    def texts(self, cells: Sequence[str]) -> dict[str, str]:
        """Return the text of each column of a row."""
        return {name: cells[index] for name, index in self.columns.positions.items()}

    def marked(self, line: int) -> dict[str, str]:
        """Return the code of the problem of each cell of a row that cannot be used."""
        return {
            name: code
            for name, index in self.columns.positions.items()
            if (code := self.marks.get((line, index))) is not None
        }


def read_table(
    data: bytes,
    columns: Sequence[Column],
    choices: Choices | None = None,
    *,
    max_rows: int = MAX_ROWS,
    own_titles: frozenset[str] = frozenset(),
    rows_required: bool = True,
) -> Table:
    """Read a table; its format is recognised by its content.

    Parameters
    ----------
    choices
        What a person said about the table.
    own_titles
        See `find_columns`.
    rows_required
        Whether a table without rows below its titles is refused.

    Raises
    ------
    TableError
        If it cannot be read, or a sheet must be chosen.
    """
    choices = choices or Choices()
    if not data.strip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"):
        raise refuse("empty")
    recognise = partial(count_titles, columns=columns)
    others: tuple[str, ...] = ()
    if data.startswith((ZIP_START, OLE_START)):
        grids, sheets = read_sheets(data, max_rows=max_rows)
        grid = _choose_sheet(grids, columns, choices.sheet)
        others = tuple(name for name in sheets if name != grid.sheet)
    else:
        grid = read_text(data, recognise, encoding=choices.encoding, max_rows=max_rows)
    return _table(grid, columns, choices, others, max_rows, own_titles, rows_required)


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file; a folder with a OneRoster data set as a ZIP file of it.

    Raises
    ------
    DatasetError
        If it does not exist or cannot be read; the message does not name its folder.
    """
    try:
        if (path / "lineItems.csv").is_file():
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", strict_timestamps=False) as archive:
                for table in path.glob("*.csv"):
                    archive.write(table, table.name)
            return packed.getvalue()
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"The file {path.name} does not exist.") from None
    except OSError as error:
        raise DatasetError(f"The file {path.name} cannot be read: {error.strerror}.") from error


def read_choices(mapping: Path | None, *, without_grades: bool = False) -> Choices:
    """Return what a mapping file and the command line say about a table."""
    choices = Choices()
    if mapping is not None:
        choices = Choices.from_toml(read_bytes(mapping).decode("utf-8-sig", "replace"))
    return replace(choices, without_grades=choices.without_grades or without_grades)


def _choose_sheet(grids: Sequence[Grid], columns: Sequence[Column], name: str | None) -> Grid:
    """Return the chosen sheet, or else the only one that has pupils.

    A sheet that could be meant is one with a row below titles of which at least half of the
    required columns are recognised.
    """
    if not grids:
        raise refuse("empty")
    names = [grid.sheet for grid in grids]
    if name is not None:
        candidates = [grid for grid in grids if grid.sheet == name]
        if not candidates:
            listed = ", ".join(names)
            raise TableError(Problem("no_sheet", values={"sheets": listed}), sheets=names)
    else:
        needed = max(1, sum(column.required for column in columns) // 2)
        candidates = [grid for grid in grids if _header_score(grid, columns) >= needed]
        if len(candidates) > 1 or (not candidates and len(grids) > 1):
            asked = [grid.sheet for grid in candidates or grids]
            problem = Problem("choose_sheet", values={"sheets": ", ".join(asked)})
            raise TableError(problem, sheets=asked)
    return (candidates or grids)[0]


def _header_score(grid: Grid, columns: Sequence[Column]) -> int:
    lines = grid.lines[: HEADER_LINES + 1]
    return max((count_titles(cells, columns) for _, cells in lines[:-1]), default=0)


def _table(
    grid: Grid,
    columns: Sequence[Column],
    choices: Choices,
    others: tuple[str, ...],
    max_rows: int,
    own_titles: frozenset[str],
    rows_required: bool,
) -> Table:
    place = _header_place(grid, columns, choices)
    header_line, header = grid.lines[place] if grid.lines else (1, [""])
    titles = tuple(_without_empty_end(header))
    below = grid.lines[place + 1 :]
    if not below and rows_required:
        raise refuse("no_rows")
    if len(below) > max_rows:
        raise refuse("too_long", limit=max_rows)
    rows: list[tuple[int, list[str]]] = []
    invalid: list[Problem] = []
    repeated: list[int] = []
    whole: list[list[str]] = []
    repeats_header = header_check(titles if columns else ())
    for line, cells in below:
        if repeats_header(cells, line):
            repeated.append(line)
            continue
        if grid.sheet:
            # In a spreadsheet each cell has its column: nothing can shift.
            whole.append(cells)
            cells = (cells + [""] * len(titles))[: len(titles)]
        elif len(cells) != len(header):
            widths = {"cells": len(cells), "width": len(header)}
            invalid.append(Problem("width", line, values=widths))
            continue
        if any(cells):
            rows.append((line, cells))
    filled = whole or [cells for _, cells in rows]
    short = sum(problem.values["cells"] < len(header) for problem in invalid)
    if (
        grid.delimiter == ","
        and short >= max(_MANY_SHORT, len(below) / 10)
        and not any(_DECIMAL.search(cell) for cells in filled for cell in cells)
    ):
        # A grade of 10,5 without quotes makes up for a cell that was cut off.
        raise refuse("cut_off")
    around = [cells for _, cells in (*grid.lines[:place], *below[:3], *below[-3:])]
    found = find_columns(titles, columns, filled, choices, own_titles, around)
    notes = list(found.notes)
    if repeated:
        lines = ", ".join(map(str, repeated[:20]))
        notes.append(Problem("header_repeated", values={"lines": lines}))
    if grid.guessed and grid.encoding:
        values = {"encoding": grid.encoding, "words": ", ".join(grid.guessed)}
        notes.append(Problem("read_as", values=values))
    if others:
        values = {"sheet": grid.sheet, "others": ", ".join(others)}
        notes.append(Problem("sheet", values=values))
    if grid.has_hidden:
        notes.append(Problem("hidden_lines"))
    if place:
        notes.append(Problem("lines_above", values={"at": header_line}))
    return Table(
        titles,
        found,
        tuple(rows),
        tuple(invalid),
        grid.marks,
        tuple(notes),
        grid.encoding,
        grid.sheet,
        header_line,
        len(header),
        grid.delimiter,
    )


def header_check(titles: Sequence[str]) -> Callable[[Sequence[str], int], bool]:
    """Return what tells whether the cells of a line are the header once more.

    Two titles of the table, and a third of all, make a header. It refuses a file with another one.
    """
    known = frozenset(filter(None, titles))
    needed = max(2, len(known) / 3)

    def repeats_header(cells: Sequence[str], line: int) -> bool:
        if len(known.intersection(cells)) < needed:
            return False
        if _normalised(cells) != _normalised(titles):
            raise refuse("several_headers", at=line)
        return True

    return repeats_header


def _normalised(cells: Sequence[str]) -> list[str]:
    return [normalise(cell) for cell in _without_empty_end(cells)]


def _header_place(grid: Grid, columns: Sequence[Column], choices: Choices) -> int:
    """Return the place of the header: the line that names most columns, or else the first."""
    chosen = tuple(Column(name, (title,)) for title, name in choices.columns.items())
    scores = [count_titles(cells, (*columns, *chosen)) for _, cells in grid.lines[:HEADER_LINES]]
    best = max(scores, default=0)
    return scores.index(best) if best > 1 else 0


def _without_empty_end(header: Sequence[str]) -> Sequence[str]:
    end = len(header)
    while end > 1 and not header[end - 1]:
        end -= 1
    return header[:end]
