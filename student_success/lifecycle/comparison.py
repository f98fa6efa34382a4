"""Is one model better than another on the same folds, and is it more than luck.

The tests are the corrected resampled t-test of Nadeau and Bengio (Inference for the generalization
error, Machine Learning 52, 2003), one-sided, on the skill 1 − loss / loss of the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from student_success.domain.students import Horizon
from student_success.lifecycle.evidence import Evidence, FoldLosses

MEAN = "mean"
"""Stands for the mean of the three horizons."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Skill of the candidate against another model on the same folds, and its one-sided tests.

    Attributes
    ----------
    horizon
        A horizon, or ``"mean"`` of the three.
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


def corrected_t(
    differences: Sequence[float], *, n_train: float, n_test: float
) -> tuple[float, float, float, float]:
    """Test the mean of paired fold differences against zero, corrected for overlapping folds.

    The folds share training pupils, so the plain t-test takes chance for skill: the variance of
    the mean is (1/n + n_test/n_train) s² instead of s²/n (Nadeau and Bengio 2003).

    Returns
    -------
    tuple of float
        Mean, t, one-sided p that the mean is above zero, and below; all NaN if they cannot be had.
    """
    nothing = (math.nan,) * 4
    folds = len(differences)
    if folds < 2 or not all(map(math.isfinite, differences)):
        return nothing
    if not (0 < n_train < math.inf and 0 < n_test < math.inf):
        return nothing
    from scipy.special import stdtr  # here: the web process imports this module, and seldom tests

    mean = sum(differences) / folds
    variance = sum((d - mean) * (d - mean) for d in differences) / (folds - 1)
    error = math.sqrt((1 / folds + n_test / n_train) * variance)
    if not (math.isfinite(mean) and math.isfinite(error)):
        return nothing
    certain = math.copysign(math.inf, mean) if mean else 0.0
    t = mean / error if error > 0 else certain
    return mean, t, float(stdtr(folds - 1, -t)), float(stdtr(folds - 1, t))


def compare(evidence: Evidence, against: Literal["baseline", "champion"]) -> list[Comparison]:
    """Compare the candidate per horizon and on the mean of the three, fold by fold.

    Where the evidence lacks a fold or holds what is no loss, the figures are NaN.
    """
    skills: dict[str, tuple[float, ...]] = {}
    for horizon in Horizon:
        folds = evidence.horizons.get(horizon, FoldLosses())
        other = folds.baseline if against == "baseline" else folds.champion or ()
        same = len(folds.candidate) == len(other)
        skills[horizon] = tuple(map(_skill, folds.candidate, other)) if same else ()
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
        return 0.0  # a tie, of two perfect ones too
    return 1 - candidate / other if other > 0 else math.nan
