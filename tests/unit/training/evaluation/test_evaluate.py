"""Honest evaluation: nothing leaks, intervals hold what they say, groups are compared rightly."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError
from student_success.core.paths import ROOT
from student_success.domain.students import FEATURE_NAMES, HORIZONS, TARGET, StudentFeatures
from student_success.lifecycle.evidence import Evidence
from student_success.lifecycle.gate import decide, gate_limits
from student_success.model.predictor import Predictor
from student_success.storage.observations import PupilWithOutcome
from tests.faults.registered_versions import edit
from training import train
from training.data.dataset import SAMPLE, Dataset, hide_unrecorded, load, read
from training.data.outcomes import add
from training.evaluation.evaluate import Evaluation, _summary, evaluate
from training.evaluation.fairness import SMALLEST_GROUP
from training.evaluation.held_out import CANDIDATE, CHAMPION, WITHOUT
from training.evaluation.scores import scores
from training.evaluation.served import ServedModel, champion_model
from training.export.model_card import UCI_SHA256, make_card
from training.fitting.calibration import Calibrated, conformal_quantile, mass_needed
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
    asked = {"family": "boosting", "budget_seconds": 20.0, "seed": 3}
    one = choose(frame[kept], target[kept], jobs=1, **asked)
    two = choose(frame[kept], target[kept], jobs=2, **asked)
    assert one == two
    assert one.recipe.family == "boosting"


def test_training_of_many_pupils_keeps_to_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time on one core, halved: the budget is for two idle cores."""
    from dataclasses import replace

    monkeypatch.setattr("training.fitting.parallel.LOCAL_JOBS", 1)
    found = read(SAMPLE)
    frame, audit = (
        pd.concat([part.head(700)] * 2, ignore_index=True) for part in (found.frame, found.audit)
    )
    data = replace(found, frame=frame, audit=audit, rows=len(frame))
    began = time.process_time()
    made = run(Settings(_env_file=None), budget_seconds=30, folder=tmp_path, dataset=data)
    assert (time.process_time() - began) / 2 <= 30
    recipe = json.loads((made.serving / "recipe.json").read_text("utf-8"))
    assert [each["full"] for each in recipe["tried"]] == [False] * len(FAMILIES)


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
    frame = hide_unrecorded(data.frame)[list(FEATURE_NAMES)]
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


def load_changed(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Dataset:
    path = folder / "school.csv"
    change(pd.read_csv(SAMPLE)).to_csv(path, index=False)
    return load(Settings(_env_file=None, data_path=path))  # type: ignore[call-arg]


UNUSUAL: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[str]]] = {
    "two pupils fail": (
        lambda t: pd.concat([t[t["G3"] >= 10].head(100), t[t["G3"] < 10].head(2)]),
        {"enough_pupils"},
    ),
    "one pupil has another grade": (
        lambda t: t.head(100).assign(G3=[12] * 99 + [8]),
        {"enough_pupils"},
    ),
    "only the first period is known": (lambda t: t.head(150).assign(G2=""), set()),
    "who leaves goes out": (
        lambda t: t.head(300).assign(goout=lambda p: p["goout"].where(p["G3"] > 0, 5)),
        {"feature_leaks"},
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_file_is_judged_and_what_it_cannot_measure_is_refused(
    kind: str, tmp_path: Path
) -> None:
    change, refused = UNUSUAL[kind]
    leaky = "leaves" in kind
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    candidate = run(
        settings, family="boosting", budget_seconds=0.1, folder=tmp_path / "made",
        dataset=load_changed(tmp_path, change),
    )  # fmt: skip
    assert np.isfinite([candidate.test_mae, candidate.test_r2, *candidate.metrics.values()]).all()
    json.dumps(candidate.dataset, allow_nan=False)
    evidence = json.loads((tmp_path / "made" / "evaluation.json").read_text("utf-8"))
    known = [horizon for horizon in HORIZONS if horizon in evidence["horizons"]]
    assert known == (list(HORIZONS[:2]) if "period" in kind else list(HORIZONS))
    assert evidence["mae"] == evidence["horizons"][known[-1]][CANDIDATE]["mae"]["mean"]
    assert refused <= failed_conditions(evidence)
    assert {c for c in failed_conditions(evidence) if HORIZONS[-1] in c} <= {
        f"not_below_baseline.{known[-1]}"
    }
    assert candidate.metrics["undeclared_feature_leaks"] == float(leaky)
    card = json.loads((tmp_path / "made" / "card.json").read_text("utf-8"))
    assert [leak["feature"] for leak in card["leaks"]["features"]] == ["goout"] * leaky
    assert leaky == any("goout 5: 100%" in limit for limit in card["limits"])


def test_unmeasured_recall_is_null_and_never_counted_as_perfect() -> None:
    predicted = Calibrated(
        *(np.array([12.0, 13.0]), np.array([0.9, 0.9]), np.array([10.0, 11.0])),
        *(np.array([14.0, 15.0]), np.full((2, 20), 0.5)),
    )
    measured = scores(predicted, np.array([12.0, 12.0]))
    assert np.isnan([measured["recall_failing"], measured["r2"]]).all()
    summary = _summary([measured, measured | {"recall_failing": 0.5}], n_train=8.0, n_test=2.0)
    assert summary["recall_failing"]["mean"] == 0.5


def test_error_that_cannot_be_measured_ends_the_training_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = {"mae": 0.5, "r2": float("nan")}
    monkeypatch.setattr(train, "evaluate", lambda *_, **__: Evaluation([], evidence))
    with pytest.raises(DatasetError, match="No version was registered: the error"):
        run(Settings(_env_file=None), dataset=read(SAMPLE), folder=tmp_path)  # type: ignore[call-arg]


@pytest.mark.parametrize("removed", ["family", "format"])
def test_champion_that_cannot_be_refitted_is_run_as_it_is_served(
    data: tuple[pd.DataFrame, np.ndarray, pd.DataFrame], tmp_path: Path, removed: str
) -> None:
    frame, target, _ = data
    folder = tmp_path / "old"
    shutil.copytree(ROOT / "student_success" / "seed", folder)
    recipe = json.loads((folder / "recipe.json").read_text("utf-8")) | {"folder": str(folder)}
    assert isinstance(champion_model(recipe), Recipe)
    if removed == "family":
        recipe["family"] = "random_forest"
    else:
        edit(folder / "manifest.json", format=2)
    champion = champion_model(recipe)
    assert isinstance(champion, ServedModel)
    found = evaluate(
        frame.head(200), target[:200], SMALL, splits=2, repeats=1, seed=1, champion=champion,
        champion_name="old",
    )  # fmt: skip
    assert found.evidence["champion_as_served"] is True
    seed = Predictor.load(folder, version="old")
    for part in found.held_out:
        rows, _, horizons = hide(frame.iloc[part.pupils])
        students = [
            StudentFeatures.model_validate(
                {
                    k: None if v != v else int(v) if isinstance(v, float) else v
                    for k, v in row.items()
                }
            )
            for row in rows[horizons == part.horizon].to_dict("records")
        ]
        served = [seed.predict(student) for student in students]
        assert [p.grade for p in served] == pytest.approx(part.calibrated[CHAMPION].grade.tolist())
        assert [p.low for p in served] == part.calibrated[CHAMPION].low.tolist()
        assert [p.pass_probability for p in served] == pytest.approx(
            part.calibrated[CHAMPION].probability.tolist()
        )


def test_card_speaks_of_the_pupils_it_was_made_of(tmp_path: Path) -> None:
    evidence = json.loads(
        (ROOT / "student_success" / "seed" / "evaluation.json").read_text("utf-8")
    )
    frame = read(SAMPLE).frame.assign(school="GP")
    frame.loc[:, "failures"] = frame["failures"].clip(upper=2)
    recipe = {"family": "boosting", "params": {}}
    own = {"name": "our pupils.csv", "rows": 1000, "sha256": "1" * 64, "synthetic": False}

    def limits(**changed: Any) -> str:
        card, text = make_card(
            recipe=recipe | {"data": own | changed}, evidence=evidence, frame=frame
        )
        assert all(limit in text for limit in card["limits"])
        return " ".join(card["limits"])

    said = limits()
    assert "The pupils of our pupils.csv" in said
    assert "Portuguese" not in said
    assert "school MS" in said
    assert "failures above 2" in said
    assert "did not finish and were given 0" in said
    assert "Portuguese" in limits(sha256=UCI_SHA256)
    mae = {"candidate": 0.91, "without_outcomes": 0.87}
    evidence["file_pupils"] = {"mae": {"G1+G2": mae}}
    outcomes = {"file_sha256": UCI_SHA256, "rows": 30, "share": 0.03}
    mixed = limits(sha256="2" * 64, outcomes=outcomes)
    assert "Portuguese" in mixed
    assert "30 of the 1000 pupils (3%) are from recorded final grades" in mixed
    assert "G1+G2 0.910, without 0.870" in mixed
    assert "Portuguese" not in limits(synthetic=True)


def test_false_outcomes_show_in_the_evidence_and_are_refused_by_the_gate() -> None:
    """Pupils who were said to pass with the grades of pupils who fail."""
    real = read(SAMPLE)
    weak = real.frame[real.frame[TARGET] < 8].head(60)
    false = [
        PupilWithOutcome(
            json.dumps(
                {
                    name: None if value != value else value
                    for name, value in (row | {"age": 15 + number // 60}).items()
                    if name != TARGET
                },
                default=lambda value: value.item(),
            )
            .replace(".0,", ",")
            .replace(".0}", "}"),
            18.0,
        )
        for number, row in enumerate(weak.to_dict("records") * 5)
    ]
    poisoned = add(real, false, until_us=5)
    assert poisoned.added > 150

    def evidence_of(data: Dataset) -> dict[str, Any]:
        return evaluate(
            data.frame[list(FEATURE_NAMES)], data.frame[TARGET].to_numpy(), SMALL, splits=4,
            repeats=1, seed=1, added=data.added,
        ).evidence  # fmt: skip

    evidence = evidence_of(poisoned)
    mae = evidence["file_pupils"]["mae"][HORIZONS[-1]]
    assert mae[CANDIDATE] > mae[WITHOUT] + 0.1
    harmed = {c for c in failed_conditions(evidence) if c.startswith("file_pupils.without")}
    assert f"file_pupils.without_outcomes.{HORIZONS[-1]}" in harmed
    assert "file_pupils" not in evidence_of(real)
    metrics = train.flat_metrics(evidence)
    assert metrics["outcomes_effect/G1_G2_mae"] == pytest.approx(mae[CANDIDATE] - mae[WITHOUT])
