"""Turn a model's raw numbers into the grade, decision, interval and pass probability.

Everything in a prediction comes from one distribution over whole grades and one displayed grade.
The grade is rounded to two decimals first, and the displayed grade decides; the interval grows from
that grade, and the pass probability stays on its side of one half. So the parts of a prediction
never contradict each other.

Each rule exists twice, for one pupil in plain Python and for many in numpy, with the same
floating-point operations in the same order: the results are equal bit for bit.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from student_success.domain.decision import Decision
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PASS_LEVEL

CENTS = 100
"""A grade is displayed in hundredths."""
TEN_THOUSANDTHS = 10_000
"""A probability is displayed in these."""
HIGHEST = int(GRADE_MAX)
CHANGES = 2 * HIGHEST + 2
"""Outputs of a distribution model: the share who end at 0, then that of each change, −20 to 20."""

_LOWEST_PASS = PASS_LEVEL - 0.5
_HIGHEST_FAIL = _LOWEST_PASS - 1 / CENTS
_HALF = 0.5 - 1e-4
"""A grade is the median once this share lies at or below it; see `grade_models.HALF`."""
_LESS_THAN_HALF = 0.5 - 1 / TEN_THOUSANDTHS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def grid_index(grade: float) -> int:
    """Return the displayed grade in hundredths, 0 to 2000; the input may lie outside 0–20."""
    if grade >= GRADE_MAX:
        return HIGHEST * CENTS
    return math.floor(grade * CENTS + 0.5) if grade > GRADE_MIN else 0


def grid_indices(grades: Floats) -> Ints:
    """Return `grid_index` of each grade."""
    clipped = np.clip(grades, GRADE_MIN, GRADE_MAX)
    return np.floor(clipped * CENTS + 0.5).astype(np.int64)


def whole_grade(grade: float) -> int:
    """Round half up to the whole grade, as the school does."""
    return math.floor(grade + 0.5)


def decide(grade: float) -> Decision:
    """Decide on the displayed grade, rounded half up."""
    return Decision.PASS if whole_grade(grade) >= PASS_LEVEL else Decision.FAIL


def pass_probability(cdf_before: float, *, passes: bool) -> float:
    """Return the displayed pass probability.

    Parameters
    ----------
    cdf_before
        Probability of the highest grade that fails, or less.
    passes
        The decision; the probability is kept on the same side of one half.
    """
    probability = min(max(1.0 - cdf_before, 0.0), 1.0)
    probability = max(probability, 0.5) if passes else min(probability, _LESS_THAN_HALF)
    return math.floor(probability * TEN_THOUSANDTHS + 0.5) / TEN_THOUSANDTHS


def pass_probabilities(cdf_before: Floats, passes: NDArray[np.bool_]) -> Floats:
    """Return `pass_probability` of each row."""
    probability = np.clip(1.0 - cdf_before, 0.0, 1.0)
    probability = np.where(
        passes, np.maximum(probability, 0.5), np.minimum(probability, _LESS_THAN_HALF)
    )
    rounded: Floats = np.floor(probability * TEN_THOUSANDTHS + 0.5) / TEN_THOUSANDTHS
    return rounded


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


def residual_cdfs(grades: Floats, residuals: Floats) -> Floats:
    """Return distributions over whole grades around predicted ones.

    Parameters
    ----------
    residuals
        Evenly spaced quantiles of final grade minus prediction on pupils the model had not seen.

    Returns
    -------
    array
        ``(pupils, 20)``.
    """
    ends = np.arange(HIGHEST) + 0.5
    below = np.searchsorted(np.sort(residuals), ends[None, :] - grades[:, None], side="right")
    return below / len(residuals)


def interval(cdf: Sequence[float], whole: int, mass: float) -> tuple[int, int]:
    """Grow an interval of whole grades from the displayed one, adding the likelier neighbour.

    Parameters
    ----------
    whole
        The displayed grade, rounded half up.
    mass
        How much of the distribution the interval contains, as calibrated.
    """
    low = high = whole
    before = cdf[low - 1] if low else 0.0
    upto = cdf[high] if high < HIGHEST else 1.0
    while upto - before < mass and (low or high < HIGHEST):
        down = (before - (cdf[low - 2] if low > 1 else 0.0)) if low else -1.0
        up = ((cdf[high + 1] if high + 1 < HIGHEST else 1.0) - upto) if high < HIGHEST else -1.0
        if down > up or (down == up and before > 1.0 - upto):
            low -= 1
            before = cdf[low - 1] if low else 0.0
        else:
            high += 1
            upto = cdf[high] if high < HIGHEST else 1.0
    return low, high


def grow(cdf: Floats, whole: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield the steps of `interval` for many pupils: lowest and highest grade, and mass."""
    padded = _padded(cdf)
    row = np.arange(len(cdf))
    low, high = whole.copy(), whole.copy()
    for _ in range(HIGHEST + 1):
        before, upto = padded[row, low + 1], padded[row, high + 2]
        yield low.copy(), high.copy(), upto - before
        down = np.where(low > 0, before - padded[row, low], -1.0)
        up = np.where(high < HIGHEST, padded[row, high + 3] - upto, -1.0)
        lower = (down > up) | ((down == up) & (before > 1.0 - upto))
        low -= lower & (low > 0)
        high += ~lower & (high < HIGHEST)


def intervals(cdf: Floats, whole: Ints, mass: Floats) -> tuple[Ints, Ints]:
    """Return `interval` of each row: `grow` only the rows that still need more mass."""
    padded = _padded(cdf)
    flat, width = padded.ravel(), padded.shape[1]
    low, high = whole.copy(), whole.copy()
    open_rows = np.arange(len(cdf))
    while len(open_rows):
        base = open_rows * width
        at_low, at_high = low[open_rows], high[open_rows]
        before, upto = flat[base + at_low + 1], flat[base + at_high + 2]
        more = (upto - before < mass[open_rows]) & ((at_low > 0) | (at_high < HIGHEST))
        open_rows, base = open_rows[more], base[more]
        at_low, at_high, before, upto = at_low[more], at_high[more], before[more], upto[more]
        down = np.where(at_low > 0, before - flat[base + at_low], -1.0)
        up = np.where(at_high < HIGHEST, flat[base + at_high + 3] - upto, -1.0)
        lower = (down > up) | ((down == up) & (before > 1.0 - upto))
        low[open_rows] = at_low - (lower & (at_low > 0))
        high[open_rows] = at_high + (~lower & (at_high < HIGHEST))
    return low, high


def alarm_level(alarm: Mapping[str, Any], recall: float) -> float:
    """Return the alarm level of the lowest recorded recall that is at least `recall`."""
    index = min(bisect_left(alarm["recall"], recall), len(alarm["recall"]) - 1)
    return float(alarm["level"][index])


def _padded(cdf: Floats) -> Floats:
    """Return F(-2), F(-1), then F(0) … F(19), F(20), F(21): no index is out of range."""
    padded = np.ones((len(cdf), HIGHEST + 4))
    padded[:, :2] = 0.0
    padded[:, 2:-2] = cdf
    return padded
