"""Promotion without MLflow: what the gate is asked, and what it refuses before anything changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from student_success.core.clock import now_us
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, PromotionRefusedError
from student_success.domain.schemas.history import Outcome
from student_success.domain.schemas.lifecycle import EvidenceAnswer, PromoteRequest, RollbackAnswer
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.lifecycle import promotion, recorded_outcomes
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from student_success.registry.checksums import RegisteredVersion
from student_success.storage.deployments import Deployments
from student_success.storage.observations import PupilWithOutcome
from student_success.storage.outcomes import Outcomes
from tests.faults.registered_versions import SEED_FOLDER, edit, make, write_manifest
from tests.unit.storage.test_outcomes import add as predict

Change = Callable[[Path], None]


class Registry:
    """One registered version, made of the seed model; it is promoted over the seed model."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.serving = folder / "serving"
        self.deployments = Deployments(engine)
        self.settings = Settings(_env_file=None, state_dir=folder)  # type: ignore[call-arg]
        self.created_us = now_us()

    @contextlib.contextmanager
    def downloaded(self, _settings: Settings, version: int) -> Iterator[Any]:
        fingerprint = verify(self.serving)
        yield (
            RegisteredVersion(version, "run", fingerprint, "0", {}, self.created_us),
            self.folder,
        )

    def promote(self, **options: Any) -> dict[str, Any]:
        request = PromoteRequest(version=1, **options)
        return promotion.promote(self.settings, self.deployments, request, actor="test")

    def failed(self, **options: Any) -> set[str]:
        """Promote and return the conditions that refused it."""
        with pytest.raises(PromotionRefusedError) as caught:
            self.promote(**options)
        assert self.deployments.current() is None
        judged = promotion.judge(self.settings, self.deployments, 1)
        assert EvidenceAnswer.model_validate(judged).passed is False
        assert "Version seed is still served." in caught.value.message
        return {item["name"] for item in caught.value.details if not item["passed"]}


@pytest.fixture
def registry(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Registry:
    registered = Registry(tmp_path, engine)
    make(registered.serving, shift=0.4)
    monkeypatch.setattr(promotion.mlflow_client, "downloaded", registered.downloaded)
    monkeypatch.setattr(promotion.versions, "check_in_child", lambda *_: None)
    monkeypatch.setattr(promotion.bento_store, "keep", lambda *_: None)
    monkeypatch.setattr(
        promotion.versions,
        "load",
        lambda *_, **__: Predictor.load(registered.serving, version="1"),
    )
    return registered


def change(serving: Path, name: str, **values: Any) -> None:
    """Change top-level values of one file of the artefact."""
    edit(serving / name, **values)
    write_manifest(serving)


def read(serving: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((serving / name).read_text("utf-8"))
    return content


def test_good_candidate_is_promoted_and_every_condition_recorded(registry: Registry) -> None:
    conditions = registry.promote()["evidence"]["conditions"]
    names = {condition["name"] for condition in conditions}
    assert names >= {"synthetic_data", "horizons", "population", "enough_pupils"}
    [recorded] = [c for c in conditions if c["name"] == "recorded_outcomes"]
    assert recorded["passed"]
    assert recorded["value"] is None
    assert recorded["detail"].startswith("0 final grades")


def test_synthetic_candidate_is_refused_over_real_pupils_unless_allowed(registry: Registry) -> None:
    data = read(registry.serving, "recipe.json")["data"]
    change(registry.serving, "recipe.json", data=data | {"synthetic": True})
    assert registry.failed() == {"synthetic_data"}
    assert registry.promote(allow_synthetic=True)["status"] == "promoted"


def passing_pupils_only(serving: Path) -> None:
    card = read(serving, "card.json")
    bins = [each | {"passed": 1.0} for each in card["calibration"]["bins"]]
    change(serving, "card.json", calibration=card["calibration"] | {"bins": bins})


def other_feature(serving: Path) -> None:
    features = read(serving, "drift_reference.json")["features"]
    counts = {str(float(grade) + 4): n for grade, n in features["G2"]["counts"].items()}
    features["G2"]["counts"] = counts
    change(serving, "drift_reference.json", features=features)


def other_category(serving: Path) -> None:
    features = read(serving, "drift_reference.json")["features"]
    features["school"]["counts"] = {"MS": features["school"]["n"]}
    change(serving, "drift_reference.json", features=features)


@pytest.mark.parametrize("alter", [passing_pupils_only, other_feature, other_category])
def test_population_unlike_the_served_one_is_refused_unless_overridden_with_a_reason(
    registry: Registry, alter: Change
) -> None:
    alter(registry.serving)
    assert registry.failed(fairness_override="another reason") == {"population"}
    assert registry.failed(population_override=" ") == {"population"}
    evidence = registry.promote(population_override="our own pupils")["evidence"]
    [population] = [c for c in evidence["conditions"] if c["name"] == "population"]
    assert "too far" in population["detail"]
    assert "overridden: our own pupils" in population["detail"]


def test_horizon_measured_only_for_the_served_version_is_refused(registry: Registry) -> None:
    metrics = read(registry.serving, "card.json")["metrics"]
    del metrics["G1+G2"]
    change(registry.serving, "card.json", metrics=metrics)
    evaluation = read(registry.serving, "evaluation.json")
    for losses in (*evaluation["losses"].values(), evaluation["pupils"]):
        del losses["G1+G2"]
    change(registry.serving, "evaluation.json", **evaluation)
    assert "horizons" in registry.failed()


@pytest.mark.parametrize("name", ["mae", "r2"])
def test_figure_that_could_not_be_measured_is_refused_in_words(
    registry: Registry, name: str
) -> None:
    change(registry.serving, "evaluation.json", **{name: None})
    assert registry.failed() == {name}


def outcomes_of_seed(count: int) -> list[PupilWithOutcome]:
    """Return pupils who get the grade that the seed predicts with both grades known."""
    seed = Predictor.load(SEED_FOLDER, version="seed")
    found = []
    for number in range(count):
        pupil = {**EXAMPLE, "absences": number % 20, "G1": 5 + number % 13, "G2": 5 + number % 13}
        grade = seed.predict(StudentFeatures.model_validate(pupil)).grade
        found.append(PupilWithOutcome(json.dumps(pupil), round(grade)))
    return found


def test_candidate_worse_on_grades_recorded_since_is_refused(registry: Registry) -> None:
    shifted = registry.folder / "far off"
    make(shifted, shift=-3.0)
    pupils = outcomes_of_seed(recorded_outcomes.MINIMUM_PUPILS)

    def judged(candidate: Path, champion: Path, count: int) -> Any:
        return recorded_outcomes.condition(candidate, champion, pupils[:count], significance=0.05)

    worse = judged(shifted, SEED_FOLDER, len(pupils))
    assert not worse.passed
    assert worse.value == pytest.approx(0.0, abs=1e-6)
    assert judged(SEED_FOLDER, shifted, len(pupils)).passed
    assert judged(SEED_FOLDER, SEED_FOLDER, len(pupils)).passed
    few = judged(shifted, SEED_FOLDER, len(pupils) - 1)
    assert few.passed
    assert few.value is None


def test_only_grades_recorded_since_both_were_made_are_compared(
    registry: Registry, engine: Engine
) -> None:
    shutil.rmtree(registry.serving)
    make(registry.serving, shift=-3.0)
    before = registry.created_us
    for number, pupil in enumerate(outcomes_of_seed(recorded_outcomes.MINIMUM_PUPILS)):
        name = f"{number:032x}"
        predict(engine, name, reference=f"P-{number}", inputs_json=pupil.inputs_json)
        Outcomes(engine).record([Outcome(prediction_id=name, actual_G3=pupil.actual_grade)])
    assert registry.failed() == {"recorded_outcomes"}
    registry.created_us = now_us()
    assert registry.promote()["status"] == "promoted"
    assert before < registry.created_us


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("card.json", {"calibration": {"bins": []}}),
        ("card.json", {"metrics": None}),
        ("drift_reference.json", {"features": []}),
        ("drift_reference.json", {"features": {"G2": {"counts": {"ten": 1}}}}),
    ],
)
def test_unreadable_description_of_the_training_data_is_refused_in_words(
    registry: Registry, name: str, values: dict[str, Any]
) -> None:
    change(registry.serving, name, **values)
    with pytest.raises(ArtefactError, match="cannot be read"):
        registry.promote()
    assert registry.deployments.current() is None


@pytest.mark.parametrize(
    ("leaks", "expected"),
    [
        ([], None),
        ([{"feature": "absences", "finding": "0", "declared": True}], None),
        ([{"feature": "absences", "finding": "0: all", "declared": False}], "absences 0: all"),
        (None, "before features that give the outcome away were looked for"),
    ],
)
def test_rollback_says_that_a_version_holds_a_leak(
    registry: Registry, caplog: pytest.LogCaptureFixture, leaks: Any, expected: str | None
) -> None:
    change(registry.serving, "evaluation.json", feature_leaks=leaks)
    for version in ("1", "2"):
        registry.deployments.record(
            "promote", to_version=version, fingerprint="0", actor="a", reason=None, evidence={}
        )

    async def stored(*_: Any, **__: Any) -> None:
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion.versions, "ensure_stored", stored)
        rollback = promotion.roll_back(
            registry.settings, registry.deployments, reason="worse", actor="test"
        )
        answer = RollbackAnswer.model_validate(asyncio.run(rollback))
    assert answer.version == "1"
    assert ("warnings" in answer.model_dump()) == (expected is not None)
    assert all(expected and expected in warning for warning in answer.warnings)
    logged = [r for r in caplog.records if r.getMessage() == "rolled_back_with_warnings"]
    assert len(logged) == (expected is not None)
