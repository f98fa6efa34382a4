"""The folds of a training, and how many pupils they take."""

from __future__ import annotations

import numpy as np
import pytest

from student_success.domain.students import PASS_GRADE, SCALE
from training.fitting.folds import MOST_PUPILS, folds


@pytest.mark.parametrize("pupils", [60, MOST_PUPILS, 3 * MOST_PUPILS])
def test_folds_take_every_pupil_or_as_many_as_a_training_has_time_for(pupils: int) -> None:
    grades = np.random.default_rng(0).integers(SCALE.minimum, SCALE.maximum + 1, pupils)
    target = grades.astype(np.float64)
    planned = list(folds(target, splits=5, seed=3))
    tested = np.concatenate([test for _, test in planned])
    taken = min(pupils, MOST_PUPILS)
    assert len(tested) == len(np.unique(tested)) == taken
    for train, test in planned:
        assert sorted(np.union1d(train, test)) == sorted(tested)
        assert not np.intersect1d(train, test).size
        # Each fold has the same share of every outcome.
        assert abs((target[test] < PASS_GRADE).mean() - (target[tested] < PASS_GRADE).mean()) < 0.07
    again = list(folds(target, splits=5, seed=3))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(planned, again, strict=True))


@pytest.mark.parametrize(
    ("of_file", "added"),
    [(100, 9 * MOST_PUPILS), (MOST_PUPILS, MOST_PUPILS // 10), (MOST_PUPILS // 2, 9 * MOST_PUPILS)],
)
def test_folds_hold_enough_pupils_of_the_file_when_many_are_added(of_file: int, added: int) -> None:
    target = np.full(of_file + added, float(PASS_GRADE))
    planned = folds(target, splits=5, seed=3, of_file=of_file)
    tested = np.concatenate([test for _, test in planned])
    assert len(tested) == len(np.unique(tested)) == MOST_PUPILS
    assert (tested < of_file).sum() >= min(of_file, MOST_PUPILS // 2)
    assert (tested >= of_file).sum() >= min(added, MOST_PUPILS // 11)
