"""May this candidate be promoted, and on what evidence: pure rules, no input or output.

The evidence is `student_success.lifecycle.evidence.Evidence`; its docstring shows the shape of
`evaluation.json`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from student_success.core.errors import InvalidInputError
from student_success.core.settings import Settings
from student_success.lifecycle.comparison import MEAN, Comparison, compare
from student_success.lifecycle.evidence import Evidence, FairnessGap, finite_json

_UNMEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gate asks for.

    Attributes
    ----------
    max_mae, min_r2
        With both period grades known, mean over the folds.
    significance
        Level of every test.
    max_mae_gap
        Largest difference in MAE (grades) between a group and the others.
    max_rate_gap
        Largest difference in a rate (false alarms, missed failures; 0 to 1).
    """

    max_mae: float = 1.0
    min_r2: float = 0.80
    significance: float = 0.05
    max_mae_gap: float = 0.5
    max_rate_gap: float = 0.15

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the server's own limits."""
        return cls(
            max_mae=settings.gate_max_mae,
            min_r2=settings.gate_min_r2,
            significance=settings.gate_significance,
            max_mae_gap=settings.gate_max_mae_gap,
            max_rate_gap=settings.gate_max_rate_gap,
        )

    def tightened(self, *, max_mae: float | None = None, min_r2: float | None = None) -> Self:
        """Combine with a caller's limits: the stricter of each two holds.

        Raises
        ------
        InvalidInputError
            If a limit is NaN, which is neither stricter nor looser than anything.
        """
        for name, value in (("max_mae", max_mae), ("min_r2", min_r2)):
            if value is not None and math.isnan(value):
                raise InvalidInputError(f"{name} must be a number.")
        return replace(
            self,
            max_mae=self.max_mae if max_mae is None else min(self.max_mae, max_mae),
            min_r2=self.min_r2 if min_r2 is None else max(self.min_r2, min_r2),
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing asked for, what was found and what was allowed; `detail` says it in words."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision with every condition, failed or not, and the comparisons behind them."""

    conditions: tuple[Condition, ...]
    comparisons: tuple[Comparison, ...] = ()
    override: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every condition is met."""
        return all(condition.passed for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """Return what goes into the audit trail and the answer; no number that JSON lacks."""
        return {"passed": self.passed, **finite_json(asdict(self))}


def decide(
    evidence: Evidence,
    limits: Limits,
    *,
    champion: str | None = None,
    fairness_override: str | None = None,
) -> Verdict:
    """Judge a candidate.

    Parameters
    ----------
    champion
        Fingerprint of the version now serving: the evidence must have compared with that one.
        None asks for no comparison; one that the evidence holds counts all the same.
    fairness_override
        Reason to promote in spite of a measured fairness gap; recorded in the verdict. It excuses
        nothing else, and no gap that was not measured.

    Returns
    -------
    Verdict
        With every condition in it; anything missing or not finite is a failed condition.
    """
    reason = (fairness_override or "").strip() or None
    comparisons = compare(evidence, "baseline")
    conditions = [
        _at_most("mae", evidence.mae, limits.max_mae),
        _at_least("r2", evidence.r2, limits.min_r2),
        *_better_than_baseline(comparisons, evidence.loss, limits.significance),
        Condition(
            "no_leak",
            evidence.leaks == 0 and 0 < evidence.leaks_checked < math.inf,
            evidence.leaks,
            0.0,
            "out-of-fold predictions by a fit that saw the pupil, of "
            f"{evidence.leaks_checked:.0f} looked at; some must have been looked at",
        ),
    ]
    compared = champion is not None or any(
        folds.champion is not None for folds in evidence.horizons.values()
    )
    if compared:
        against_champion = compare(evidence, "champion")
        comparisons += against_champion
        conditions += _as_good_as_champion(against_champion, limits.significance)
    if champion is not None:
        conditions.append(
            Condition(
                "champion_is_the_one_compared",
                evidence.champion == champion,
                None,
                None,
                "the evidence must compare with the version that is serving now",
            )
        )
    fairness = _fair(evidence.fairness, limits)
    excused = [_excused(c, reason) for c in fairness] if reason else fairness
    return Verdict(
        tuple(conditions + excused), tuple(comparisons), reason if excused != fairness else None
    )


def _better_than_baseline(
    comparisons: Iterable[Comparison], loss: str, level: float
) -> list[Condition]:
    conditions = []
    for found in comparisons:
        if found.horizon == MEAN:
            name, passed, p = "skill_over_baselines", found.p_better < level, found.p_better
            asked = "p that it is no better, at most the limit"
        else:
            name, passed, p = (
                f"not_below_baseline.{found.horizon}",
                found.p_worse >= level,
                found.p_worse,
            )
            asked = "p that it is no worse, at least the limit"
        skill = f"{loss.upper()} skill {found.skill:+.4f}, t = {found.t:.2f}"
        conditions.append(Condition(name, passed, p, level, f"{skill}; {asked}"))
    return conditions


def _as_good_as_champion(comparisons: Iterable[Comparison], level: float) -> list[Condition]:
    return [
        Condition(
            f"not_below_champion.{found.horizon}",
            found.p_worse >= level,
            found.p_worse,
            level,
            f"skill {found.skill:+.4f}, t = {found.t:.2f}; "
            "p that it is no worse, at least the limit",
        )
        for found in comparisons
    ]


def _fair(gaps: tuple[FairnessGap, ...] | None, limits: Limits) -> list[Condition]:
    if gaps is None:
        return [Condition("fairness", False, None, None, "no audit of groups in the evidence")]
    if not gaps:
        return [Condition("fairness", True, None, None, "the data has no group to audit")]
    allowed = {
        "mae": limits.max_mae_gap,
        "false_alarms": limits.max_rate_gap,
        "missed_failures": limits.max_rate_gap,
    }
    conditions = []
    for gap, p in zip(gaps, _holm([_p_over(g, allowed.get(g.measure)) for g in gaps]), strict=True):
        name = f"fairness.{gap.attribute}={gap.group}.{gap.measure}.{gap.horizon}"
        detail = (
            _UNMEASURED
            if math.isnan(p)
            else f"gap ± {gap.standard_error:.3f}; p that it is within the limit {p:.4f}, adjusted"
        )
        passed = p >= limits.significance
        conditions.append(Condition(name, passed, gap.gap, allowed.get(gap.measure), detail))
    return conditions


def _excused(condition: Condition, reason: str) -> Condition:
    """Let a measured gap pass for a reason that somebody gave."""
    if condition.passed or condition.value is None or condition.detail == _UNMEASURED:
        return condition
    return replace(condition, passed=True, detail=f"{condition.detail}; overridden: {reason}")


def _p_over(gap: FairnessGap, limit: float | None) -> float:
    """Return the one-sided p of the gap against its limit, NaN if it was not measured."""
    if limit is None or not (0 <= gap.gap < math.inf and 0 <= gap.standard_error < math.inf):
        return math.nan
    excess = gap.gap - limit
    if gap.standard_error == 0:
        return 0.0 if excess > 0 else 1.0
    return 0.5 * math.erfc(excess / gap.standard_error / math.sqrt(2))


def _holm(values: Sequence[float]) -> list[float]:
    """Adjust p values for their number: with many groups one gap looks large by chance."""
    adjusted = list(values)
    highest = 0.0
    known = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = highest
    return adjusted


def _at_most(name: str, value: float, limit: float) -> Condition:
    return Condition(name, value <= limit and value >= 0, value, limit, "at most the limit")


def _at_least(name: str, value: float, limit: float) -> Condition:
    return Condition(name, limit <= value <= 1, value, limit, "at least the limit")
