"""Each row of a table of final grades is an outcome, or refused with its own reason."""

from __future__ import annotations

from typing import Any

import pytest

from student_success.domain.students import ACTUAL, GRADE_MAX, TARGET
from student_success.domain.tables.outcomes import read_outcomes
from student_success.domain.tables.problems import TableError
from tests.unit.domain.tables.files import Rows, text

TITLES = ["reference", TARGET]


def outcomes_of(rows: Rows) -> tuple[list[tuple[Any, Any]], list[str]]:
    """Return reference and grade of each outcome, and the codes of the problems."""
    found = read_outcomes(text(rows, delimiter=";"), session="s")
    grades = [(outcome.reference, getattr(outcome, ACTUAL)) for _, outcome in found.outcomes]
    return grades, [f"{problem.code} {problem.column}".strip() for problem in found.invalid]


@pytest.mark.parametrize("cell", ["10", "10.0", "10,00", "1e1", "\u200e10\u200e", " 10\u00a0"])
def test_outcome_is_read_however_its_number_is_written(cell: str) -> None:
    assert outcomes_of([TITLES, ["A-01", cell]]) == ([("A-01", 10)], [])


@pytest.mark.parametrize(
    "cell",
    ["Abs", "12/20", "10*", "(8)", "12.5", "05.12.2025", "1.500", "１２", "#N/A", "-1", "nan"],
)
def test_cell_that_is_no_final_grade_is_refused_as_such(cell: str) -> None:
    assert outcomes_of([TITLES, ["A-01", cell], ["A-02", 9]]) == (
        [("A-02", 9)],
        [f"outcome {TARGET}"],
    )


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([["", f"/{GRADE_MAX / 2:g}"], ["A-01", 8]], f"other_scale {TARGET}"),
        ([["A-01", 8], ["Max :", f"{GRADE_MAX / 2:g}"]], f"other_scale {TARGET}"),
        ([["A-01", "0,5"], ["A-02", "1"]], f"other_scale {TARGET}"),
        ([["1,23457E+11", 8]], "shortened reference"),
    ],
)
def test_grades_that_may_belong_to_another_scale_or_pupil_are_not_read(
    rows: Rows, problem: str
) -> None:
    assert outcomes_of([TITLES, *rows]) == ([], [problem])


def test_titles_are_skipped_where_they_are_repeated_and_refused_in_another_order() -> None:
    both = [("A-01", 8), ("A-02", 9)]
    assert outcomes_of([TITLES, ["A-01", 8], TITLES, ["A-02", 9]]) == (both, [])
    with pytest.raises(TableError, match="other titles"):
        outcomes_of([TITLES, ["A-01", 8], TITLES[::-1], [9, "A-02"]])


@pytest.mark.parametrize("title", ["Élève", "ID"])
def test_names_in_place_of_references_are_named_once(title: str) -> None:
    rows = [[title, TARGET], ["Marie Dupont", 12], ["Paul Martin", 8]]
    assert outcomes_of(rows) == ([], ["names_left_out", "no_column reference"])
