from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.grading import (
    GRID_SIZE,
    Answers,
    Decision,
    answers,
    decide,
    grid_index,
    grid_indices,
    whole_grade,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False)
residuals = st.lists(st.floats(-20, 20, allow_nan=False), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("grade", "decision"),
    [(9.49, Decision.FAIL), (9.5, Decision.PASS), (10.0, Decision.PASS), (0.0, Decision.FAIL)],
)
def test_decision_is_taken_on_the_grade_rounded_half_up(grade: float, decision: Decision) -> None:
    assert decide(grade) is decision


@given(st.lists(numbers, min_size=1))
def test_many_are_rounded_as_one_is(grades: list[float]) -> None:
    assert grid_indices(np.array(grades)).tolist() == [grid_index(grade) for grade in grades]


@given(numbers)
def test_shown_grade_is_within_bounds(grade: float) -> None:
    assert 0 <= grid_index(grade) < GRID_SIZE


@given(residuals, st.floats(-20, 20), st.floats(-20, 20))
def test_nothing_said_contradicts_itself(drawn: list[float], lower: float, upper: float) -> None:
    said: Answers = answers(drawn, lower, upper)
    for grade, decision, probability, low, high in zip(
        said.grade, said.decision, said.pass_probability, said.low, said.high, strict=True
    ):
        assert 0 <= low <= whole_grade(grade) <= high <= 20
        assert 0 <= probability <= 1
        assert decision is decide(grade)
        assert (probability >= 0.5) == (decision is Decision.PASS)
        if low >= 10:
            assert decision is Decision.PASS
        if high < 10:
            assert decision is Decision.FAIL
