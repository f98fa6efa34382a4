"""Read tables for trainings: pupils with their final grade, or any table as text by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from student_success.core.errors import DatasetError
from student_success.domain.students import FEATURES, GRADE, PROFILE, SCALE, TARGET
from student_success.domain.tables.cells import UNKNOWN, normalise, parse_final_grade
from student_success.domain.tables.columns import Choices, Column, feature_column
from student_success.domain.tables.problems import Problem, TableError
from student_success.domain.tables.pupils import Pupil, read_pupil
from student_success.domain.tables.reader import Table, read_table

MAX_ROWS = 2_000_000
_DTYPES = {
    feature.name: "str"
    if feature.kind == "category"
    else "float64"
    if feature.nullable or feature.kind == "number"
    else "int64"
    for feature in FEATURES
} | {TARGET: "float64"}
_IN_THE_HEADER = {"no_column": "is missing from the header", "twice": "has more than one column"}
_REMARKED = frozenset(
    {"sheet", "lines_above", "header_repeated", "hidden_lines", "grades_left_out", "no_grades"}
)


@dataclass(frozen=True, slots=True)
class PupilTable:
    """Pupils with their final grades.

    Attributes
    ----------
    frame
        As `training.data.dataset.Dataset` holds them.
    audit
        The audit columns that the table has, as text, row by row beside `frame`.
    without_grade
        Number of pupils who have no final grade and are left out.
    problems
        What is wrong with the rows; with any, the table must not be used.
    remarks
        What a person should know of how it was read.
    """

    frame: pd.DataFrame
    audit: pd.DataFrame
    without_grade: int
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


def read_pupil_table(name: str, content: bytes, choices: Choices | None = None) -> PupilTable:
    """Read the pupils of a file of any format, by the rules of the API.

    Parameters
    ----------
    name
        Name of the file in messages.
    choices
        What a person said about the file.

    Raises
    ------
    DatasetError
        If it cannot be read with certainty, or its columns are not right.
    """
    table = _read(name, content, _training_columns(), choices)
    if table.columns.problems:
        raise _wrong_columns(name, table.columns.problems)
    audited = [column for column in PROFILE.audit.columns if column in table.columns.positions]
    columns: dict[str, list[Any]] = {column: [] for column in (*_DTYPES, *audited)}
    problems, without_grade = [*table.invalid], 0
    for line, cells in table.rows:
        texts, marked = table.texts(cells), table.marked(line)
        audit = {column: texts.pop(column) for column in audited}
        written = texts.pop(TARGET)
        if TARGET not in marked and normalise(written) in UNKNOWN:
            without_grade += 1
            continue
        grade = parse_final_grade(written)
        if TARGET in marked:
            problems.append(Problem(marked.pop(TARGET), line, TARGET))
        elif grade is None:
            problems.append(Problem("final_grade", line, TARGET, values=_STEPS))
        row = read_pupil(line, texts, {n: code for n, code in marked.items() if n in texts})
        if not isinstance(row, Pupil):
            problems += row
            continue
        for column, value in {**row.features, **audit, TARGET: grade}.items():
            columns[column].append(value)
    frame = pd.DataFrame({name: columns[name] for name in _DTYPES})
    notes = (*table.notes, *table.columns.questions)
    return PupilTable(
        frame if problems else frame.astype(_DTYPES),
        pd.DataFrame({name: columns[name] for name in audited}, frame.index, dtype=str),
        without_grade,
        tuple(problems),
        tuple(note.text.en for note in notes if note.code in _REMARKED),
    )


def read_text_columns(name: str, content: bytes) -> pd.DataFrame:
    """Return the cells of any table as text, by their titles; a column without one is left out.

    Raises
    ------
    DatasetError
        If it cannot be read with certainty, a row has more or fewer cells than the others, or two
        columns have one title.
    """
    table = _read(name, content, ())
    if table.invalid:
        raise DatasetError(f"{name} cannot be read: {table.invalid[0]}")
    titles = {index: title for index, title in enumerate(table.titles) if title}
    if twice := [t for t, number in Counter(map(normalise, titles.values())).items() if number > 1]:
        raise DatasetError(f"{name} has two columns {twice[0]}. Rename or remove one of them.")
    return pd.DataFrame(
        [[cells[index] for index in titles] for _, cells in table.rows],
        columns=pd.Index(titles.values()),
        dtype=object,
    )


def _read(
    name: str, content: bytes, columns: Sequence[Column], choices: Choices | None = None
) -> Table:
    try:
        return read_table(content, columns, choices, max_rows=MAX_ROWS)
    except TableError as error:
        raise DatasetError(f"{name} cannot be read: {error.message}") from error


def _training_columns() -> list[Column]:
    titles = (TARGET, GRADE.label.fr, GRADE.label.en, *GRADE.also)
    return [
        *(feature_column(feature, required=True) for feature in FEATURES),
        Column(TARGET, titles, required=True, grades=(GRADE.minimum, GRADE.maximum)),
        *(Column(name, (name,)) for name in PROFILE.audit.columns),
    ]


_STEPS = {
    "low": f"{GRADE.minimum:g}",
    "high": f"{GRADE.maximum:g}",
    "step": f"{SCALE.step:g}",
}


def _wrong_columns(name: str, problems: Sequence[Problem]) -> DatasetError:
    said = [
        (problem.column, _IN_THE_HEADER.get(problem.code, problem.text.en)) for problem in problems
    ]
    message = f"The columns of {name} are not right: "
    message += "; ".join(f"{column} {words}".rstrip(".") for column, words in said) + "."
    if 2 * sum(problem.code == "no_column" for problem in problems) >= len(_DTYPES):
        message += (
            f" Most columns of the profile {PROFILE.name} are missing, so the file may be for "
            "another profile: set PROFILE_PATH to that one, or make one with `student-success "
            "profile draft`."
        )
    return DatasetError(
        message,
        details=[{"row": 1, "column": column, "problem": words} for column, words in said],
    )
