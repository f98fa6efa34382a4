"""Turn the rows of a table into pupils by the rules of the API, and name every invalid cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from student_success.domain.students import Feature, StudentFeatures
from student_success.domain.tables.cells import (
    feature_of,
    is_shortened,
    parse_cell,
    parse_reference,
    text_of,
)
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.problems import SHOWN, Problem
from student_success.domain.tables.reader import Table

_FIRST_ROWS = 5
_ONLY_OF_GRADES = frozenset({"shown_otherwise", "hidden"})
"""Marks that do not matter in other columns: a grade of 0 that is not shown is often no grade."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """A valid row.

    Attributes
    ----------
    line
        Line in the file.
    reference
        The reader's own code for the pupil, or "".
    features
        Body of ``POST /predict``.
    """

    line: int
    reference: str
    features: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PupilList:
    """The pupils of a table.

    Attributes
    ----------
    questions
        What a person must confirm before the pupils are used.
    notes
        What a person should know.
    problems
        Number of problems, with those that are not in `invalid` because there are too many.
    rows
        Number of rows, with invalid ones.
    titles
        The header.
    first
        The first rows, as text.
    """

    pupils: tuple[Pupil, ...]
    invalid: tuple[Problem, ...]
    questions: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    problems: int
    rows: int
    titles: tuple[str, ...]
    first: tuple[list[str], ...]


def read_pupils(table: Table, *, max_problems: int | None = None) -> PupilList:
    """Read the rows of a table as pupils; none if its columns are not right.

    Parameters
    ----------
    max_problems
        Most problems to keep; the first ones.
    """
    invalid = [*table.columns.problems]
    pupils: list[Pupil] = []
    if not invalid:
        invalid += table.invalid
        for line, cells in table.rows:
            row = read_pupil(line, table.texts(cells), table.marked(line))
            if isinstance(row, Pupil):
                pupils.append(row)
            else:
                invalid.extend(row)
    invalid.sort(key=lambda problem: problem.line or 0)
    return PupilList(
        tuple(pupils),
        tuple(invalid[:max_problems]),
        table.columns.questions,
        (*table.notes, *repeated_references(table)),
        len(invalid),
        len(table.rows) + len(table.invalid),
        table.titles,
        tuple(cells for _, cells in table.rows[:_FIRST_ROWS]),
    )


def read_pupil(
    line: int, texts: Mapping[str, str], marked: Mapping[str, str] | None = None
) -> Pupil | list[Problem]:
    """Read a row as a pupil; return what is wrong with it if it is not one.

    Parameters
    ----------
    marked
        Code of the problem of each column whose cell cannot be used, see `Grid`.
    """
    problems = {
        name: Problem(code, line, name)
        for name, code in (marked or {}).items()
        if name == REFERENCE
        or code not in _ONLY_OF_GRADES
        or (code == "hidden" and feature_of(name).is_period)
    }
    body = request_body_of(texts)
    reference = body.get(REFERENCE, "")
    if is_shortened(reference):
        problems.setdefault(REFERENCE, Problem("shortened", line, REFERENCE, reference))
    if not problems and not any(ord(letter) < 32 for letter in reference):
        try:
            StudentFeatures.model_validate(body)
        except ValidationError as error:
            reasons = explain_errors(error)
        else:
            return Pupil(line, reference, body)
    else:
        reasons = {} if problems else {REFERENCE: ("reference", {})}
    for name, (code, values) in reasons.items():
        if "%" in texts.get(name, "") and code in ("grade", "number", "whole"):
            code, values = "percent", {}
        problems[name] = Problem(code, line, name, texts.get(name, "")[:SHOWN], values)
    return list(problems.values())


def request_body_of(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of ``POST /predict`` for a row of cells; it is not validated.

    Text is read as people write it. A number of a Parquet file is certain, and stays.
    """
    body: dict[str, Any] = {}
    for name, cell in cells.items():
        text = text_of(cell).strip()
        if name == REFERENCE:
            if reference := parse_reference(text):
                body[REFERENCE] = reference
        elif _is_number(cell) and feature_of(name).kind != "category":
            body[name] = cell if isinstance(cell, int) else float(cell)
        elif text or feature_of(name).nullable:
            body[name] = parse_cell(feature_of(name), text)
    return body


def _is_number(cell: object) -> bool:
    is_number = isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)
    return is_number and cell == cell


def explain_errors(error: ValidationError) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return for each invalid field the code of the problem, and its values."""
    reasons: dict[str, tuple[str, dict[str, Any]]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        reason: tuple[str, dict[str, Any]]
        if problem["type"] == "grades_out_of_order":
            name, reason = str(problem["ctx"]["earlier"]), ("order", {})
        elif name == REFERENCE:
            reason = ("reference", {})
        else:
            reason = _reason(feature_of(name), problem["type"])
        reasons.setdefault(name, reason)
    return reasons


def repeated_references(table: Table) -> list[Problem]:
    """Return a note for each reference that stands in more than one row."""
    lines: dict[str, list[int]] = {}
    for line, cells in table.rows:
        if reference := parse_reference(table.texts(cells).get(REFERENCE, "")):
            lines.setdefault(reference, []).append(line)
    return [
        Problem(
            "reference_repeated",
            values={"reference": reference[:SHOWN], "lines": ", ".join(map(str, places))},
        )
        for reference, places in lines.items()
        if len(places) > 1
    ][:20]


def _reason(feature: Feature, error_type: str) -> tuple[str, dict[str, Any]]:
    if error_type == "missing":
        return "missing", {}
    if feature.kind == "category":
        return "choice", {"choices": ", ".join(feature.categories)}
    code = "whole" if feature.kind == "integer" else "grade" if feature.is_period else "number"
    return code, {"low": f"{feature.low:.10g}", "high": f"{feature.high:.10g}"}
