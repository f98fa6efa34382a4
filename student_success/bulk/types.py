"""What passes between reader, workers and writer: where the columns are, a slice, its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from student_success.core.errors import DatasetError
from student_success.domain.tabular import REFERENCE, find_columns

Kind = Literal["csv", "parquet"]
KINDS: Mapping[str, Kind] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}

ANSWERS = (
    "line",
    REFERENCE,
    "predicted_G3",
    "decision",
    "pass_probability",
    "interval_low",
    "interval_high",
    "horizon",
    "at_risk",
    "model_version",
)
"""Columns of the output: where the pupil stands in the input, then the words of `/predict`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one input file.

    Attributes
    ----------
    titles
        Of all its columns.
    places
        Place among them of each feature, and of the reference, that it has.
    delimiter, encoding
        Of a CSV file.
    """

    kind: Kind
    titles: tuple[str, ...]
    places: Mapping[str, int]
    delimiter: str = ","
    encoding: str = "utf-8"

    @property
    def inputs(self) -> tuple[tuple[int, str], ...]:
        """Place and name of the columns to repeat beside the answers, where that is asked for."""
        return tuple(
            (place, f"{title}_input" if title in ANSWERS else title)
            for place, title in enumerate(self.titles)
            if place != self.places.get(REFERENCE)
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where the records begin that are not read yet.

    Attributes
    ----------
    offset
        In bytes of a CSV file, in rows of a Parquet file.
    line
        As an editor counts a CSV file's lines, from 1; a Parquet file's rows, from 1.
    """

    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Some whole records of a file, in the order of the file.

    Attributes
    ----------
    data
        Text of a CSV file, or an Arrow stream.
    line
        Of the first record.
    end
        Where the next slice begins.
    """

    data: bytes
    line: int
    end: Position


@dataclass(frozen=True, slots=True)
class Task:
    """How to read a slice, and what to make of it.

    Attributes
    ----------
    large
        Whether there is so much to do that it pays to load what reads CSV quicker.
    """

    layout: Layout
    output: Kind
    with_inputs: bool
    large: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a slice.

    Attributes
    ----------
    answers
        Lines of a CSV file, or an Arrow stream.
    refused
        Lines of the CSV file of rows that could not be scored.
    scored, bad, blank
        How many rows were scored, were set aside, and held nothing at all.
    """

    answers: bytes
    refused: bytes
    scored: int
    bad: int
    blank: int


def laid_out(
    name: str, kind: Kind, titles: tuple[str, ...], *, delimiter: str = ",", encoding: str = "utf-8"
) -> Layout:
    """Find the columns of a file.

    Raises
    ------
    DatasetError
        If one stands there twice, or one that is needed is missing.
    """
    found = find_columns(titles)
    problems = [f"{title} stands there twice" for title in found.twice]
    problems += [f"{missing} is missing" for missing in found.missing]
    if problems:
        raise DatasetError(f"The columns of {name} are not right: {'; '.join(problems)}.")
    return Layout(kind, titles, found.places, delimiter, encoding)
