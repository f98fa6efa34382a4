from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from student_success.domain.students import PASS_LEVEL
from student_success.model.change_shares import (
    CHANGES,
    cdf_of_changes,
    cdfs_of_changes,
    grade_of_cdf,
    grades_of_cdfs,
)
from student_success.model.grading import (
    HIGHEST,
    PARTS,
    grid_index,
    grid_indices,
    interval,
    intervals,
    nearest_level,
    nearest_levels,
    pass_probabilities,
    pass_probability,
)
from student_success.model.two_parts import TwoParts

numbers = st.floats(-1e3, 1e3, allow_nan=False)
grades = st.integers(0, 2000).map(lambda n: n / 100)
weights = hnp.arrays(np.float64, CHANGES, elements=st.integers(0, 20).map(float))
shares = weights.filter(lambda w: w.sum() > 0).map(lambda w: w / w.sum())
masses = st.floats(0.0, 1.0)


@pytest.mark.parametrize(("index", "level"), [(949, 9), (950, 10), (1000, 10), (0, 0), (2000, 20)])
def test_nearest_level_is_the_better_one_at_a_half(index: int, level: int) -> None:
    assert nearest_level(index) == level
    assert nearest_levels(np.array([index])).tolist() == [level]


@given(st.lists(numbers, min_size=1))
def test_many_are_rounded_as_one_is(drawn: list[float]) -> None:
    assert grid_indices(np.array(drawn)).tolist() == [grid_index(grade) for grade in drawn]


@given(numbers)
def test_shown_grade_is_within_bounds(grade: float) -> None:
    assert 0 <= grid_index(grade) <= HIGHEST * PARTS


@given(shares, grades, st.floats(0, 1), masses)
def test_nothing_said_contradicts_itself(
    share: np.ndarray, last: float, median_share: float, mass: float
) -> None:
    cdf = cdf_of_changes(share.tolist(), last)
    whole = nearest_level(grid_index(grade_of_cdf(cdf, median_share)))
    passes = whole >= PASS_LEVEL
    probability = pass_probability(cdf[PASS_LEVEL - 1], passes=passes)
    low, high = interval(cdf, whole, mass)
    assert 0 <= low <= whole <= high <= HIGHEST
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
    whole = nearest_levels(grid_indices(found))
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
    whole = nearest_level(grid_index(grade_of_cdf(cdf, 0.5)))
    low, high = interval(cdf, whole, mass)
    lower, higher = interval(cdf, whole, min(1.0, mass + 0.1))
    assert lower <= low <= high <= higher


rising = (
    st.lists(st.integers(-800, 800), min_size=2, max_size=30, unique=True)
    .map(sorted)
    .map(lambda errors: [error / 100 for error in errors])
)
raw_pairs = st.tuples(st.floats(-25, 25), st.floats(-20, 20))


logits = st.one_of(st.floats(-20, 20), st.sampled_from([-2000.0, -700.5, -700.0, 30.0, 2000.0]))
pupils = st.tuples(st.tuples(st.floats(-25, 25), logits), grades, st.integers(0, 15))


@given(rising, st.floats(0, 0.1), st.lists(pupils, min_size=1, max_size=5), masses)
def test_two_parts_say_the_same_of_many_as_of_one(
    errors: list[float],
    widening: float,
    drawn: list[tuple[tuple[float, float], float, int]],
    mass: float,
) -> None:
    reader = TwoParts(errors, widening)
    one = [reader.one(*pupil) for pupil in drawn]
    raw, last, unknown = map(np.array, zip(*drawn, strict=True))
    levels, cdf = reader.many(raw, last, unknown)
    assert levels.tolist() == [level for level, _ in one]
    assert cdf.tolist() == [distribution for _, distribution in one]
    for level, distribution in one:
        assert all(a <= b + 1e-12 for a, b in pairwise(distribution))
        assert -1e-12 <= distribution[0] <= distribution[-1] <= 1 + 1e-12
        index = grid_index(level)
        # The grade is the median, so both fall on the same side of the pass mark.
        if abs(distribution[PASS_LEVEL - 1] - 0.5) > 0.001 and abs(level - 9.5) > 0.01:
            passes = nearest_level(index) >= PASS_LEVEL
            assert (distribution[PASS_LEVEL - 1] < 0.5) == passes
        low, high = interval(distribution, nearest_level(index), mass)
        assert low <= nearest_level(index) <= high


@given(raw_pairs, raw_pairs, grades, grades, st.integers(0, 15))
def test_shares_of_two_parts_add_up(
    start: tuple[float, float], added: tuple[float, float], last: float, usual: float, unknown: int
) -> None:
    reader = TwoParts([-1.5, -0.5, 0.0, 0.25, 2.0], 0.02)
    by_feature = np.array([added, (0.5, -0.25), (0.0, 0.0)])
    shares, of_last, average = reader.divide(
        by_feature, np.array(start), average_last=usual, last=last, unknown=unknown
    )
    end = np.array(start) + by_feature.sum(axis=0)
    reached, _ = reader.one(end.tolist(), last, unknown)
    assert average == reader.one(start, usual, 0)[0]
    change = float(by_feature[:, 0].sum()) + last - usual
    if abs(change) > 1e-6 and abs(float(by_feature[:, 1].sum())) > 1e-6:
        assert shares.sum() + of_last == pytest.approx(reached - average, abs=1e-6)


def test_errors_that_do_not_rise_are_refused() -> None:
    for errors in ([0.0], [0.0, 0.0], [1.0, 0.0], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="do not rise"):
            TwoParts(errors)


@pytest.mark.parametrize("widening", [-0.1, float("inf"), float("nan")])
def test_errors_that_shrink_or_grow_without_end_are_refused(widening: float) -> None:
    with pytest.raises(ValueError, match="grow"):
        TwoParts([-1.0, 1.0], widening)


def test_distribution_is_wider_the_less_is_known() -> None:
    reader = TwoParts([-2.0, 0.0, 2.0], 0.1)
    middle = [reader.one((0.2, -3.0), 10.0, unknown) for unknown in (0, 5, 15)]
    spread = [sum(share * (1 - share) for share in cdf) for _, cdf in middle]
    assert spread[0] < spread[1] < spread[2]
