"""The gate: what it passes, what it refuses, and that a caller cannot loosen it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from student_success.core.configuration.settings import Settings
from student_success.core.errors import InvalidInputError
from student_success.domain.students import HORIZONS, Horizon
from student_success.lifecycle.evidence import Evidence, FairnessGap, FoldLosses
from student_success.lifecycle.gate import GateLimits, decide, gate_limits
from student_success.model.artefact import finite_json

FOLDS = 20
LIMITS = GateLimits()
NUMBERS = ("n_train", "n_test", "mae", "r2", "leaks", "leaks_checked")


def losses(mean: float, *, seed: int, spread: float = 0.02) -> tuple[float, ...]:
    values = np.random.default_rng(seed).normal(mean, spread, FOLDS)
    return tuple(float(value) for value in values)


def good(**changes: Any) -> Evidence:
    evidence = Evidence(
        loss="crps",
        horizons={
            horizon: FoldLosses(losses(0.60, seed=n), losses(0.70, seed=10 + n))
            for n, horizon in enumerate(Horizon)
        },
        n_train=595.8,
        n_test=66.2,
        mae=0.86,
        r2=0.86,
        leaks=0,
        leaks_checked=19860,
        pupils=dict.fromkeys(Horizon, (196.0, 466.0)),
        feature_leaks=(),
        fairness=(FairnessGap("sex", "F", "G1+G2", "mae", 0.1, 0.08),),
    )
    return replace(evidence, **changes)


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Return the content of `evaluation.json` for some evidence."""
    data = asdict(evidence)
    data["losses"] = {data.pop("loss"): data.pop("horizons")}
    data["pupils"] = {
        horizon: {"failed": failed, "passed": passed}
        for horizon, (failed, passed) in data["pupils"].items()
    }
    content: dict[str, Any] = finite_json(data)
    return content


def with_horizon(evidence: Evidence, horizon: Horizon, folds: FoldLosses) -> Evidence:
    return replace(evidence, horizons={**evidence.horizons, horizon: folds})


def with_champion(evidence: Evidence, shift: float, *, spread: float = 0.0) -> Evidence:
    noise = np.random.default_rng(5).normal(0, spread, FOLDS)
    return replace(
        evidence,
        champion="a" * 64,
        horizons={
            horizon: replace(
                folds,
                champion=tuple(
                    float(c + shift + e) for c, e in zip(folds.candidate, noise, strict=True)
                ),
            )
            for horizon, folds in evidence.horizons.items()
        },
    )


def failed(evidence: Evidence, limits: GateLimits = LIMITS, **options: Any) -> set[str]:
    verdict = decide(evidence, limits, **options)
    return {condition.name for condition in verdict.conditions if not condition.passed}


def test_candidate_passes_when_every_condition_holds() -> None:
    verdict = decide(good(), LIMITS)
    assert verdict.passed
    assert verdict.override is None
    assert {c.horizon for c in verdict.comparisons} == {"none", "G1", "G1+G2", "mean"}


def test_refusal_lists_every_condition_with_value_and_limit() -> None:
    verdict = decide(good(mae=1.2, r2=0.5), LIMITS)
    listed = {c.name: c for c in verdict.conditions}
    assert failed(good(mae=1.2, r2=0.5)) == {"mae", "r2"}
    assert (listed["mae"].value, listed["mae"].limit) == (1.2, 1.0)
    assert (listed["r2"].value, listed["r2"].limit) == (0.5, 0.8)
    assert "skill_over_baselines" in listed
    assert "no_leak" in listed


def test_verdict_says_which_way_each_value_is_compared() -> None:
    by_chance = FairnessGap("sex", "F", "G1+G2", "mae", 0.55, 0.2)
    measured_too = FairnessGap("sex", "M", "G1+G2", "mae", 0.95, 0.01)
    evidence = with_champion(good(mae=1.4, r2=0.5, fairness=(by_chance, measured_too)), 0.05)
    evidence = with_outcomes(evidence, -0.05)
    without_limits = replace(LIMITS, max_mae=None, min_r2=None)
    for limits, reason in ((LIMITS, None), (LIMITS, "a reason"), (without_limits, None)):
        verdict = decide(evidence, limits, champion="a" * 64, fairness_override=reason)
        names = set()
        for condition in verdict.to_json()["conditions"]:
            names.add(condition["name"].split(".")[0])
            check_compared(condition)
        assert names == {
            *("mae", "r2", "enough_pupils", "skill_over_baselines", "not_below_baseline"),
            *("no_leak", "feature_leaks", "not_below_champion", "file_pupils"),
            *("champion_is_the_one_compared", "fairness"),
        }


def check_compared(condition: dict[str, Any]) -> None:
    value, limit, compared = condition["value"], condition["limit"], condition["compared"]
    if limit is None or condition["name"].startswith("fairness."):
        assert compared is None, condition
    else:
        met = {"at_most": value <= limit, "at_least": value >= limit}[compared]
        assert met == condition["passed"], condition


def test_baseline_itself_is_refused_when_mae_and_r2_are_good() -> None:
    as_baseline = {h: replace(f, candidate=f.baseline) for h, f in good().horizons.items()}
    assert failed(good(horizons=as_baseline)) == {"skill_over_baselines"}


def test_bad_horizon_is_refused_when_the_mean_is_good() -> None:
    worse = FoldLosses(losses(0.75, seed=1), losses(0.70, seed=11))
    assert failed(with_horizon(good(), HORIZONS[1], worse)) == {"not_below_baseline.G1"}


def test_horizon_within_noise_of_its_baseline_passes() -> None:
    level = FoldLosses(losses(0.702, seed=1), losses(0.70, seed=11))
    assert failed(with_horizon(good(), HORIZONS[1], level)) == set()


def test_skill_by_chance_of_overlapping_folds_is_refused() -> None:
    """The plain t-test calls this skill significant, the corrected one does not."""
    noise = np.random.default_rng(3).normal(0.012, 0.03, 100)
    same = FoldLosses(tuple(float(0.7 - d) for d in noise), (0.7,) * 100)
    assert stats.ttest_1samp(noise, 0.0, alternative="greater").pvalue < 0.01
    assert failed(good(horizons=dict.fromkeys(Horizon, same))) == {"skill_over_baselines"}


def test_worse_than_champion_is_refused() -> None:
    assert "not_below_champion.mean" in failed(with_champion(good(), -0.05, spread=0.01))


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_as_good_as_champion_passes(shift: float) -> None:
    assert failed(with_champion(good(), shift), champion="a" * 64) == set()


def test_evidence_against_another_champion_is_refused() -> None:
    conditions = failed(with_champion(good(), 0.05), champion="b" * 64)
    assert conditions == {"champion_is_the_one_compared"}


def test_evidence_without_the_champion_is_refused_when_one_serves() -> None:
    conditions = failed(good(), champion="a" * 64)
    assert {"champion_is_the_one_compared", "not_below_champion.mean"} <= conditions


@pytest.mark.parametrize(
    "changes", [{"leaks": 1}, {"leaks": math.nan}, {"leaks_checked": 0}, {"leaks_checked": -1}]
)
def test_candidate_is_refused_when_a_leak_was_found_or_none_was_looked_for(
    changes: dict[str, float],
) -> None:
    assert failed(good(**changes)) == {"no_leak"}


@pytest.mark.parametrize(
    "pupils",
    [
        {},
        dict.fromkeys(Horizon, (9.0, 466.0)),
        dict.fromkeys(Horizon, (0.0, 466.0)),
        dict.fromkeys(Horizon, (466.0, 3.0)),
        dict.fromkeys(Horizon, (math.nan, 466.0)),
        dict.fromkeys(Horizon, (466.0, math.nan)),
        {Horizon(HORIZONS[0]): (196.0, 466.0)},
    ],
)
def test_candidate_is_refused_when_too_few_pupils_fail_or_pass_to_measure_it(
    pupils: dict[Horizon, tuple[float, float]],
) -> None:
    assert failed(good(pupils=pupils), fairness_override="because") == {"enough_pupils"}


def test_candidate_is_judged_at_the_horizons_its_data_has() -> None:
    first, second = HORIZONS[:2]
    some = {horizon: good().horizons[Horizon(horizon)] for horizon in (first, second)}
    evidence = good(horizons=some, pupils=dict.fromkeys(some, (196.0, 466.0)))
    verdict = decide(evidence, LIMITS)
    assert verdict.passed
    assert {c.horizon for c in verdict.comparisons} == {first, second, "mean"}
    worse = FoldLosses(losses(0.75, seed=1), losses(0.70, seed=11))
    assert not decide(with_horizon(evidence, Horizon(second), worse), LIMITS).passed


def test_comparison_says_when_the_served_artefact_was_run() -> None:
    verdict = decide(with_champion(good(champion_as_served=True), 0.05), LIMITS)
    details = [c.detail for c in verdict.conditions if c.name.startswith("not_below_champion")]
    assert details
    assert all("its own artefact was run" in detail for detail in details)


def test_fairness_gap_over_the_limit_is_refused_unless_overridden_with_a_reason() -> None:
    evidence = good(fairness=(FairnessGap("sex", "F", "G1+G2", "false_alarms", 0.4, 0.05),))
    assert failed(evidence) == {"fairness.sex=F.false_alarms.G1+G2"}
    assert failed(evidence, fairness_override="  ") == {"fairness.sex=F.false_alarms.G1+G2"}
    verdict = decide(evidence, LIMITS, fairness_override="agreed with the school board")
    assert verdict.passed
    assert verdict.override == "agreed with the school board"
    assert "agreed with the school board" in json.dumps(verdict.to_json())


def test_override_is_not_recorded_when_it_was_not_needed() -> None:
    assert decide(good(), LIMITS, fairness_override="just in case").override is None


@pytest.mark.parametrize("measure", ["mae", "of_our_own"])
def test_override_excuses_no_gap_that_was_not_measured(measure: str) -> None:
    value = math.nan if measure == "mae" else 0.1
    evidence = good(fairness=(FairnessGap("sex", "F", "G1", measure, value, 0.05),))
    assert failed(evidence, fairness_override="because") == {f"fairness.sex=F.{measure}.G1"}


def test_override_excuses_nothing_but_fairness() -> None:
    assert failed(good(mae=1.5), fairness_override="because") == {"mae"}


def test_fairness_gap_within_its_error_of_the_limit_passes() -> None:
    gap = FairnessGap("sex", "F", "G1+G2", "missed_failures", 0.2, 0.1)
    assert failed(good(fairness=(gap,))) == set()


def test_missing_audit_is_refused_and_an_audit_without_groups_passes() -> None:
    assert failed(good(fairness=None)) == {"fairness"}
    assert failed(good(fairness=()), fairness_override=None) == set()


def test_limits_come_from_the_settings() -> None:
    settings = Settings(_env_file=None, gate_max_mae=0.9, gate_min_r2=0.85, gate_significance=0.01)  # type: ignore[call-arg]
    limits = gate_limits(settings)
    assert (limits.max_mae, limits.min_r2, limits.significance) == (0.9, 0.85, 0.01)


def test_limits_without_settings_are_those_of_the_profile() -> None:
    limits = gate_limits(Settings(_env_file=None))  # type: ignore[call-arg]
    assert limits == GateLimits(max_mae=1.0, min_r2=0.80, max_mae_gap=0.5)


def test_profile_without_limits_leaves_the_decision_to_the_comparisons() -> None:
    limits = replace(LIMITS, max_mae=None, min_r2=None)
    assert failed(good(mae=9.0, r2=-1.0), limits) == set()
    assert failed(good(mae=math.nan, r2=math.nan), limits) == {"mae", "r2"}
    as_baseline = {h: replace(f, candidate=f.baseline) for h, f in good().horizons.items()}
    assert failed(good(horizons=as_baseline), limits) == {"skill_over_baselines"}
    assert failed(good(), limits.tightened(max_mae=0.5)) == {"mae"}


def test_evidence_prefers_crps_and_takes_rmse_when_there_is_no_crps() -> None:
    data = to_json(good())
    both = data | {"losses": {"rmse": {}, **data["losses"]}}
    assert Evidence.from_json(both).loss == "crps"
    only = data | {"losses": {"rmse": data["losses"]["crps"]}}
    assert Evidence.from_json(only).loss == "rmse"
    assert decide(Evidence.from_json(only), LIMITS).passed


def test_gate_does_not_load_scipy_when_it_is_imported() -> None:
    code = "import sys, student_success.lifecycle.gate; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


any_float = st.floats(allow_nan=True, allow_infinity=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | any_float | st.text("ab+G12", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["crps", "rmse", "G1", "gap"]), inner)
    ),
    max_leaves=10,
)
fold_losses = st.lists(st.floats(0, 1e6), min_size=FOLDS, max_size=FOLDS).map(tuple)


@given(mae=any_float | st.none(), r2=any_float | st.none())
def test_caller_can_tighten_but_never_loosen(mae: float | None, r2: float | None) -> None:
    if any(value is not None and math.isnan(value) for value in (mae, r2)):
        with pytest.raises(InvalidInputError):
            LIMITS.tightened(max_mae=mae, min_r2=r2)
        return
    tight = LIMITS.tightened(max_mae=mae, min_r2=r2)
    assert tight.max_mae <= LIMITS.max_mae
    assert tight.min_r2 >= LIMITS.min_r2
    assert replace(tight, max_mae=LIMITS.max_mae, min_r2=LIMITS.min_r2) == LIMITS
    if mae is not None and mae < LIMITS.max_mae:
        assert tight.max_mae == mae
    for evidence in (good(mae=0.5, r2=0.99), good(mae=1.01), good(r2=0.79)):
        assert not decide(evidence, tight).passed or decide(evidence, LIMITS).passed


@given(
    field=st.sampled_from(NUMBERS),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    reason=st.none() | st.just("because"),
)
def test_number_that_is_not_finite_is_always_refused(
    field: str, bad: float, reason: str | None
) -> None:
    assert not decide(good(**{field: bad}), LIMITS, fairness_override=reason).passed


@given(
    horizon=st.sampled_from(list(Horizon)),
    model=st.sampled_from(["candidate", "baseline", "champion"]),
    fold=st.integers(0, FOLDS - 1),
    bad=st.sampled_from([math.nan, math.inf, -math.inf, -1.0]),
)
def test_invalid_loss_is_always_refused(
    horizon: Horizon, model: str, fold: int, bad: float
) -> None:
    evidence = with_champion(good(), 0.05)
    folds = evidence.horizons[horizon]
    values = list(getattr(folds, model))
    values[fold] = bad
    spoilt = replace(folds, **{model: tuple(values)})
    assert not decide(with_horizon(evidence, horizon, spoilt), LIMITS).passed


@given(horizon=st.sampled_from(list(Horizon)), count=st.integers(0, FOLDS - 1))
def test_missing_folds_or_horizon_are_always_refused(horizon: Horizon, count: int) -> None:
    folds = good().horizons[horizon]
    short = replace(folds, candidate=folds.candidate[:count])
    assert not decide(with_horizon(good(), horizon, short), LIMITS).passed
    both = replace(short, baseline=folds.baseline[:count])
    assert not decide(with_horizon(good(), horizon, both), LIMITS).passed
    rest = {key: value for key, value in good().horizons.items() if key != horizon}
    assert not decide(good(horizons=rest), LIMITS).passed


@given(candidate=st.fixed_dictionaries(dict.fromkeys(Horizon, fold_losses)))
def test_identical_champion_always_passes(candidate: dict[Horizon, tuple[float, ...]]) -> None:
    horizons = {h: FoldLosses(c, (1.0,) * FOLDS, c) for h, c in candidate.items()}
    verdict = decide(good(horizons=horizons, champion="a"), LIMITS, champion="a")
    against = [c for c in verdict.conditions if "champion" in c.name]
    assert len(against) == 5
    assert all(condition.passed for condition in against)


@given(data=st.dictionaries(st.sampled_from(["losses", "fairness", *NUMBERS]), json_values))
def test_evidence_of_any_shape_is_read_and_refused(data: dict[str, Any]) -> None:
    verdict = decide(Evidence.from_json(data), LIMITS, champion="a")
    assert not verdict.passed
    json.dumps(verdict.to_json(), allow_nan=False)


@given(
    losses=st.fixed_dictionaries(
        {h.value: st.tuples(fold_losses, fold_losses, st.none() | fold_losses) for h in Horizon}
    ),
    numbers=st.fixed_dictionaries(dict.fromkeys(NUMBERS, st.floats(-1e9, 1e9))),
    fairness=st.none() | st.just(good().fairness) | st.just(()),
    champion=st.none() | st.text("abc"),
)
def test_evidence_is_equal_after_a_round_trip_through_json(
    losses: dict[str, Any],
    numbers: dict[str, float],
    fairness: tuple[FairnessGap, ...] | None,
    champion: str | None,
) -> None:
    horizons = {name: FoldLosses(*folds) for name, folds in losses.items()}
    evidence = Evidence(
        loss="crps", horizons=horizons, champion=champion, fairness=fairness, **numbers
    )
    text = json.dumps(to_json(evidence), allow_nan=False)
    assert Evidence.from_json(json.loads(text)) == evidence


def with_outcomes(evidence: Evidence, shift: float) -> Evidence:
    """Add the evidence on the pupils of the file alone, with a fit that errs less by `shift`."""
    alone = {
        horizon: replace(folds, without_outcomes=tuple(c - shift for c in folds.candidate))
        for horizon, folds in evidence.horizons.items()
    }
    return replace(evidence, file_pupils=alone)


def test_recorded_outcomes_that_harm_the_pupils_of_the_file_are_refused() -> None:
    evidence = with_champion(good(), 0.05)
    assert failed(with_outcomes(evidence, 0.0), champion="a" * 64) == set()
    assert failed(with_outcomes(evidence, -0.01), champion="a" * 64) == set()
    harmed = failed(with_outcomes(evidence, 0.05), champion="a" * 64, fairness_override="because")
    assert harmed == {f"file_pupils.without_outcomes.{h}" for h in (*Horizon, "mean")}


@pytest.mark.parametrize("against", ["baseline", "champion"])
def test_comparisons_are_repeated_on_the_pupils_of_the_file_alone(against: str) -> None:
    evidence = with_outcomes(with_champion(good(), 0.05), 0.0)
    horizon = Horizon(HORIZONS[0])
    better = tuple(c - 0.1 for c in evidence.file_pupils[horizon].candidate)
    folds = replace(evidence.file_pupils[horizon], **{against: better})
    harmed = replace(evidence, file_pupils={**evidence.file_pupils, horizon: folds})
    assert f"file_pupils.{against}.{horizon}" in failed(harmed, champion="a" * 64)


def test_evidence_on_the_pupils_of_the_file_is_read() -> None:
    evidence = with_outcomes(with_champion(good(), 0.05), 0.05)
    data = to_json(evidence) | {
        "file_pupils": {
            "losses": finite_json({h: asdict(f) for h, f in evidence.file_pupils.items()})
        }
    }
    assert Evidence.from_json(data).file_pupils == evidence.file_pupils
