"""Pure rules from a model's raw numbers to the grade, decision, interval and probability shown.

The grade shown is what decides: it is cut to 0–20 and rounded to two decimals first, and the
decision, the interval and the pass probability are all functions of that grade and of the
horizon. So what a person reads can never contradict itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from student_success.students import GRADE_MAX, GRADE_MIN

PASS_GRADE = 10
"""Lowest whole grade that passes."""
INTERVAL_LEVEL = 0.9
"""Share of pupils whose final grade the interval is to hold."""
CENTS = 100
"""A grade is shown in hundredths."""
PROBABILITY_DECIMALS = 4
GRID_SIZE = int(GRADE_MAX - GRADE_MIN) * CENTS + 1
"""How many different grades can be shown."""

Floats = NDArray[np.float64]


class Decision(StrEnum):
    """Pass or fail, in the words of the wire format."""

    PASS = "reussite"
    FAIL = "echec"


def grid_index(grade: float) -> int:
    """Return the shown grade in hundredths, 0 to 2000; the input may lie outside 0–20."""
    if grade >= GRADE_MAX:
        return GRID_SIZE - 1
    return math.floor(grade * CENTS + 0.5) if grade > GRADE_MIN else 0


def grid_indices(grades: Floats) -> NDArray[np.int64]:
    """Return `grid_index` of each grade, bit for bit the same."""
    clipped = np.clip(grades, GRADE_MIN, GRADE_MAX)
    return np.floor(clipped * CENTS + 0.5).astype(np.int64)


def whole_grade(grade: float) -> int:
    """Round half up to the whole grade, as the school does."""
    return math.floor(grade + 0.5)


def decide(grade: float) -> Decision:
    """Decide on the grade shown, rounded half up."""
    return Decision.PASS if whole_grade(grade) >= PASS_GRADE else Decision.FAIL


@dataclass(frozen=True, slots=True)
class Answers:
    """What is said for each grade that can be shown, in one horizon.

    Attributes
    ----------
    grade, decision, pass_probability, low, high
        One entry a grade shown, `GRID_SIZE` long, by its index in hundredths.
    """

    grade: Sequence[float]
    decision: Sequence[Decision]
    pass_probability: Sequence[float]
    low: Sequence[int]
    high: Sequence[int]


def answers(residuals: Sequence[float], lower: float, upper: float) -> Answers:
    """Tabulate the answers of one horizon.

    Parameters
    ----------
    residuals
        Quantiles, evenly spaced, of final grade minus prediction on pupils the model had not
        seen; in grades.
    lower, upper
        Distances in grades from the prediction to the ends of the interval (`lower` usually < 0).
    """
    index = np.arange(GRID_SIZE)
    grade = index / CENTS
    whole = np.floor(grade + 0.5)
    low = np.clip(np.floor(grade + lower + 0.5), GRADE_MIN, whole)
    high = np.clip(np.floor(grade + upper + 0.5), whole, GRADE_MAX)
    ordered = np.sort(np.asarray(residuals, dtype=np.float64))
    # Share of residuals that lift the prediction to PASS_GRADE - 0.5 or more, interpolated.
    needed = PASS_GRADE - 0.5 - grade
    share = (np.arange(len(ordered)) + 0.5) / len(ordered)
    probability = 1.0 - np.interp(needed, ordered, share, left=0.0, right=1.0)
    passes = whole >= PASS_GRADE
    probability = np.where(passes, np.maximum(probability, 0.5), np.minimum(probability, 0.4999))
    return Answers(
        grade=grade.tolist(),
        decision=[Decision.PASS if yes else Decision.FAIL for yes in passes],
        pass_probability=np.round(probability, PROBABILITY_DECIMALS).tolist(),
        low=low.astype(int).tolist(),
        high=high.astype(int).tolist(),
    )
