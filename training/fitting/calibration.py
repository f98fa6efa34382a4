"""Calibrate predictions by those on pupils that the fit had not seen (conformal prediction).

The interval grows from the predicted grade until it contains as much of the predicted distribution
as the required share of unseen pupils needs: split conformal prediction with that mass as the
score, per horizon (Vovk et al., Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.students import PASS_LEVEL
from student_success.model.grading import (
    CENTS,
    grid_indices,
    grow,
    intervals,
    pass_probabilities,
    residual_cdfs,
)

Floats = NDArray[np.float64]

QUANTILES = 199
ALARM_RECALLS = tuple(round(0.5 + i / 100, 2) for i in range(50))


@dataclass(frozen=True, slots=True)
class Predicted:
    """Raw predictions of a fitted model for many pupils.

    Attributes
    ----------
    grade
        0 to 20, not rounded.
    cdf
        ``(pupils, 20)``; probability that the final grade is at most 0, 1, … 19. None if the model
        has no distribution; the calibration then adds one around the grade.
    """

    grade: Floats
    cdf: Floats | None = None

    def where(self, chosen: NDArray[np.bool_]) -> Predicted:
        """Return the chosen pupils."""
        return Predicted(self.grade[chosen], None if self.cdf is None else self.cdf[chosen])


@dataclass(frozen=True, slots=True)
class Table:
    """The calibration of one horizon.

    Attributes
    ----------
    mass
        How much of the distribution an interval contains.
    residuals
        `QUANTILES` evenly spaced quantiles of final grade minus prediction, for a model
        without a distribution.
    """

    mass: float
    residuals: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated predictions, as arrays of one entry a pupil; `cdf` as in `Predicted`."""

    grade: Floats
    probability: Floats
    low: Floats
    high: Floats
    cdf: Floats

    @property
    def passes(self) -> NDArray[np.bool_]:
        """Whether each pupil is predicted to pass."""
        return np.asarray(np.floor(self.grade + 0.5) >= PASS_LEVEL)


def calibrate(predicted: Predicted, actual: Floats, *, level: float = INTERVAL_LEVEL) -> Table:
    """Return one horizon's table.

    Parameters
    ----------
    predicted
        Each prediction by a fit without that pupil.
    level
        Share of pupils whose grade the interval is to contain.
    """
    residuals = None
    if predicted.cdf is None:
        levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
        spread = np.quantile(actual - predicted.grade, levels)
        residuals = tuple(np.round(spread, 4).tolist())
    grades, cdf = _rounded(predicted, residuals)
    scores = mass_needed(cdf, np.floor(grades + 0.5).astype(np.int64), actual)
    return Table(conformal_quantile(scores, level), residuals)


def mass_needed(cdf: Floats, whole: NDArray[np.int64], actual: Floats) -> Floats:
    """Return the mass of each interval one step before it contains the actual grade."""
    needed = np.ones(len(cdf))
    contained = np.zeros(len(cdf), dtype=bool)
    previous_mass = np.zeros(len(cdf))
    for low, high, mass in grow(cdf, whole):
        reached = ~contained & (low <= actual) & (actual <= high)
        needed[reached] = previous_mass[reached]
        contained |= reached
        previous_mass = mass
    return needed


def conformal_quantile(scores: Floats, level: float) -> float:
    """Return the split conformal quantile: the ⌈(n + 1)·level⌉-th lowest score.

    An interval grows while its mass is smaller, so a small amount is added to reach the quantile.
    """
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return round(float(np.sort(scores)[rank - 1]) + 1e-6, 6)


def apply_table(predicted: Predicted, table: Table) -> Calibrated:
    """Return the calibrated form of each prediction."""
    grades, cdf = _rounded(predicted, table.residuals)
    whole = np.floor(grades + 0.5).astype(np.int64)
    low, high = intervals(cdf, whole, np.full(len(cdf), table.mass))
    return Calibrated(
        grade=grades,
        probability=pass_probabilities(cdf[:, PASS_LEVEL - 1], whole >= PASS_LEVEL),
        low=low.astype(np.float64),
        high=high.astype(np.float64),
        cdf=cdf,
    )


def _rounded(predicted: Predicted, residuals: tuple[float, ...] | None) -> tuple[Floats, Floats]:
    grades = grid_indices(predicted.grade) / CENTS
    if predicted.cdf is not None:
        return grades, predicted.cdf
    assert residuals is not None
    return grades, residual_cdfs(grades, np.asarray(residuals))


def alarm_levels(probability: Floats, actual: Floats) -> dict[str, Any]:
    """Return the alarm level for each recall, and the false alarms that it causes.

    Parameters
    ----------
    probability
        Pass probabilities of pupils that the fit had not seen.

    Returns
    -------
    dict
        `recall`, `level` and `false_alarms` (share of the passing pupils), lists of equal length.
    """
    failing = np.sort(probability[actual < PASS_LEVEL])
    passing = probability[actual >= PASS_LEVEL]
    levels, costs = [], []
    for recall in ALARM_RECALLS:
        needed = int(np.ceil(recall * len(failing)))
        # The alarm is raised below the level, so the level is just above the last pupil to find.
        level = round(float(failing[needed - 1]) + 1e-4, 4) if needed else 0.5
        levels.append(level)
        costs.append(round(float((passing < level).mean()), 4) if len(passing) else 0.0)
    return {"recall": list(ALARM_RECALLS), "level": levels, "false_alarms": costs}
