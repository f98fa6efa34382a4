"""Calibrate predictions by those on pupils that the fit had not seen (conformal prediction).

The interval grows from the predicted grade until it contains as much of the predicted distribution
as the required share of unseen pupils needs: split conformal prediction with that mass as the
score, per horizon (Vovk et al., Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.students import PASS_LEVEL
from student_success.model.grading import (
    PARTS,
    grid_indices,
    grow,
    intervals,
    nearest_levels,
    pass_probabilities,
)
from student_success.model.two_parts import TwoParts

Floats = NDArray[np.float64]

QUANTILES = 101
"""Quantiles of the errors that a model keeps, the least and the greatest among them."""
ALARM_RECALLS = tuple(round(0.5 + i / 100, 2) for i in range(50))
_RISE = 1e-6
"""Equal quantiles are drawn apart by this much."""


@dataclass(frozen=True, slots=True)
class _Pupils:
    """Arrays of one entry a pupil."""

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen pupils."""
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))

    @classmethod
    def concatenated(cls, parts: Sequence[Self]) -> Self:
        """Return the pupils of all parts."""
        columns = ([getattr(part, each.name) for part in parts] for each in fields(cls))
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True, slots=True)
class Predicted(_Pupils):
    """Raw predictions for many pupils, in levels.

    Attributes
    ----------
    centre
        Expected level of those who finish.
    leaves
        Probability of not finishing.
    unknown
        How many values other than period grades are not known.
    """

    centre: Floats
    leaves: Floats
    unknown: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """The calibration of one horizon.

    Attributes
    ----------
    mass
        How much of the distribution an interval contains.
    residuals
        `QUANTILES` rising, evenly spaced quantiles of the errors of those who finished, in levels.
    widening
        By how much of their size the errors grow with each value that is not known.
    """

    mass: float
    residuals: tuple[float, ...]
    widening: float


@dataclass(frozen=True, slots=True)
class Calibrated(_Pupils):
    """Calibrated predictions in levels, as arrays of one entry a pupil.

    Attributes
    ----------
    grade
        The displayed grade, as a level.
    cdf
        ``(pupils, HIGHEST)``; probability of at most each level but the best.
    """

    grade: Floats
    probability: Floats
    low: Floats
    high: Floats
    cdf: Floats

    @property
    def passes(self) -> NDArray[np.bool_]:
        """Whether each pupil is predicted to pass."""
        return np.asarray(np.floor(self.grade + 0.5) >= PASS_LEVEL)


def calibrate(predicted: Predicted, actual: Floats, *, bare: Predicted | None = None) -> Table:
    """Return one horizon's table.

    Parameters
    ----------
    predicted
        Each prediction by a fit without that pupil.
    bare
        The same with every value unknown that may be; None if none may.
    """
    finished = actual > 0
    if not finished.any() or not (predicted.leaves > 0).any():
        finished = np.ones(len(actual), dtype=bool)
    errors = (actual - predicted.centre)[finished]
    quantiles = np.quantile(errors, np.linspace(0.0, 1.0, QUANTILES))
    residuals = tuple(np.round(quantiles, 5) + _RISE * np.arange(QUANTILES))
    widening = 0.0
    if bare is not None and (size := float(np.abs(errors).mean())):
        grown = float(np.abs((actual - bare.centre)[finished]).mean()) / size - 1.0
        # Some values are unknown in the training data as well.
        added = float((bare.unknown - predicted.unknown)[finished].mean())
        widening = round(max(grown / added, 0.0), 6) if added else 0.0
    levels, cdf = _distributions(predicted, residuals, widening)
    scores = mass_needed(cdf, nearest_levels(grid_indices(levels)), actual)
    mass = conformal_quantile(scores, INTERVAL_LEVEL)
    return Table(mass, tuple(map(float, residuals)), widening)


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
    return calibrated(*_distributions(predicted, table.residuals, table.widening), table.mass)


def calibrated(levels: Floats, cdf: Floats, mass: float) -> Calibrated:
    """Return what is read off distributions around unrounded levels.

    Parameters
    ----------
    cdf
        As of `Calibrated`.
    mass
        As of `Table`.
    """
    indices = grid_indices(levels)
    nearest = nearest_levels(indices)
    low, high = intervals(cdf, nearest, np.full(len(cdf), mass))
    return Calibrated(
        grade=indices / PARTS,
        probability=pass_probabilities(cdf[:, PASS_LEVEL - 1], nearest >= PASS_LEVEL),
        low=low.astype(np.float64),
        high=high.astype(np.float64),
        cdf=cdf,
    )


def _distributions(
    predicted: Predicted, residuals: tuple[float, ...], widening: float
) -> tuple[Floats, Floats]:
    reader = TwoParts(residuals, widening)
    return reader.distributions(predicted.centre, predicted.leaves, predicted.unknown)


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
