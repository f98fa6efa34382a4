"""Read a table of grades really obtained: who, and the final grade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from student_success.domain.schemas.history import Outcome
from student_success.domain.students import ACTUAL, GRADE, TARGET
from student_success.domain.tables.cells import (
    is_shortened,
    parse_final_grade,
    parse_number,
    parse_reference,
)
from student_success.domain.tables.columns import REFERENCE, Choices, Column, reference_column
from student_success.domain.tables.problems import Problem
from student_success.domain.tables.reader import read_table

PREDICTION, SESSION = "prediction_id", "session_id"
COLUMNS = (
    reference_column(),
    Column(PREDICTION, (PREDICTION, "prediction id", "identifiant de l'estimation")),
    Column(SESSION, (SESSION, "session")),
    Column(
        TARGET,
        (
            *(ACTUAL, "obtained", "note obtenue", "actual grade", "final grade", "note finale"),
            *(TARGET, GRADE.label.fr, GRADE.label.en, *GRADE.also),
        ),
        required=True,
        grades=(GRADE.minimum, GRADE.maximum),
    ),
)

_BOUNDS = {"low": f"{GRADE.minimum:g}", "high": f"{GRADE.maximum:g}"}


@dataclass(frozen=True, slots=True)
class OutcomeList:
    """The outcomes of a table.

    Attributes
    ----------
    outcomes
        Line in the file and body of each outcome.
    without_grade
        Number of rows that have no grade yet.
    """

    outcomes: tuple[tuple[int, Outcome], ...]
    invalid: tuple[Problem, ...]
    without_grade: int


def read_outcomes(
    data: bytes, choices: Choices | None = None, *, session: str | None = None
) -> OutcomeList:
    """Read outcomes, for example in a class list that was saved and completed.

    Parameters
    ----------
    session
        Session of the references, where the table has no column for it.

    Raises
    ------
    TableError
        If it is not a readable table.
    """
    table = read_table(data, COLUMNS, choices)
    found: list[tuple[int, Outcome]] = []
    invalid = [*table.columns.problems]
    if not {REFERENCE, PREDICTION} & {*table.columns.positions}:
        invalid += [note for note in table.columns.notes if note.code == "names_left_out"]
        invalid.append(Problem("no_column", column=REFERENCE))
    without_grade = 0
    for line, cells in table.rows if not invalid else ():
        texts, marked = table.texts(cells), table.marked(line)
        if marked:
            invalid += [Problem(code, line, name) for name, code in marked.items()]
        elif is_shortened(parse_reference(texts.get(REFERENCE, ""))):
            invalid.append(Problem("shortened", line, REFERENCE))
        elif not texts[TARGET]:
            without_grade += 1
        else:
            outcome = _outcome(texts, session)
            if outcome is None:
                column = TARGET if parse_final_grade(texts[TARGET]) is None else ""
                invalid.append(Problem("outcome", line, column, values=_BOUNDS))
            else:
                found.append((line, outcome))
    invalid += table.invalid
    return OutcomeList(tuple(found), tuple(invalid), without_grade)


def _outcome(texts: Mapping[str, str], session: str | None) -> Outcome | None:
    body: dict[str, Any] = {ACTUAL: parse_number(texts[TARGET])}
    if prediction := texts.get(PREDICTION):
        body[PREDICTION] = prediction
    else:
        body[SESSION] = texts.get(SESSION) or session
        body[REFERENCE] = parse_reference(texts.get(REFERENCE, "")) or None
    try:
        return Outcome.model_validate(body)
    except ValidationError:
        return None
