"""The distribution of a pupil who may leave before the end or finish near a predicted level.

The trees return the expected change since the last known grade among those who finish, and the
logit of leaving. Around the change lie the errors made on pupils that the fit had not seen.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from student_success.model.grading import HIGHEST

Floats = NDArray[np.float64]

PYTHON_LEVELS = 64
"""Up to this many levels plain Python is faster than numpy for one pupil."""


class TwoParts:
    """Read the outputs of the trees of one horizon.

    Parameters
    ----------
    residuals
        Evenly spaced quantiles of the errors in levels, from the least to the greatest; rising.
    widening
        By how much of their size the errors grow with each value that is not known; at least 0.

    Raises
    ------
    ValueError
        If they do not rise.
    """

    outputs = 2

    def __init__(self, residuals: Sequence[float], widening: float = 0.0) -> None:
        if not 0.0 <= widening < math.inf:
            raise ValueError("the errors cannot grow by that")
        if len(residuals) < 2 or not all(later > earlier for earlier, later in pairwise(residuals)):
            raise ValueError("the quantiles of the errors do not rise")
        self._errors = list(map(float, residuals))
        self._step = 1.0 / (len(residuals) - 1)
        self._rise = [self._step / (later - earlier) for earlier, later in pairwise(self._errors)]
        self._many = (np.array(self._errors), np.array(self._rise))
        self._widening = widening

    def one(self, raw: Sequence[float], last: float, unknown: int) -> tuple[float, list[float]]:
        """Return level and distribution of one pupil.

        Parameters
        ----------
        last
            The level of the last known grade.
        unknown
            How many values other than period grades are not known.
        """
        centre, leaves = last + raw[0], _probability(raw[1])
        wider = 1.0 + self._widening * unknown
        if HIGHEST > PYTHON_LEVELS:
            cdf = self._cdf(np.array([centre]), np.array([leaves]), np.array([wider]))[0].tolist()
        else:
            errors, rise, step, last_error = self._errors, self._rise, self._step, len(self._rise)
            stays = 1.0 - leaves
            cdf = []
            for level in range(HIGHEST):
                error = (level + 0.5 - centre) / wider
                at = bisect_right(errors, error) - 1
                if at < 0:
                    share = 0.0
                elif at >= last_error:
                    share = 1.0
                else:
                    share = at * step + (error - errors[at]) * rise[at]
                cdf.append(leaves + stays * share)
        return self._level(centre, leaves, wider), cdf

    def leaves(self, raw: Sequence[float]) -> float:
        """Return the probability of not finishing."""
        return _probability(raw[1])

    def many(self, raw: Floats, last: Floats, unknown: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return `one` of each row."""
        logits = raw[:, 1]
        # The function of the standard library: numpy's may differ in the last bit.
        powers = np.array(list(map(math.exp, (-np.maximum(logits, -700.0)).tolist())))
        leaves = np.where(logits < -700.0, 0.0, 1.0 / (1.0 + powers))
        return self.distributions(last + raw[:, 0], leaves, unknown)

    def distributions(
        self, centre: Floats, leaves: Floats, unknown: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Return the level of each pupil, and ``(pupils, HIGHEST)`` distributions.

        Parameters
        ----------
        centre
            Expected level of those who finish.
        leaves
            Probability of not finishing.
        unknown
            How many values other than period grades are not known.
        """
        wider = 1.0 + self._widening * unknown.astype(np.float64)
        return self._levels(centre, leaves, wider), self._cdf(centre, leaves, wider)

    def divide(
        self, by_feature: Floats, start: Floats, *, average_last: float, last: float, unknown: int
    ) -> tuple[Floats, float, float]:
        """Divide the difference between a pupil and the average one, as `ChangeShares.divide`.

        What the chance of leaving changes is divided like its logit.
        """
        end = start + by_feature.sum(axis=0)
        before, after = _probability(float(start[1])), _probability(float(end[1]))
        wider = 1.0 + self._widening * unknown
        usual, moved, reached = (
            self._level(average_last + float(start[0]), before, 1.0),
            self._level(last + float(end[0]), before, wider),
            self._level(last + float(end[0]), after, wider),
        )
        shares: Floats = by_feature[:, 0].copy()
        of_last = last - average_last
        expected = float(shares.sum()) + of_last
        if expected:
            # Where the average pupil is likelier to leave, the level does not follow the change.
            shares *= (moved - usual) / expected
            of_last *= (moved - usual) / expected
        if logit := float(by_feature[:, 1].sum()):
            shares += (reached - moved) * by_feature[:, 1] / logit
        return shares, of_last, usual

    def _level(self, centre: float, leaves: float, wider: float) -> float:
        """Return the median."""
        if leaves >= 0.5:
            return 0.0
        share = (0.5 - leaves) / (1.0 - leaves)
        at = min(int(share / self._step), len(self._rise) - 1)
        error = self._errors[at] + (share - at * self._step) / self._rise[at]
        return centre + wider * error

    def _levels(self, centre: Floats, leaves: Floats, wider: Floats) -> Floats:
        """Return `_level` of each row, by the same operations in the same order."""
        errors, rise = self._many
        finishes = leaves < 0.5
        share = np.where(finishes, 0.5 - leaves, 0.0) / np.where(finishes, 1.0 - leaves, 1.0)
        at = np.minimum((share / self._step).astype(np.int64), len(rise) - 1)
        error = errors[at] + (share - at * self._step) / rise[at]
        return np.where(finishes, centre + wider * error, 0.0)

    def _cdf(self, centre: Floats, leaves: Floats, wider: Floats) -> Floats:
        errors, rise = self._many
        error = ((np.arange(HIGHEST) + 0.5)[None, :] - centre[:, None]) / wider[:, None]
        at = np.searchsorted(errors, error, side="right") - 1
        inside = np.clip(at, 0, len(rise) - 1)
        share = inside * self._step + (error - errors[inside]) * rise[inside]
        share = np.where(at < 0, 0.0, np.where(at >= len(rise), 1.0, share))
        cdf: Floats = leaves[:, None] + (1.0 - leaves)[:, None] * share
        return cdf


def _probability(logit: float) -> float:
    if logit < -700.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-logit))
