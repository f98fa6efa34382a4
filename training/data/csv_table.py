"""Read the cells of a CSV file of pupils as text, without interpreting them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from student_success.core.errors import DatasetError

SEPARATORS = (",", ";")


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a file.

    Attributes
    ----------
    cells
        Stripped text, indexed by spreadsheet row: the header is row 1, blank lines count.
    ragged
        Rows with too few or too many cells, and their problem.
    decimal_comma
        Whether a comma within a number is a decimal comma: semicolons separate the cells.
    """

    cells: pd.DataFrame
    ragged: Mapping[int, str]
    decimal_comma: bool


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises
    ------
    DatasetError
        If it does not exist or cannot be read; the message does not name its folder.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"The data file {path.name} does not exist.") from None
    except OSError as error:
        raise DatasetError(
            f"The data file {path.name} cannot be read: {error.strerror}."
        ) from error


def parse(name: str, content: bytes, *, required: Sequence[str]) -> Table:
    """Split the bytes of a file into cells.

    Parameters
    ----------
    name
        Name of the file in messages.
    required
        Required columns; other columns are allowed.

    Raises
    ------
    DatasetError
        If it is empty, not UTF-8, not CSV with commas or semicolons, or lacks columns or rows.
    """
    text = _decode(name, content)
    first = text.lstrip().splitlines()[0]
    separator = max(SEPARATORS, key=first.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{name} is not well-formed CSV: {error}.") from error
    rows = {
        number: [cell.strip() for cell in line]
        for number, line in enumerate(lines, start=1)
        if any(cell.strip() for cell in line)
    }
    header = rows.pop(min(rows))
    _check_header(name, header, required)
    if not rows:
        raise DatasetError(f"{name} has a header and no pupils.")
    width = len(header)
    return Table(
        cells=pd.DataFrame(
            [(row + [""] * width)[:width] for row in rows.values()],
            index=pd.Index(list(rows)),
            columns=pd.Index(header),
            dtype=object,
        ),
        ragged={
            number: f"has {len(row)} cells where the header has {width}"
            for number, row in rows.items()
            if len(row) != width
        },
        decimal_comma=separator == ";",
    )


def _decode(name: str, content: bytes) -> str:
    if b"\0" in content:
        raise DatasetError(f"{name} is not a text file in UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{name} is not UTF-8 (byte {error.start + 1}): save it as CSV in UTF-8."
        ) from error
    if not text.strip():
        raise DatasetError(f"{name} is empty.")
    return text


def _check_header(name: str, header: Sequence[str], required: Sequence[str]) -> None:
    if len(header) == 1:
        raise DatasetError(
            f"{name} has one column: separate the cells with commas or semicolons, and name the "
            "columns in the first row."
        )
    problems = [
        {"row": 1, "column": column, "problem": f"appears {count} times in the header"}
        for column, count in Counter(header).items()
        if count > 1
    ]
    problems += [
        {"row": 1, "column": column, "problem": "is missing from the header"}
        for column in required
        if column not in header
    ]
    if problems:
        listed = "; ".join(f"{p['column'] or '(no name)'} {p['problem']}" for p in problems)
        raise DatasetError(f"The columns of {name} are not right: {listed}.", details=problems)
