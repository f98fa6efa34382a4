"""How sure the model is: conformal tables from predictions on pupils that the fit had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.grading import INTERVAL_LEVEL, PASS_GRADE, answers, grid_indices
from student_success.students import GRADE_MAX, GRADE_MIN

Floats = NDArray[np.float64]

QUANTILES = 199
ALARM_RECALLS = tuple(round(0.5 + i / 100, 2) for i in range(50))
_WHOLE = np.arange(int(GRADE_MIN), int(GRADE_MAX))
"""Grades at which a predictive distribution over whole grades has a step before its end."""


@dataclass(frozen=True, slots=True)
class Table:
    """The calibration of one horizon.

    Attributes
    ----------
    residuals
        `QUANTILES` evenly spaced quantiles of final grade minus prediction.
    lower, upper
        Distances in grades from the prediction to the ends of the interval.
    """

    residuals: tuple[float, ...]
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says of many pupils, as arrays of one entry a pupil.

    Attributes
    ----------
    cdf
        ``(pupils, 20)``; probability that the final grade is at most 0, 1, … 19.
    """

    grade: Floats
    probability: Floats
    low: Floats
    high: Floats
    cdf: Floats


def calibrate(points: Floats, actual: Floats, *, level: float = INTERVAL_LEVEL) -> Table:
    """Learn one horizon's residuals.

    Parameters
    ----------
    points
        Predictions, each by a fit that had not seen the pupil; in grades, 0 to 20.
    level
        Share of pupils that the interval is to hold.
    """
    grade = grid_indices(points) / 100
    residuals = actual - grade
    spaced = np.quantile(residuals, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    for tail in np.arange(0.25, 0.0, -0.005):
        lower, upper = np.quantile(residuals, [tail, 1 - tail])
        inside = (np.floor(grade + lower + 0.5) <= actual) & (
            actual <= np.floor(grade + upper + 0.5)
        )
        if inside.mean() >= level:
            break
    return Table(tuple(np.round(spaced, 4).tolist()), round(lower, 4), round(upper, 4))


def say(points: Floats, table: Table) -> Said:
    """Return what is answered for each prediction."""
    index = grid_indices(points)
    ready = answers(table.residuals, table.lower, table.upper)
    grade = index / 100
    reached = grade[:, None, None] + np.asarray(table.residuals)[None, :, None]
    cdf = (reached <= _WHOLE[None, None, :] + 0.5).mean(axis=1)
    return Said(
        grade=grade,
        probability=np.asarray(ready.pass_probability)[index],
        low=np.asarray(ready.low, dtype=np.float64)[index],
        high=np.asarray(ready.high, dtype=np.float64)[index],
        cdf=cdf,
    )


def alarm_levels(probability: Floats, actual: Floats) -> dict[str, Any]:
    """Return, for each recall that may be asked for, the level that finds it and what it costs.

    Parameters
    ----------
    probability
        Pass probabilities of pupils that the fit had not seen.
    """
    failing = np.sort(probability[actual < PASS_GRADE])
    passing = probability[actual >= PASS_GRADE]
    levels, costs = [], []
    for recall in ALARM_RECALLS:
        needed = int(np.ceil(recall * len(failing)))
        # The alarm rings below the level, so the level lies just above the last pupil to find.
        level = round(float(failing[needed - 1]) + 1e-4, 4) if needed else 0.5
        levels.append(level)
        costs.append(round(float((passing < level).mean()), 4) if len(passing) else 0.0)
    return {"recall": list(ALARM_RECALLS), "level": levels, "false_alarms": costs}
