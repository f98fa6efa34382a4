"""The gate: decide from the evidence whether a candidate may be promoted.

Rules without input or output. `student_success.lifecycle.evidence` describes the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from student_success.core.configuration.settings import Settings
from student_success.core.errors import InvalidInputError
from student_success.core.statistics import holm
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PROFILE
from student_success.lifecycle.comparison import MEAN, Against, Comparison, Condition, compare
from student_success.lifecycle.evidence import Evidence, FairnessGap
from student_success.model.artefact import finite_json

MAE_GAP_SHARE = 40
"""Part of the scale by which the errors of a group may differ, if no setting says more."""
MINIMUM_PUPILS = 10
"""With fewer held-out pupils who fail, or who pass, the alarm cannot be measured."""
_UNMEASURED = "not measured"
_NO_WORSE = "p that it is no worse, at least the limit"
_AS_SERVED = (
    f"{_NO_WORSE}; the served version cannot be refitted, so that its own artefact was run, which "
    "may know these pupils: if it does, roll back first"
)
_NO_LIMIT = "must be measured; the profile sets no limit, so that the comparisons decide"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The limits of the gate.

    Attributes
    ----------
    max_mae, min_r2
        With all period grades known, mean over the folds; None leaves it to the comparisons.
    significance
        Significance level of every test.
    max_mae_gap
        Largest difference in MAE (grades) between a group and the others.
    max_rate_gap
        Largest difference in a rate (false alarms, missed failures; 0 to 1).
    """

    max_mae: float | None = 1.0
    min_r2: float | None = 0.80
    significance: float = 0.05
    max_mae_gap: float = 0.5
    max_rate_gap: float = 0.15

    def tightened(self, *, max_mae: float | None = None, min_r2: float | None = None) -> Self:
        """Combine with a caller's limits; the stricter of the two holds.

        Raises
        ------
        InvalidInputError
            If a limit is NaN, which cannot be compared.
        """
        for name, value in (("max_mae", max_mae), ("min_r2", min_r2)):
            if value is not None and math.isnan(value):
                raise InvalidInputError(f"{name} must be a number.")
        return replace(
            self,
            max_mae=min((x for x in (self.max_mae, max_mae) if x is not None), default=None),
            min_r2=max((x for x in (self.min_r2, min_r2) if x is not None), default=None),
        )


def gate_limits(settings: Settings) -> GateLimits:
    """Return the limits that always hold on this server."""
    profile = PROFILE.gate
    max_mae, min_r2 = settings.gate_max_mae, settings.gate_min_r2
    max_mae_gap = settings.gate_max_mae_gap
    return GateLimits(
        max_mae=profile.max_mae if max_mae is None else max_mae,
        min_r2=profile.min_r2 if min_r2 is None else min_r2,
        significance=settings.gate_significance,
        max_mae_gap=(GRADE_MAX - GRADE_MIN) / MAE_GAP_SHARE if max_mae_gap is None else max_mae_gap,
        max_rate_gap=settings.gate_max_rate_gap,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, with every condition and the comparisons behind them."""

    conditions: tuple[Condition, ...]
    comparisons: tuple[Comparison, ...] = ()
    override: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every condition is met."""
        return all(condition.passed for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict for the audit log and the response; NaN and infinity become None."""
        return {"passed": self.passed, **finite_json(asdict(self))}


def decide(
    evidence: Evidence,
    limits: GateLimits,
    *,
    champion: str | None = None,
    fairness_override: str | None = None,
    further: Iterable[Condition] = (),
) -> Verdict:
    """Judge a candidate.

    Parameters
    ----------
    champion
        Fingerprint of the version that is served now: the evidence must compare with it. If None,
        no comparison is required, but one in the evidence still counts.
    fairness_override
        Reason to promote in spite of a measured fairness gap; recorded in the verdict. It does not
        excuse any other condition, nor a gap that was not measured.
    further
        Conditions that do not come from the evidence.

    Returns
    -------
    Verdict
        Every condition; a value that is missing or not finite fails its condition.
    """
    reason = (fairness_override or "").strip() or None
    comparisons = compare(evidence, "baseline")
    conditions = [
        _at_most("mae", evidence.mae, limits.max_mae),
        _at_least("r2", evidence.r2, limits.min_r2),
        Condition(
            "enough_pupils",
            evidence.fewest_pupils >= MINIMUM_PUPILS,
            evidence.fewest_pupils,
            float(MINIMUM_PUPILS),
            "fewest held-out pupils who fail, or who pass, at a time of the year; at least the "
            "limit: otherwise errors on them cannot be measured",
            "at_least",
        ),
        *_baseline_conditions(comparisons, evidence.loss, limits.significance),
        Condition(
            "no_leak",
            evidence.leaks == 0 and 0 < evidence.leaks_checked < math.inf,
            evidence.leaks,
            0.0,
            "out-of-fold predictions by a fit that saw the pupil, of "
            f"{evidence.leaks_checked:.0f} checked; at least one must have been checked",
            "at_most",
        ),
        Condition(
            "feature_leaks",
            evidence.feature_leaks == (),
            math.nan if evidence.feature_leaks is None else len(evidence.feature_leaks),
            0.0,
            "features that give the outcome away and that the profile does not declare: "
            f"{'; '.join(evidence.feature_leaks or ()) or 'none was found'}",
            "at_most",
        ),
        *further,
    ]
    compared = champion is not None or any(
        folds.champion is not None for folds in evidence.horizons.values()
    )
    if compared:
        against_champion = compare(evidence, "champion")
        comparisons += against_champion
        meaning = _AS_SERVED if evidence.champion_as_served else _NO_WORSE
        conditions += _not_worse(
            "not_below_champion", against_champion, limits.significance, meaning
        )
    conditions += _file_conditions(evidence, limits.significance, compared=compared)
    if champion is not None:
        same = evidence.champion == champion
        detail = "the evidence must compare with the version that is serving now"
        conditions.append(Condition("champion_is_the_one_compared", same, None, None, detail))
    fairness = _fairness_conditions(evidence.fairness, limits)
    excused = [_excused(c, reason) for c in fairness] if reason else fairness
    return Verdict(
        tuple(conditions + excused), tuple(comparisons), reason if excused != fairness else None
    )


def _baseline_conditions(compared: list[Comparison], loss: str, level: float) -> list[Condition]:
    single = [comparison for comparison in compared if comparison.horizon != MEAN]
    skills = [
        Condition(
            "skill_over_baselines",
            mean.p_better < level,
            mean.p_better,
            level,
            f"{loss.upper()} skill {mean.skill:+.4f}, t = {mean.t:.2f}; "
            "p that it is no better, at most the limit",
            "at_most",
        )
        for mean in compared
        if mean.horizon == MEAN
    ]
    return skills + _not_worse("not_below_baseline", single, level)


def _file_conditions(evidence: Evidence, level: float, *, compared: bool) -> list[Condition]:
    """Repeat the comparisons on the pupils of the file alone, if others were added to them."""
    if not evidence.file_pupils:
        return []
    alone = replace(evidence, horizons=evidence.file_pupils)
    against: list[Against] = ["baseline", "without_outcomes"]
    if compared:
        against.append("champion")
    return [
        condition
        for other in against
        for condition in _not_worse(f"file_pupils.{other}", compare(alone, other), level)
    ]


def _not_worse(
    name: str, comparisons: Iterable[Comparison], level: float, meaning: str = _NO_WORSE
) -> list[Condition]:
    return [
        Condition(
            f"{name}.{comparison.horizon}",
            comparison.p_worse >= level,
            comparison.p_worse,
            level,
            f"skill {comparison.skill:+.4f}, t = {comparison.t:.2f}; {meaning}",
            "at_least",
        )
        for comparison in comparisons
    ]


def _fairness_conditions(
    gaps: tuple[FairnessGap, ...] | None, limits: GateLimits
) -> list[Condition]:
    if gaps is None:
        return [Condition("fairness", False, None, None, "the evidence has no audit of groups")]
    if not gaps:
        return [Condition("fairness", True, None, None, "the data has no group to audit")]
    allowed = {
        "mae": limits.max_mae_gap,
        "false_alarms": limits.max_rate_gap,
        "missed_failures": limits.max_rate_gap,
    }
    conditions = []
    # With many groups, one gap looks large by chance. The test decides, so nothing is `compared`.
    p_values = holm([_p_within(gap, allowed.get(gap.measure)) for gap in gaps])
    for gap, p in zip(gaps, p_values, strict=True):
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
    """Let a measured gap pass because of the recorded reason."""
    if condition.passed or condition.value is None or condition.detail == _UNMEASURED:
        return condition
    return replace(condition, passed=True, detail=f"{condition.detail}; overridden: {reason}")


def _p_within(gap: FairnessGap, limit: float | None) -> float:
    """Return the one-sided p that the gap is within its limit, NaN if it was not measured."""
    if limit is None or not (0 <= gap.gap < math.inf and 0 <= gap.standard_error < math.inf):
        return math.nan
    excess = gap.gap - limit
    if gap.standard_error == 0:
        return 0.0 if excess > 0 else 1.0
    return 0.5 * math.erfc(excess / gap.standard_error / math.sqrt(2))


def _at_most(name: str, value: float, limit: float | None) -> Condition:
    if limit is None:
        return Condition(name, 0 <= value < math.inf, value, None, _NO_LIMIT)
    return Condition(
        name, value <= limit and value >= 0, value, limit, "at most the limit", "at_most"
    )


def _at_least(name: str, value: float, limit: float | None) -> Condition:
    if limit is None:
        return Condition(name, -math.inf < value <= 1, value, None, _NO_LIMIT)
    return Condition(name, limit <= value <= 1, value, limit, "at least the limit", "at_least")
