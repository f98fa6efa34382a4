"""Distributions of the change since the last known grade: what versions of format 2 predict.

Their trees return the share of pupils who ended at the worst grade, then the share of each change
in levels. Versions of this format are served and not trained any more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from student_success.domain.students import PASS_LEVEL
from student_success.model.grading import HIGHEST, PARTS

CHANGES = 2 * HIGHEST + 2
"""Outputs of the trees."""

_LOWEST_PASS = PASS_LEVEL - 0.5
_HIGHEST_FAIL = _LOWEST_PASS - 1 / PARTS
_HALF = 0.5 - 1e-4
"""A level is the median once this share lies at or below it, to decide ties."""

Floats = NDArray[np.float64]


class ChangeShares:
    """Read the outputs of the trees of one version.

    Parameters
    ----------
    median_share
        Of the median in the grade; the mean has the rest.
    """

    outputs = CHANGES

    def __init__(self, median_share: float) -> None:
        self._median_share = median_share

    def one(self, raw: Sequence[float], last: float, _unknown: int) -> tuple[float, list[float]]:
        """Return level and distribution of one pupil, as `TwoParts.one`."""
        cdf = cdf_of_changes(raw, last)
        return grade_of_cdf(cdf, self._median_share), cdf

    def many(self, raw: Floats, last: Floats, _unknown: object) -> tuple[Floats, Floats]:
        """Return `one` of each row."""
        cdf = cdfs_of_changes(raw, last)
        return grades_of_cdfs(cdf, self._median_share), cdf

    def divide(
        self, by_feature: Floats, start: Floats, *, average_last: float, last: float, unknown: int
    ) -> tuple[Floats, float, float]:
        """Divide the difference between a pupil and the average one among the features.

        The mean is linear in the shares, and each level by which the median moves is divided like
        the probability that moved it.

        Parameters
        ----------
        by_feature
            ``(features, outputs)``: what each adds to the outputs of the trees.
        start
            Outputs for the average pupil.
        average_last, last
            Level of the last known grade, of the average pupil and of this one.
        unknown
            How many other values of this pupil are not known; these versions know them all.

        Returns
        -------
        tuple
            Share of each feature, share of the last known grade itself, and the level of the
            average pupil.
        """
        end = start + by_feature.sum(axis=0)
        cdf = cdfs_of_changes(np.stack([start, start, end]), np.array([average_last, last, last]))
        levels = grades_of_cdfs(cdf, self._median_share)
        moved = cdfs_of_changes(by_feature, np.full(len(by_feature), last))
        median = np.zeros(len(moved))
        crossed = (cdf[2] < _HALF).astype(int) - (cdf[1] < _HALF).astype(int)
        for level in np.flatnonzero(crossed):
            median += crossed[level] * moved[:, level] / (cdf[2, level] - cdf[1, level])
        share = self._median_share
        shares: Floats = (1.0 - share) * -moved.sum(axis=1) + share * median
        return shares, float(levels[1] - levels[0]), float(levels[0])


def cdf_of_changes(shares: Sequence[float], last: float) -> list[float]:
    """Turn shares of changes into a distribution over whole grades.

    Parameters
    ----------
    shares
        `CHANGES` numbers.
    last
        Last known grade, 0 to 20; a fraction divides its pupils between two whole grades.

    Returns
    -------
    list
        20 numbers: the probability that the final grade is at most 0, 1, … 19.
    """
    summed = list(accumulate(shares[1:], initial=0.0))
    whole = int(last)
    start = HIGHEST + 1 - whole
    left = shares[0]
    part = last - whole
    if part:
        rest = 1.0 - part
        return [
            left + (rest * above + part * below)
            for above, below in zip(
                summed[start : start + HIGHEST],
                summed[start - 1 : start + HIGHEST - 1],
                strict=True,
            )
        ]
    return [left + share for share in summed[start : start + HIGHEST]]


def cdfs_of_changes(shares: Floats, last: Floats) -> Floats:
    """Return `cdf_of_changes` of each row: ``(pupils, 20)``."""
    summed = np.zeros((len(shares), CHANGES))
    np.cumsum(shares[:, 1:], axis=1, out=summed[:, 1:])
    whole = last.astype(np.int64)
    part = last - whole
    # Copy twenty neighbours a row: picking single numbers takes three times as long.
    windows = sliding_window_view(summed, HIGHEST, axis=1)
    start = HIGHEST + 1 - whole
    cdf: Floats = windows[np.arange(len(last)), start]
    between = np.flatnonzero(part > 0)
    if len(between):
        share = part[between, None]
        below = windows[between, start[between] - 1]
        cdf[between] = (1.0 - share) * cdf[between] + share * below
    cdf += shares[:, :1]
    return cdf


def grade_of_cdf(cdf: Sequence[float], median_share: float) -> float:
    """Blend mean and median of a distribution, on the median's side of the pass mark."""
    mean = 0.0
    for share in cdf:
        mean += 1.0 - share
    median = bisect_left(cdf, _HALF)
    grade = (1.0 - median_share) * mean + median_share * median
    return max(grade, _LOWEST_PASS) if median >= PASS_LEVEL else min(grade, _HIGHEST_FAIL)


def grades_of_cdfs(cdf: Floats, median_share: float) -> Floats:
    """Return `grade_of_cdf` of each row."""
    # `cumsum` adds in the order of the loop above; `sum` does not.
    mean = np.cumsum(1.0 - cdf, axis=1)[:, -1]
    median = (cdf < _HALF).sum(axis=1)
    grade = (1.0 - median_share) * mean + median_share * median
    sided: Floats = np.where(
        median >= PASS_LEVEL, np.maximum(grade, _LOWEST_PASS), np.minimum(grade, _HIGHEST_FAIL)
    )
    return sided
