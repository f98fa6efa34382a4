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
    target: NDArray[np.float64],
    *,
    splits: int,
    repeats: int = 1,
    seed: int,
    of_file: int | None = None,
) -> Iterator[tuple[Indices, Indices]]:
    """Yield positions of training and test pupils, `repeats` times `splits` folds.

    Of more than `MOST_PUPILS` pupils that many are drawn at random, the others are in no fold. The
    pupils of the file, which are judged alone too, are all drawn or at least half of those drawn.

    Parameters
    ----------
    target
        Final grade of each pupil; the folds are stratified on its band.
    of_file
        Pupils from this position on were added from the history; None if none were.
    """
    drawn = np.arange(len(target))
    if len(target) > MOST_PUPILS:
        random, end = np.random.default_rng(seed), len(target) if of_file is None else of_file
        count = min(end, max(MOST_PUPILS // 2, MOST_PUPILS * end // len(target)))
        added = random.choice(drawn[end:], MOST_PUPILS - count, replace=False)
        drawn = np.concatenate([random.choice(drawn[:end], count, replace=False), added])
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
