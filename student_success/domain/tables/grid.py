"""The cells of a file as text, before anything is known about their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from student_success.domain.tables.problems import refuse

MAX_COLUMNS = 250
MAX_CELL_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Grid:
    """The lines of a file, or of one sheet of it.

    Attributes
    ----------
    lines
        Line number in the file and stripped cells of each line that is not blank.
    marks
        Line and column index to the code of the problem, for cells whose text is not what the
        file shows: formulas without a result, percentages, errors, dates.
    encoding
        Of a text file; None for a spreadsheet.
    guessed
        Words that show whether `encoding` was guessed rightly; empty if it is certain.
    sheet
        Name of the sheet; "" for a text file.
    has_hidden
        Whether rows or columns of the sheet are not shown.
    delimiter
        Of a text file; "" for a spreadsheet.
    """

    lines: list[tuple[int, list[str]]]
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    encoding: str | None = None
    guessed: tuple[str, ...] = ()
    sheet: str = ""
    has_hidden: bool = False
    delimiter: str = ""


def collect_lines(
    rows: Iterable[tuple[int, list[str]]], *, max_rows: int
) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank.

    Raises
    ------
    TableError
        If there are more than `max_rows` lines, or more than `MAX_COLUMNS` cells in a line.
    """
    lines: list[tuple[int, list[str]]] = []
    for number, cells in rows:
        if not any(cells):
            continue
        if len(cells) > MAX_COLUMNS and any(cells[MAX_COLUMNS:]):
            raise refuse("too_wide", limit=MAX_COLUMNS)
        # The header, and lines above it, do not count.
        if len(lines) > max_rows + HEADER_LINES:
            raise refuse("too_long", limit=max_rows)
        lines.append((number, cells))
    return lines


HEADER_LINES = 20
"""The header is looked for among this many lines that are not blank."""
