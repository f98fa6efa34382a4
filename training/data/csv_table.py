"""Read a table of pupils as text, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from student_success.core.errors import DatasetError
from student_success.domain.students import FEATURES, GRADE, TARGET
from student_success.domain.tables.cells import feature_of, parse_cell
from student_success.domain.tables.columns import Column, feature_column
from student_success.domain.tables.problems import TEXTS, TableError
from student_success.domain.tables.reader import Table, read_table

MAX_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a file.

    Attributes
    ----------
    cells
        Stripped text, indexed by spreadsheet row: the header is row 1, blank lines count.
    ragged
        Rows with too few or too many cells, and their problem.
    """

    cells: pd.DataFrame
    ragged: Mapping[int, str]


def training_columns() -> list[Column]:
    """Return the columns of the features and of the final grade."""
    target = Column(TARGET, (TARGET, GRADE.label.fr, GRADE.label.en, *GRADE.also))
    return [*map(feature_column, FEATURES), target]


def parse(name: str, content: bytes, columns: Sequence[Column] = ()) -> Cells:
    """Read the cells of a file of any format.

    Parameters
    ----------
    name
        Name of the file in messages.
    columns
        Columns to recognise: they get their own names, and a label of a choice becomes its code.

    Raises
    ------
    DatasetError
        If it cannot be read with certainty, has a column twice, or has no rows.
    """
    try:
        table = read_table(content, columns, max_rows=MAX_ROWS)
    except TableError as error:
        raise DatasetError(f"{name} cannot be read: {error.message}") from error
    problems = [
        {"row": 1, "column": problem.column, "problem": "has more than one column"}
        for problem in table.columns.problems
        if problem.code == "twice"
    ]
    if problems:
        listed = ", ".join(str(problem["column"]) for problem in problems)
        raise DatasetError(
            f"The columns of {name} are not right: {listed} has more than one column.",
            details=problems,
        )
    names = list(table.titles)
    for column, index in table.columns.positions.items():
        names[index] = column
    return Cells(
        cells=pd.DataFrame(
            [_codes(table, line, cells) for line, cells in table.rows],
            index=pd.Index([line for line, _ in table.rows]),
            columns=pd.Index(names),
            dtype=object,
        ),
        ragged={problem.line or 0: problem.text.en for problem in table.invalid},
    )


def _codes(table: Table, line: int, cells: Sequence[str]) -> list[str]:
    """Return the cells of a row with codes in place of labels; what must not be used is named."""
    texts = list(cells[: len(table.titles)])
    for name, index in table.columns.positions.items():
        if (line, index) in table.marks:
            texts[index] = TEXTS[table.marks[line, index]].en
        elif name != TARGET and texts[index]:
            feature = feature_of(name)
            value = parse_cell(feature, texts[index])
            if isinstance(value, str) and feature.kind != "category":
                # Not a number, or one that may mean another, such as 1.500.
                value = f"? {value}"
            texts[index] = "" if value is None else str(value)
    return texts
