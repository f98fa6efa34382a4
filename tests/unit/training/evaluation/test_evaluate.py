"""Honest evaluation: nothing leaks, intervals hold what they say, groups are compared rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from student_success.core.settings import ROOT, Settings
from student_success.domain.students import FEATURE_NAMES, HORIZONS, TARGET
from student_success.lifecycle.evidence import Evidence
from student_success.lifecycle.gate import decide, gate_limits
from student_success.model.predictor import Predictor
from training.data.dataset import SAMPLE, read
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.fairness import SMALLEST_GROUP
from training.evaluation.held_out import CANDIDATE, CHAMPION
from training.fitting.calibration import conformal_quantile, mass_needed
from training.fitting.families import FAMILIES, hide
from training.fitting.fit import Recipe
from training.fitting.folds import folds
from training.fitting.search import choose
from training.train import make_seed, run

pytestmark = pytest.mark.model

SMALL = Recipe("boosting", {**FAMILIES["boosting"].default, "max_iter": 20}, 1)


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    found = read(SAMPLE)
    return found.frame[list(FEATURE_NAMES)], found.frame[TARGET].to_numpy(), found.audit


@pytest.fixture(scope="module")
def judged(data: tuple[pd.DataFrame, np.ndarray, pd.DataFrame]) -> Evaluation:
    frame, target, audit = data
    return evaluate(
        frame, target, SMALL, splits=4, repeats=1, seed=1, champion=SMALL, champion_name="same",
        audit=audit,
    )  # fmt: skip


def test_no_pupil_is_on_both_sides_in_any_copy(judged: Evaluation) -> None:
    assert judged.evidence["leaks"] == 0
    assert judged.evidence["leaks_checked"] == 3 * 1000
    for part in judged.held_out:
        assert not set(part.pupils) & set(part.seen)


def failed_conditions(evidence: dict[str, Any]) -> set[str]:
    """Return the names of the gate's conditions that do not hold."""
    verdict = decide(Evidence.from_json(evidence), gate_limits(Settings(_env_file=None)))
    failed = {condition.name for condition in verdict.conditions if not condition.passed}
    assert verdict.passed == (not failed)
    return failed


def test_leaky_folds_are_caught_and_refused_by_the_gate(
    data: tuple[pd.DataFrame, np.ndarray, pd.DataFrame], judged: Evaluation
) -> None:
    frame, target, audit = data
    leaky = [
        (np.concatenate([train, test[:5]]), test) for train, test in folds(target, splits=4, seed=1)
    ]
    found = evaluate(
        frame, target, SMALL, splits=4, repeats=1, seed=1, audit=audit, split=leaky
    ).evidence
    assert found["leaks"] == 4 * 5 * len(HORIZONS)
    assert "no_leak" in failed_conditions(found)
    assert "no_leak" not in failed_conditions(judged.evidence)


def test_equal_champion_has_equal_losses(judged: Evaluation) -> None:
    for losses in judged.evidence["losses"]["crps"].values():
        assert losses[CANDIDATE] == losses[CHAMPION]


def test_intervals_hold_what_they_say(judged: Evaluation) -> None:
    held = [
        (part.calibrated[CANDIDATE].low <= part.actual)
        & (part.actual <= part.calibrated[CANDIDATE].high)
        for part in judged.held_out
    ]
    assert 0.87 <= np.concatenate(held).mean() <= 0.93
    for horizon in HORIZONS:
        here = [h for h, part in zip(held, judged.held_out, strict=True) if part.horizon == horizon]
        assert np.concatenate(here).mean() >= 0.85
        assert judged.evidence["horizons"][horizon][CANDIDATE]["width"]["mean"] < 20


def test_pass_probability_is_calibrated_and_beats_the_base_rate(judged: Evaluation) -> None:
    assert judged.evidence["calibration"]["ece"] <= 0.05
    for by_name in judged.evidence["horizons"].values():
        assert by_name[CANDIDATE]["brier"]["mean"] < by_name[CANDIDATE]["brier_base_rate"]["mean"]


def test_nothing_said_contradicts_itself(judged: Evaluation) -> None:
    for part in judged.held_out:
        for said in part.calibrated.values():
            whole = np.floor(said.grade + 0.5)
            assert ((said.low <= whole) & (whole <= said.high)).all()
            assert ((said.probability >= 0.5) == said.passes).all()


def test_gap_of_a_group_is_its_mean_less_that_of_all_others(judged: Evaluation) -> None:
    group = next(
        g for g in judged.evidence["groups"] if (g["attribute"], g["group"]) == ("sex", "F")
    )
    parts = [part for part in judged.held_out if part.horizon == group["horizon"]]
    sex = read(SAMPLE).audit["sex"].to_numpy()
    error = np.concatenate([abs(p.calibrated[CANDIDATE].grade - p.actual) for p in parts])
    girls = sex[np.concatenate([p.pupils for p in parts])] == "F"
    assert group["mae"]["gap"] == pytest.approx(error[girls].mean() - error[~girls].mean())
    assert all(g["pupils"] >= SMALLEST_GROUP for g in judged.evidence["groups"])


@pytest.mark.parametrize("count", [37, 99, 400])
def test_conformal_quantile_is_that_of_mapie(count: int) -> None:
    from mapie.regression import SplitConformalRegressor
    from sklearn.dummy import DummyRegressor

    rng = np.random.default_rng(count)
    inputs, actual = np.zeros((count, 1)), rng.normal(size=count)
    constant = DummyRegressor(strategy="constant", constant=0.0).fit(inputs, actual)
    reference = SplitConformalRegressor(constant, confidence_level=0.9, prefit=True)
    _, ends = reference.conformalize(inputs, actual).predict_interval(inputs[:1])
    assert conformal_quantile(np.abs(actual), 0.9) == pytest.approx(ends[0, 1, 0], abs=1e-5)


def test_mass_needed_is_what_an_interval_gathers_before_it_holds_the_grade() -> None:
    cdf = np.linspace(0.05, 0.95, 20)[None, :]
    assert mass_needed(cdf, np.array([10]), np.array([10.0]))[0] == 0
    near = mass_needed(cdf, np.array([10]), np.array([11.0]))[0]
    far = mass_needed(cdf, np.array([10]), np.array([15.0]))[0]
    assert 0 < near < far < 1


def test_search_chooses_the_same_whatever_the_jobs(
    data: tuple[pd.DataFrame, np.ndarray, pd.DataFrame],
) -> None:
    frame, target, _ = data
    kept = slice(0, 300)
    asked = {"family": "boosting", "budget_seconds": 10.0, "seed": 3}
    one = choose(frame[kept], target[kept], jobs=1, **asked)
    two = choose(frame[kept], target[kept], jobs=2, **asked)
    assert one == two
    assert one.recipe.family == "boosting"


def test_pupil_without_period_grades_is_shown_once() -> None:
    frame = read(SAMPLE).frame.head(3).copy()
    frame["G2"] = [np.nan, 10.0, np.nan]
    frame["G1"] = [np.nan, 9.0, 8.0]
    _, pupils, horizons = hide(frame)
    assert sorted(zip(pupils.tolist(), horizons.tolist(), strict=True)) == [
        (0, "none"), (1, "G1"), (1, "G1+G2"), (1, "none"), (2, "G1"), (2, "none"),
    ]  # fmt: skip


def test_school_without_second_grades_still_gets_a_model(tmp_path: Path) -> None:
    from dataclasses import replace

    found = read(SAMPLE)
    frame = found.frame.head(200).copy()
    frame["G2"] = np.nan
    data = replace(found, frame=frame, audit=found.audit.head(200), rows=200)
    made = run(
        Settings(_env_file=None), family="boosting", budget_seconds=1, folder=tmp_path, dataset=data
    )
    Predictor.load(made.serving, version="1").check_smoke()


def test_seed_is_reproducible(real_data_dir: Path, tmp_path: Path) -> None:
    """Refit the seed's recipe on the real data: the committed model says the same."""
    from training.export.artefact import random_students, write_artefact
    from training.fitting.fit import fit

    committed = ROOT / "student_success" / "seed"
    recipe = json.loads((committed / "recipe.json").read_text())
    data = read(real_data_dir / "final.csv")
    assert data.sha256 == recipe["data"]["sha256"]
    frame = data.frame[list(FEATURE_NAMES)]
    fitted = fit(frame, data.frame[TARGET].to_numpy(), Recipe.from_json(recipe), jobs=2)
    write_artefact(
        tmp_path, fitted, frame, recipe=recipe, evidence={}, card=({}, ""), drift_reference={}
    )
    from student_success.domain.students import StudentFeatures

    students = [StudentFeatures.model_validate(s) for s in random_students(500, seed=9)]
    ours = Predictor.load(tmp_path, version="1").predict_many(students)
    theirs = Predictor.load(committed, version="seed").predict_many(students)
    np.testing.assert_allclose([a.grade for a in ours], [a.grade for a in theirs], atol=1e-3)


def test_seed_is_never_made_of_the_sample(tmp_path: Path) -> None:
    from student_success.core.errors import DatasetError

    settings = Settings(_env_file=None, data_path=SAMPLE, seed_model_path=tmp_path / "seed")
    with pytest.raises(DatasetError, match="real pupils"):
        make_seed(settings)
    assert not (tmp_path / "seed").exists()
