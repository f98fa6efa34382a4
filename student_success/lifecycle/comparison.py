"""Compare two models on the same folds: the skill of one against the other, and its tests.

A condition of the gate has a value, for example the p of such a test, and a limit.

Skill is 1 − loss / loss of the other model. It is tested one-sided with the corrected resampled
t-test, see `statistics.corrected_t`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from student_success.core.statistics import corrected_t
from student_success.domain.students import Horizon
from student_success.lifecycle.evidence import Evidence

Against = Literal["baseline", "champion", "without_outcomes"]
MEAN = "mean"
"""Stands for the mean of the horizons that the data has."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Skill of the candidate against another model on the same folds, and its one-sided tests.

    Attributes
    ----------
    horizon
        A horizon, or ``"mean"`` of those that the data has.
    skill
        Mean over the folds of 1 − loss / loss of the other; above 0 is better than the other.
    p_better, p_worse
        p of the tests that the skill is above and below zero; NaN if it cannot be measured.
    """

    against: str
    horizon: str
    skill: float
    t: float
    p_better: float
    p_worse: float


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition with its value and its limit; `detail` explains it in words.

    `compared` says how the value must lie to the limit; None where that does not decide.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    detail: str
    compared: Literal["at_most", "at_least"] | None = None


def compare(evidence: Evidence, against: Against) -> list[Comparison]:
    """Compare the candidate per horizon that the data has, and on their mean, fold by fold.

    If the evidence lacks a fold or holds an invalid loss, the figures are NaN.
    """
    skills: dict[str, tuple[float, ...]] = {}
    for horizon in (name for name in Horizon if name in evidence.horizons):
        folds = evidence.horizons[horizon]
        other = getattr(folds, against) or ()
        same_length = len(folds.candidate) == len(other)
        skills[horizon] = tuple(map(_skill, folds.candidate, other)) if same_length else ()
    lengths = {len(values) for values in skills.values()}
    skills[MEAN] = (
        tuple(sum(fold) / len(fold) for fold in zip(*skills.values(), strict=True))
        if len(lengths) == 1
        else ()
    )
    return [
        Comparison(
            against,
            str(horizon),
            *corrected_t(values, n_train=evidence.n_train, n_test=evidence.n_test),
        )
        for horizon, values in skills.items()
    ]


def _skill(candidate: float, other: float) -> float:
    if not (0 <= candidate < math.inf and 0 <= other < math.inf):
        return math.nan
    if candidate == other:
        return 0.0  # Also if both losses are zero.
    return 1 - candidate / other if other > 0 else math.nan
