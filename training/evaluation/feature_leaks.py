"""Look for features that were filled in after the outcome was known.

Three kinds: a value that nearly all pupils of an outcome have, and few others; a feature that says
nearly the same as the final grade; and a value of many who left without which the feature says
nothing of held-out pupils. Period grades go along with the final grade by nature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from student_success.core.statistics import compare_categories
from student_success.domain.students import FEATURES, GRADE, PROFILE, TARGET, Feature
from training.data.suitability import LEAK_GROUPS, explained_share, passes

NEAR_LEAK = 0.9
"""As `LEAK`, for features that are no grades: a training goes on, but the gate refuses it."""
NEARLY_ALL = 0.95
"""Share of the pupils of an outcome from which a value gives it away."""
SPECIAL = 10
"""Fewer pupils of an outcome may share a value by chance."""
CHANCE = 1e-6
"""Largest p of a value that is too common among the pupils of an outcome."""
SUSPECT, TIMES = 0.5, 2
"""Share of those who left from which a value is suspect, and how much rarer the others have it."""
EFFECT, REMAINING = 0.01, 0.2
"""Smallest share of the variance that a feature with a suspect value explains on held-out pupils,
and the largest part of it that remains if the effect vanishes without that value."""
REDRAWS, PARTS = 5, 5


def feature_leaks(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the features that seem to have been filled in after the outcome was known.

    Returns
    -------
    list of dict
        ``feature``; ``finding``, what it gives away, in words; and ``declared``, whether the
        profile declares it, so that the model does not see it of pupils who did not finish.
    """
    left, failed = frame[TARGET] == GRADE.not_finished, ~passes(frame[TARGET])
    found = []
    for feature in (each for each in FEATURES if not each.is_period):
        values = frame[feature.name]
        declared = feature.name in PROFILE.training.unrecorded_when_not_finished
        among_left = list(_common(feature, values, left))
        findings = [
            (
                _too_common(among_left, "did not finish", most=0.5)
                or _vanishing(values, among_left, left, frame[TARGET]),
                declared,
            ),
            (_too_common(_common(feature, values, failed), "failed", most=0.05), False),
        ]
        if explained_share(feature, values, frame[TARGET]) >= NEAR_LEAK:
            findings.append((f"says nearly the same as {TARGET}", False))
        found += [
            {"feature": feature.name, "finding": finding, "declared": hidden}
            for finding, hidden in findings
            if finding
        ]
    return found


class _Common(NamedTuple):
    """A value or range of a feature that is common among the pupils of an outcome.

    Attributes
    ----------
    inside
        Who has it.
    share, others
        Share of the pupils of the outcome, and of the others, who have it.
    """

    name: str
    inside: pd.Series[bool]
    share: float
    others: float

    def finding(self, outcome: str) -> str:
        return (
            f"{self.name}: {self.share:.0%} of those who {outcome}, {self.others:.0%} of the others"
        )


def _common(feature: Feature, values: pd.Series, has: pd.Series[bool]) -> Iterator[_Common]:
    """Yield values and ranges that more pupils of an outcome have than chance explains.

    Parameters
    ----------
    has
        Who has the outcome.
    """
    if min(int(has.sum()), int((~has).sum())) < SPECIAL:
        return
    common = values[has].mode()
    subsets = [("unknown", values.isna())]
    subsets += [
        (value if feature.kind == "category" else f"{value:g}", values == value)
        for value in common.head(1)
    ]
    if feature.kind != "category" and len(common):
        low, high = values[has].quantile([0.05, 0.95])
        subsets += [(f"at most {high:g}", values <= high), (f"at least {low:g}", values >= low)]
    for name, inside in subsets:
        counts = [
            {"in": float(inside[who].sum()), "out": float((~inside[who]).sum())}
            for who in (has, ~has)
        ]
        share, others = (count["in"] / (count["in"] + count["out"]) for count in counts)
        if share > others and compare_categories(*counts).p < CHANCE:
            yield _Common(name, inside, share, others)


def _too_common(found: Iterable[_Common], outcome: str, *, most: float) -> str:
    """Name a value or range that nearly all pupils of an outcome have, and few others.

    Parameters
    ----------
    outcome
        What these pupils did, in words.
    most
        Largest share of the others, 0 to 1.

    Returns
    -------
    str
        Empty if there is no such value or range.
    """
    named = (c.finding(outcome) for c in found if c.share >= NEARLY_ALL and c.others <= most)
    return next(named, "")


def _vanishing(
    values: pd.Series, found: Iterable[_Common], left: pd.Series[bool], grades: pd.Series[float]
) -> str:
    """Name a value of many who left without which the feature says nothing of held-out pupils.

    The value is redrawn, of those who left, from the pupils who stayed.
    """
    for common in found:
        if common.share < SUSPECT or common.share < TIMES * common.others:
            continue
        groups = values
        if values.nunique() > LEAK_GROUPS and pd.api.types.is_numeric_dtype(values):
            groups = pd.qcut(values, LEAK_GROUPS // 2, labels=False, duplicates="drop")
        # The suspect value is a group of its own.
        codes = np.where(common.inside, -2, pd.factorize(groups)[0])
        target, rng = grades.to_numpy(dtype=np.float64), np.random.default_rng(0)
        folds = rng.integers(PARTS, size=len(target))
        suspect, stayed = np.flatnonzero(common.inside & left), codes[~left.to_numpy()]
        remaining = []
        for _ in range(REDRAWS):
            redrawn = codes.copy()
            redrawn[suspect] = rng.choice(stayed, len(suspect))
            remaining.append(_held_out_share(redrawn, target, folds))
        effect = _held_out_share(codes, target, folds)
        if effect >= EFFECT and np.mean(remaining) <= REMAINING * effect:
            return (
                f"{common.finding('did not finish')}, and without it nothing remains of the effect "
                "on held-out pupils"
            )
    return ""


def _held_out_share(groups: NDArray[Any], target: NDArray[Any], folds: NDArray[Any]) -> float:
    """Return the share of the variance of held-out pupils that the means of the groups explain."""
    predicted = np.empty_like(target)
    for fold in range(PARTS):
        known = folds != fold
        means = pd.Series(target[known]).groupby(groups[known]).mean()
        predicted[~known] = means.reindex(groups[~known]).fillna(target[known].mean())
    return 1 - float(((target - predicted) ** 2).mean() / target.var())
