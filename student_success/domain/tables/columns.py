"""Find the columns of a table by their titles, and what must be asked before it is used."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from student_success.core.errors import InvalidInputError
from student_success.domain.students import FEATURES, PERIODS, PROFILE, Feature, StudentFeatures
from student_success.domain.tables.cells import (
    UNKNOWN,
    are_names,
    are_numbers,
    have_other_scale,
    highest_of_line,
    highest_of_title,
    normalise,
    parse_number,
)
from student_success.domain.tables.problems import SHOWN, Problem

REFERENCE = "reference"
_REFERENCES = (
    *("reference", "reference code", "repere", "ref", "matricule", "code", "student id"),
    *("pupil id", "student number", "identifiant", "id"),
)
"""Titles of the column that holds the reference, the surest first."""
_PUPILS = ("eleve", "pupil", "student")
"""Titles that may stand above references or above names."""
_GRADE_WORDS = re.compile(
    r"notes?|grades?|marks?|scores?|moyennes?|averages?|trimestres?|semestres?|semesters?|terms?|"
    r"trimesters?|periode?s?|notas?|noten?|resultats?|results?|[tsp][1-4]"
)
_CHOICES = {"columns": dict, "sheet": str, "encoding": str, "without_grades": bool}


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a table may have.

    Attributes
    ----------
    titles
        Recognised titles, the surest first; case and accents do not count.
    unsure_titles
        Titles that are only recognised if each cell below them holds a digit.
    required
        Whether the table is refused without it.
    grades
        Lowest and highest grade, if it holds grades.
    """

    name: str
    titles: tuple[str, ...]
    unsure_titles: tuple[str, ...] = ()
    required: bool = False
    grades: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person said about a table.

    Attributes
    ----------
    columns
        Title to the name of the column it holds, or to "" for a column that is left out.
    without_grades
        Whether a table may be used although grades are not recognised in it.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None
    encoding: str | None = None
    without_grades: bool = False

    @classmethod
    def from_toml(cls, text: str) -> Choices:
        """Read a mapping file.

        Raises
        ------
        InvalidInputError
            If it is not TOML, or has other keys or types.
        """
        try:
            values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInputError(f"The mapping file is not TOML: {error}.") from None
        for key, value in values.items():
            if key not in _CHOICES or not isinstance(value, _CHOICES[key]):
                raise InvalidInputError(
                    f"The mapping file has a wrong entry {key!r}. It may have [columns], sheet, "
                    "encoding and without_grades."
                )
        if not all(isinstance(name, str) for name in values.get("columns", {}).values()):
            raise InvalidInputError('Each entry of [columns] is "title" = "column", or "".')
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    Attributes
    ----------
    positions
        Index of each column that was found.
    problems
        Why the table cannot be used.
    questions
        What a person must confirm before it is used.
    notes
        What a person should know.
    """

    positions: Mapping[str, int]
    problems: tuple[Problem, ...]
    questions: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def reference_column() -> Column:
    """Return the column of the reference."""
    return Column(REFERENCE, (*PROFILE.reference.also, *_REFERENCES), unsure_titles=_PUPILS)


def feature_column(feature: Feature, *, required: bool = False) -> Column:
    """Return the column of a feature: by its name, its labels or the profile's further titles."""
    label = feature.about.label
    return Column(
        feature.name,
        (feature.name, label.fr, label.en, *feature.also),
        required=required or StudentFeatures.model_fields[feature.name].is_required(),
        grades=feature.bounds if feature.is_period else None,
    )


@cache
def pupil_columns() -> tuple[Column, ...]:
    """Return the columns of a pupil: the reference and the features."""
    return (reference_column(), *map(feature_column, FEATURES))


def count_titles(titles: Iterable[str], columns: Sequence[Column]) -> int:
    """Count the columns that a line of titles names."""
    known = {normalise(title): column.name for column in columns for title in column.titles}
    return len({known[key] for title in titles if (key := normalise(title)) in known})


def find_columns(
    titles: Sequence[str],
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]] = (),
    choices: Choices | None = None,
    own_titles: frozenset[str] = frozenset(),
    around: Sequence[Sequence[str]] = (),
) -> Columns:
    """Find the columns of a table, in any order.

    Parameters
    ----------
    cells
        Lines below the titles: names are not taken for references, and grades are not left out
        without a question.
    own_titles
        Normalised titles of the files this product writes, which need no question.
    around
        Lines near the titles and at the end, which may state the scale of a column.
    """
    choices = choices or Choices()
    titles = (*titles, *[""] * (max(map(len, cells), default=0) - len(titles)))
    problems: list[Problem] = []
    notes: list[Problem] = []
    positions = _chosen(titles, columns, choices, problems)
    left_out = {normalise(title) for title, name in choices.columns.items() if not name}
    used = set(positions.values())
    free = [i for i, t in enumerate(titles) if i not in used and normalise(t) not in left_out]
    for column in columns:
        if column.name in positions:
            continue
        for index in _matches(column, titles, free, cells):
            if column.name == REFERENCE and are_names(_below(cells, index)):
                notes.append(Problem("names_left_out", values={"columns": titles[index][:SHOWN]}))
            elif index in used:
                problems.append(Problem("shared", column=titles[index][:SHOWN]))
            elif column.name not in positions:
                positions[column.name] = index
                used |= {index} if column.grades else set()
            elif column.name != REFERENCE:
                problems.append(Problem("twice", column=titles[index][:SHOWN]))
    ignored = [i for i, title in enumerate(titles) if title and i not in positions.values()]
    problems += [
        Problem("no_column", column=column.name)
        for column in columns
        if column.required and column.name not in positions
    ]
    unnamed = [index for index, title in enumerate(titles) if not title]
    for column in columns:
        at = positions.get(column.name)
        if not column.grades or at is None:
            continue
        texts, states = _below(cells, at), {highest_of_line(line, at) for line in around}
        if normalise(titles[at]) not in set(map(normalise, column.titles)):
            states.add(highest_of_title(titles[at]))
        if states - {None, column.grades[1]} or have_other_scale(texts, *column.grades):
            problems.append(Problem("other_scale", column=column.name))
        elif at + 1 in unnamed and are_numbers(_below(cells, at + 1)):
            # One title above two columns: the second may hold the grade.
            problems.append(Problem("no_title", column=column.name))
    unsure = [i for i in ignored if i in free and normalise(titles[i]) not in own_titles] + unnamed
    asked = () if choices.without_grades else _questions(titles, columns, cells, positions, unsure)
    if shown := tuple(titles[index][:SHOWN] for index in ignored):
        notes.insert(0, Problem("left_out", values={"columns": ", ".join(shown[:20])}))
    return Columns(positions, tuple(problems), tuple(asked), tuple(notes))


def _chosen(
    titles: Sequence[str], columns: Sequence[Column], choices: Choices, problems: list[Problem]
) -> dict[str, int]:
    """Return the columns that a person named."""
    known = [normalise(title) for title in titles]
    names = {column.name for column in columns}
    positions: dict[str, int] = {}
    for title, name in choices.columns.items():
        number = known.count(normalise(title))
        if not number or (name and name not in names):
            problems.append(Problem("unknown_title", column=title[:SHOWN]))
        elif name in positions or (name and number > 1):
            problems.append(Problem("twice", column=title[:SHOWN]))
        elif name:
            positions[name] = known.index(normalise(title))
    return positions


def _matches(
    column: Column, titles: Sequence[str], free: Sequence[int], cells: Sequence[Sequence[str]]
) -> list[int]:
    """Return the indices of the titles that name a column, the surest first."""
    order = {normalise(title): rank for rank, title in reversed(list(enumerate(column.titles)))}
    found = [(order[key], i) for i in free if (key := normalise(titles[i])) in order]
    unsure = {normalise(title) for title in column.unsure_titles}
    for index in free:
        if normalise(titles[index]) in unsure:
            texts = _below(cells, index)
            if all(any(map(str.isdigit, text)) for text in texts) or are_names(texts):
                found.append((len(order), index))
    return [index for _, index in sorted(found)]


def _below(cells: Sequence[Sequence[str]], index: int) -> list[str]:
    return [line[index] for line in cells if index < len(line) and line[index]]


def _questions(
    titles: Sequence[str],
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    positions: Mapping[str, int],
    unused: Sequence[int],
) -> list[Problem]:
    """Return what must be asked about grades that would not be used."""
    grades = [column for column in columns if column.grades and column.name in PERIODS]
    absent = [
        column
        for column in grades
        if column.name not in positions
        or (cells and all(normalise(t) in UNKNOWN for t in _below(cells, positions[column.name])))
    ]
    suspects = [
        titles[index][:SHOWN] or f"n° {index + 1}"
        for index in unused
        if absent and _looks_like_grades(titles[index], _below(cells, index), absent)
    ]
    if suspects:
        return [Problem("grades_left_out", values={"columns": ", ".join(suspects)})]
    if grades and all(column.name not in positions for column in grades):
        return [Problem("no_grades", values={"columns": ", ".join(c.name for c in grades)})]
    return []


def _looks_like_grades(title: str, texts: Sequence[str], grades: Sequence[Column]) -> bool:
    words = re.findall(r"[a-z0-9]+", normalise(title))
    names = {word for column in grades for word in re.findall("[a-z0-9]+", normalise(column.name))}
    by_title = any(_GRADE_WORDS.fullmatch(word) or word in names for word in words)
    numbers = [parse_number(re.split(r"[/%]", text)[0]) for text in texts]
    known = [number for number in numbers if number is not None]
    if by_title:
        return bool(known) or not texts
    if len(known) < max(1, len(texts) // 2) or known == [known[0] + n for n in range(len(known))]:
        # Text, or the numbers of the rows.
        return False
    low, high = grades[0].grades or (0, 0)
    most = Counter(known).most_common(1)[0][1]
    return all(low <= n <= high for n in known) and max(known) > high / 4 and most < len(known)
