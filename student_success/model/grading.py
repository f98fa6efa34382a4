"""Turn a distribution over levels into the grade, decision, interval and pass probability.

Everything in a prediction comes from one distribution over the levels of the scale and one
displayed grade. The grade is rounded to hundredths first, and the displayed grade decides; the
interval grows from that grade, and the pass probability stays on its side of one half. So the parts
of a prediction never contradict each other.

Each rule exists twice, for one pupil in plain Python and for many in numpy, with the same
floating-point operations in the same order: the results are equal bit for bit.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.domain.students import SCALE

PARTS = SCALE.parts
"""Hundredths of a grade in one level: a grade is displayed in hundredths."""
TEN_THOUSANDTHS = 10_000
"""A probability is displayed in these."""
HIGHEST = SCALE.highest
"""The best level."""
GRADES = [SCALE.grade(level) for level in range(HIGHEST + 1)]
"""The grade of each level."""
SHOWN = [SCALE.displayed(index) for index in range(HIGHEST * PARTS + 1)]
"""The displayed grade some hundredths above the worst one."""

_LESS_THAN_HALF = 0.5 - 1 / TEN_THOUSANDTHS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def grid_index(level: float) -> int:
    """Return the displayed grade in hundredths above the worst; `level` may be off the scale."""
    if level >= HIGHEST:
        return HIGHEST * PARTS
    return math.floor(level * PARTS + 0.5) if level > 0.0 else 0


def grid_indices(levels: Floats) -> Ints:
    """Return `grid_index` of each level."""
    return np.floor(np.clip(levels, 0.0, float(HIGHEST)) * PARTS + 0.5).astype(np.int64)


def grade_bounds(low: int, high: int) -> tuple[float, float]:
    """Return the lower and the higher grade of two levels, the first not above the second."""
    return (GRADES[low], GRADES[high]) if SCALE.sign > 0 else (GRADES[high], GRADES[low])


def nearest_level(index: int) -> int:
    """Return the level of the existing grade nearest to a displayed one, half to the better."""
    return (2 * index + PARTS) // (2 * PARTS)


def nearest_levels(indices: Ints) -> Ints:
    """Return `nearest_level` of each displayed grade."""
    levels: Ints = (2 * indices + PARTS) // (2 * PARTS)
    return levels


def pass_probability(cdf_before: float, *, passes: bool) -> float:
    """Return the displayed pass probability.

    Parameters
    ----------
    cdf_before
        Probability of the best grade that fails, or a worse one.
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


def interval(cdf: Sequence[float], whole: int, mass: float) -> tuple[int, int]:
    """Grow an interval of levels from the displayed grade, adding the likelier neighbour.

    Parameters
    ----------
    whole
        The level of the existing grade nearest to the displayed one.
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
    """Yield the steps of `interval` for many pupils: lowest and highest level, and mass."""
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
    """Return two zeros, the distribution, and two ones: no index is out of range."""
    padded = np.ones((len(cdf), HIGHEST + 4))
    padded[:, :2] = 0.0
    padded[:, 2:-2] = cdf
    return padded
