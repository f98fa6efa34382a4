from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from student_success.domain.decision import Decision
from student_success.domain.students import PASS_LEVEL
from student_success.model.grading import (
    CENTS,
    CHANGES,
    HIGHEST,
    cdf_of_changes,
    cdfs_of_changes,
    decide,
    grade_of_cdf,
    grades_of_cdfs,
    grid_index,
    grid_indices,
    interval,
    intervals,
    pass_probabilities,
    pass_probability,
    residual_cdfs,
    whole_grade,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False)
grades = st.integers(0, 2000).map(lambda n: n / 100)
weights = hnp.arrays(np.float64, CHANGES, elements=st.integers(0, 20).map(float))
shares = weights.filter(lambda w: w.sum() > 0).map(lambda w: w / w.sum())
masses = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("grade", "decision"),
    [(9.49, Decision.FAIL), (9.5, Decision.PASS), (10.0, Decision.PASS), (0.0, Decision.FAIL)],
)
def test_decision_is_taken_on_the_grade_rounded_half_up(grade: float, decision: Decision) -> None:
    assert decide(grade) is decision


@given(st.lists(numbers, min_size=1))
def test_many_are_rounded_as_one_is(drawn: list[float]) -> None:
    assert grid_indices(np.array(drawn)).tolist() == [grid_index(grade) for grade in drawn]


@given(numbers)
def test_shown_grade_is_within_bounds(grade: float) -> None:
    assert 0 <= grid_index(grade) <= HIGHEST * CENTS


@given(shares, grades, st.floats(0, 1), masses)
def test_nothing_said_contradicts_itself(
    share: np.ndarray, last: float, median_share: float, mass: float
) -> None:
    cdf = cdf_of_changes(share.tolist(), last)
    shown = grid_index(grade_of_cdf(cdf, median_share)) / CENTS
    passes = whole_grade(shown) >= PASS_LEVEL
    probability = pass_probability(cdf[PASS_LEVEL - 1], passes=passes)
    low, high = interval(cdf, whole_grade(shown), mass)
    assert 0 <= low <= whole_grade(shown) <= high <= HIGHEST
    assert 0 <= probability <= 1
    assert (probability >= 0.5) == passes
    if low >= PASS_LEVEL:
        assert passes
    if high < PASS_LEVEL:
        assert not passes


@given(st.lists(shares, min_size=1, max_size=5), st.data(), st.floats(0, 1), masses)
def test_many_are_answered_bit_for_bit_as_one_is(
    drawn: list[np.ndarray], data: st.DataObject, median_share: float, mass: float
) -> None:
    last = np.array([data.draw(grades) for _ in drawn])
    cdfs = cdfs_of_changes(np.array(drawn), last)
    one = [cdf_of_changes(s.tolist(), known) for s, known in zip(drawn, last.tolist(), strict=True)]
    assert cdfs.tolist() == one
    found = grades_of_cdfs(cdfs, median_share)
    assert found.tolist() == [grade_of_cdf(cdf, median_share) for cdf in one]
    whole = np.floor(grid_indices(found) / CENTS + 0.5).astype(np.int64)
    low, high = intervals(cdfs, whole, np.full(len(drawn), mass))
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == [
        interval(cdf, w, mass) for cdf, w in zip(one, whole.tolist(), strict=True)
    ]
    passes = whole >= PASS_LEVEL
    assert pass_probabilities(cdfs[:, PASS_LEVEL - 1], passes).tolist() == [
        pass_probability(cdf[PASS_LEVEL - 1], passes=bool(yes))
        for cdf, yes in zip(one, passes, strict=True)
    ]


@given(shares, st.integers(0, 20))
def test_distribution_keeps_all_pupils_and_never_falls(share: np.ndarray, last: int) -> None:
    cdf = cdf_of_changes(share.tolist(), last)
    assert all(a <= b + 1e-12 for a, b in pairwise(cdf))
    changes = np.arange(-HIGHEST, HIGHEST + 1)
    for grade in range(HIGHEST):
        expected = share[0] + share[1:][last + changes <= grade].sum()
        assert cdf[grade] == pytest.approx(expected, abs=1e-12)


@given(shares, st.floats(0, 20), st.floats(0.01, 1.0))
def test_more_mass_never_makes_the_interval_smaller(
    share: np.ndarray, last: float, mass: float
) -> None:
    cdf = cdf_of_changes(share.tolist(), last)
    whole = whole_grade(grid_index(grade_of_cdf(cdf, 0.5)) / CENTS)
    low, high = interval(cdf, whole, mass)
    lower, higher = interval(cdf, whole, min(1.0, mass + 0.1))
    assert lower <= low <= high <= higher


def test_residuals_make_a_distribution_around_the_grade() -> None:
    cdf = residual_cdfs(np.array([10.0]), np.array([-1.0, 0.0, 0.0, 2.0]))
    assert cdf[0, 8] == 0
    assert cdf[0, 9] == 0.25
    assert cdf[0, 10] == cdf[0, 11] == 0.75
    assert cdf[0, 12] == 1
