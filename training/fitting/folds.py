"""Split pupils into folds: all copies of a pupil (see `hide`) are on the same side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from student_success.domain.students import FEATURES, PASS_LEVEL
from student_success.model.grading import HIGHEST
from training.fitting.families import levels_of

Indices = NDArray[np.int64]

_BANDS = (0.5, PASS_LEVEL - 0.5, PASS_LEVEL - 0.5 + 0.4 * (HIGHEST - PASS_LEVEL))
"""Bounds between left the course, failed, passed, passed well: each fold has equal shares."""
MOST_PUPILS = min(10_000, max(2_000, 500_000 // sum(max(1, len(f.categories)) for f in FEATURES)))
"""Of more pupils so many are drawn for the folds: more would not make an error better known. Fewer
where a pupil has many values, as a fit takes longer then."""


def folds(
    target: NDArray[np.float64], *, splits: int, repeats: int = 1, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    """Yield positions of training and test pupils, `repeats` times `splits` folds.

    Of more than `MOST_PUPILS` pupils that many are drawn at random, the others are in no fold.

    Parameters
    ----------
    target
        Final grade of each pupil; the folds are stratified on its band.
    """
    drawn = np.arange(len(target))
    if len(target) > MOST_PUPILS:
        drawn = np.random.default_rng(seed).choice(drawn, MOST_PUPILS, replace=False)
        drawn.sort()
    bands = np.digitize(levels_of(target[drawn]), _BANDS)
    # A band with fewer pupils than folds is merged into the failed ones.
    counts = np.bincount(bands, minlength=len(_BANDS) + 1)
    bands = np.where(counts[bands] < splits, 1, bands)
    counts = np.bincount(bands)
    # If those are still too few, into the largest one: some folds then have no failed pupil.
    bands = np.where(counts[bands] < splits, counts.argmax(), bands)
    for repeat in range(repeats):
        splitter = StratifiedKFold(splits, shuffle=True, random_state=seed + repeat)
        for train, test in splitter.split(drawn, bands):
            yield drawn[train], drawn[test]
