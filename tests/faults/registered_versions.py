"""Registered versions without a training: the seed model's artefact, altered in one number.

Each is a whole MLflow model in a real registry, with a recorded evaluation that the gate accepts.
Making the registry's tables and writing the models takes a while, so they are made once a run, and
every test gets a copy of that state directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from student_success.domain.students import FEATURE_NAMES, PREDICTED, TARGET, StudentFeatures
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from student_success.registry import mlflow_client
from training.data.dataset import SAMPLE, read
from training.export.register import Candidate, register_candidate
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe, fit_model

SEED_FOLDER = ROOT / "student_success" / "seed"
MODEL = "student_success_model"
PUPILS = 60
SHIFTS = {1: 0.4, 2: -0.4}
"""By how much, in grades, the versions predict more than the seed."""

Alter = Callable[[Path], None]
"""Does something to a folder."""


@contextlib.contextmanager
def _mlflow_may_warn() -> Iterator[None]:
    """Let MLflow use what pandas and SQLAlchemy have announced the end of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def edit(path: Path, **values: Any) -> None:
    """Change top-level values of a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | values), "utf-8")


def write_manifest(serving: Path) -> None:
    """Give the artefact hashes that fit what it holds now."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in serving.iterdir()
        if path.name != "manifest.json"
    }
    edit(serving / "manifest.json", files=files)


def write_smoke(serving: Path) -> None:
    """Record what the artefact answers now."""
    predictor = Predictor.load(serving, version="new")
    smoke = json.loads((serving / "smoke.json").read_text("utf-8"))
    for case in smoke["cases"]:
        prediction = predictor.predict(StudentFeatures.model_validate(case["student"]))
        values = prediction._asdict() | {PREDICTED: prediction.grade}
        case["expected"] = {key: values[key] for key in case["expected"]}
    (serving / "smoke.json").write_text(json.dumps(smoke), "utf-8")
    write_manifest(serving)


def shift_predictions(serving: Path, *, by: float) -> None:
    """Move every error of the calibration, and so every prediction."""
    horizons = json.loads((serving / "serving.json").read_text("utf-8"))["horizons"]
    for table in horizons.values():
        table["residuals"] = [error + by for error in table["residuals"]]
    edit(serving / "serving.json", horizons=horizons)


def make(serving: Path, *, shift: float) -> None:
    """Write an artefact that answers otherwise than the seed and that the gate accepts."""
    shutil.copytree(SEED_FOLDER, serving)
    shift_predictions(serving, by=shift)
    evaluation = json.loads((serving / "evaluation.json").read_text("utf-8"))
    for by_horizon in evaluation["losses"].values():
        for losses in by_horizon.values():
            losses["champion"] = losses["candidate"]
    edit(
        serving / "evaluation.json",
        champion=verify(SEED_FOLDER),
        losses=evaluation["losses"],
        # The seed that is committed may be older than this part of the evidence.
        feature_leaks=[],
        pupils={
            horizon: {"failed": 196, "passed": 466} for horizon in evaluation["losses"]["crps"]
        },
    )
    write_manifest(serving)
    write_smoke(serving)


def register(settings: Settings, serving: Path) -> int:
    """Register an artefact with a small estimator of the family that is quickest to fit."""
    data = read(SAMPLE).frame.head(PUPILS)
    frame = data[list(FEATURE_NAMES)]
    recipe = Recipe("boosting", dict(FAMILIES["boosting"].default), 1)
    candidate = Candidate(
        pipeline=fit_model(frame, data[TARGET].to_numpy(float), recipe),
        serving=serving,
        best_model="boosting",
        best_params={},
        metrics={"mae": 0.9},
        test_mae=0.9,
        test_r2=0.9,
        duration_seconds=0.0,
        dataset={"name": "sample.csv", "sha256": "0" * 64, "rows": PUPILS, "synthetic": True},
        input_example=frame.head(2),
    )
    return register_candidate(settings, candidate).version


def template(run: Path) -> Path:
    """Return the state directory with the versions, made by the first who asks in a run.

    Parameters
    ----------
    run
        A folder that all processes of the test run share.
    """
    state = run / "versions"
    with (run / "versions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (state / "ready").exists():
            shutil.rmtree(state, ignore_errors=True)
            settings = Settings(state_dir=state)
            for version, shift in SHIFTS.items():
                serving = state / "made" / str(version)
                make(serving, shift=shift)
                with _mlflow_may_warn():
                    assert register(settings, serving) == version
            (state / "ready").touch()
    return state


def copy(state: Path, to: Path) -> Path:
    """Copy the state directory; MLflow wrote down where its artefacts are."""
    shutil.copytree(state, to)
    with contextlib.closing(sqlite3.connect(to / "mlflow.db")) as database, database:
        for table, column in (
            ("runs", "artifact_uri"),
            ("experiments", "artifact_location"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)",
                (state.as_uri(), to.as_uri()),
            )
    return to


def predictors(state: Path) -> dict[str, Predictor]:
    """Load every version, and the seed, to say what each must answer."""
    known = {"seed": Predictor.load(SEED_FOLDER, version="seed")}
    for version in SHIFTS:
        folder = state / "made" / str(version)
        known[str(version)] = Predictor.load(folder, version=str(version))
    return known


def register_altered(settings: Settings, version: int, *, alter: Alter, sealed: bool) -> int:
    """Register a copy of a version after `alter` was at its MLflow folder.

    Parameters
    ----------
    sealed
        Whether its list of checksums and its tags fit what it then holds, as somebody with write
        access to the registry would see to.
    """
    with _mlflow_may_warn():
        return _register_altered(settings, version, alter, sealed)


def _register_altered(settings: Settings, version: int, alter: Alter, sealed: bool) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        with mlflow_client.downloaded(settings, version) as (registered, downloaded):
            shutil.copytree(downloaded, folder)
        alter(folder)
        fingerprint, checksums = registered.fingerprint, registered.checksums
        if sealed:
            manifest = folder / "serving" / "manifest.json"
            fingerprint = hashlib.sha256(manifest.read_bytes()).hexdigest()
            names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            listed = {
                path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in names
                if path.name not in ("checksums.json", "registered_model_meta")
            }
            content = json.dumps(listed).encode()
            (folder / "checksums.json").write_bytes(content)
            checksums = hashlib.sha256(content).hexdigest()
        experiment = client.get_experiment_by_name("student_success_training")
        run_id = client.create_run(experiment.experiment_id).info.run_id
        client.log_artifacts(run_id, str(folder), "model")
    created = client.create_model_version(
        MODEL,
        source=f"runs:/{run_id}/model",
        run_id=run_id,
        tags={"fingerprint": fingerprint, "checksums": checksums},
    )
    return int(created.version)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def fresh_state(factory: pytest.TempPathFactory) -> Path:
    """Return a state directory of the caller's own, with the versions in its registry."""
    return copy(template(shared_folder(factory)), factory.mktemp("versions") / "state")


def alias_of(state: Path, name: str = "meilleur") -> str | None:
    """Return the version that the alias in a local registry points to."""
    with contextlib.closing(sqlite3.connect(f"file:{state}/mlflow.db?mode=ro", uri=True)) as there:
        row = there.execute(
            "SELECT version FROM registered_model_aliases WHERE alias = ?", (name,)
        ).fetchone()
    return None if row is None else str(row[0])
