"""What passes between reader, workers and writer: the columns, a slice and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from student_success.core.errors import DatasetError
from student_success.domain.students import PREDICTED
from student_success.domain.tables.columns import (
    REFERENCE,
    Choices,
    find_columns,
    pupil_columns,
)

Format = Literal["csv", "parquet"]
FORMATS: Mapping[str, Format] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}

OUTPUT_COLUMNS = (
    "line",
    REFERENCE,
    PREDICTED,
    "decision",
    "pass_probability",
    "interval_low",
    "interval_high",
    "horizon",
    "at_risk",
    "model_version",
)
"""Columns of the output: the line of the pupil in the input, then the fields of `/predict`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one input file.

    Attributes
    ----------
    titles
        Of all its columns.
    positions
        Index of the column of each feature, and of the reference, that the file has.
    delimiter, encoding
        Of a CSV file.
    """

    format: Format
    titles: tuple[str, ...]
    positions: Mapping[str, int]
    delimiter: str = ","
    encoding: str = "utf-8"

    @property
    def inputs(self) -> tuple[tuple[int, str], ...]:
        """Index and output name of the columns that `--with-inputs` repeats."""
        return tuple(
            (index, f"{title}_input" if title in OUTPUT_COLUMNS else title)
            for index, title in enumerate(self.titles)
            if index != self.positions.get(REFERENCE)
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Start of the records that are not read yet.

    Attributes
    ----------
    offset
        In bytes of a CSV file, in rows of a Parquet file.
    line
        Line of a CSV file or row of a Parquet file, from 1.
    """

    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive whole records of a file.

    Attributes
    ----------
    data
        Text of a CSV file, or an Arrow stream.
    line
        Of the first record.
    end
        Start of the next slice.
    """

    data: bytes
    line: int
    end: Position


@dataclass(frozen=True, slots=True)
class Task:
    """How to read a slice, and what to write.

    Attributes
    ----------
    large
        Whether the input is so large that importing Arrow for its faster CSV reader pays.
    """

    layout: Layout
    output: Format
    with_inputs: bool
    large: bool


@dataclass(frozen=True, slots=True)
class ScoredSlice:
    """The result of one slice.

    Attributes
    ----------
    predictions
        Lines of a CSV file, or an Arrow stream.
    rejects
        Lines of the CSV file of rows that could not be scored.
    scored, rejected, blank
        Number of rows that were scored, were rejected, and were empty.
    """

    predictions: bytes
    rejects: bytes
    scored: int
    rejected: int
    blank: int


def make_layout(
    name: str,
    format: Format,
    titles: tuple[str, ...],
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    choices: Choices | None = None,
) -> Layout:
    """Find the columns of a file.

    Raises
    ------
    DatasetError
        If a column occurs twice or a required one is missing, or if grades would be
        left out without a choice that allows it.
    """
    columns = find_columns(titles, pupil_columns(), choices=choices)
    problems = [str(problem) for problem in (*columns.problems, *columns.questions)]
    if problems:
        raise DatasetError(
            f"The columns of {name} cannot be used: {' '.join(problems)} "
            "--mapping FILE says what each column holds."
        )
    return Layout(format, titles, columns.positions, delimiter, encoding)
