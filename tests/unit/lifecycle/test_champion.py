"""The served version: replaced in one step, and never by a version that fails its checks."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    ArtefactError,
    DatabaseUnavailableError,
    ModelUnavailableError,
    RegistryUnavailableError,
)
from student_success.core.paths import ROOT
from student_success.domain.decision import SEED
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.lifecycle import champion as champion_module
from student_success.lifecycle.champion import Champion
from student_success.model.artefact import verify
from student_success.registry import child_process, versions
from student_success.services.explanation import ExplanationService
from student_success.storage.deployments import Deployment, Deployments

SEED_FOLDER = ROOT / "student_success" / "seed"
PUPIL = StudentFeatures.model_validate(EXAMPLE)
Store = Callable[[str], str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a function that adds a version to a temporary store and returns its fingerprint."""
    folder = tmp_path / "store"

    def stored(_settings: Settings, version: str) -> Path | None:
        path = folder / version
        return path if path.is_dir() else None

    def add(version: str) -> str:
        shutil.copytree(SEED_FOLDER, folder / version)
        return verify(folder / version)

    monkeypatch.setattr(versions.bento_store, "stored", stored)
    return add


@pytest.fixture
def record(engine: Engine) -> Deployments:
    return Deployments(engine)


@pytest.fixture
def champion(record: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    async def unavailable(*_arguments: str, **_options: object) -> None:
        raise RegistryUnavailableError("unavailable")

    monkeypatch.setattr(champion_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(champion_module, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(child_process.subprocesses, "run", unavailable)
    return Champion(Settings(state_dir=tmp_path), record)


def deploy(record: Deployments, version: str, fingerprint: str) -> Deployment:
    return record.record(
        "promote",
        to_version=version,
        fingerprint=fingerprint,
        actor="a",
        reason=None,
        evidence={},
    )


def version_of(champion: Champion) -> str:
    assert champion.served is not None
    return champion.served.predictor.version


def test_load_first_serves_the_seed_before_any_promotion(champion: Champion) -> None:
    assert champion.is_fallback
    champion.load_first()
    assert version_of(champion) == SEED
    assert champion.served is not None
    assert champion.served.source == "seed"
    assert not champion.is_fallback


@pytest.mark.parametrize("synthetic", [True, False])
def test_served_version_of_made_up_data_is_measured(
    champion: Champion, store: Store, record: Deployments, *, synthetic: bool
) -> None:
    champion.load_first()
    assert champion.served is not None
    champion.served.predictor.synthetic = synthetic
    champion._install(champion.served)
    assert [sample.value for sample in metrics.model_synthetic.collect()[0].samples] == [synthetic]


def test_load_first_serves_the_newest_deployment(
    champion: Champion, record: Deployments, store: Store
) -> None:
    deploy(record, "3", store("3"))
    champion.load_first()
    assert version_of(champion) == "3"
    assert champion.served is not None
    assert champion.served.source == "bento-store"


def test_followed_deployment_is_added_to_the_audit_file(
    champion: Champion, record: Deployments, store: Store, tmp_path: Path
) -> None:
    """The process that recorded the deployment may have been killed before it could do so."""
    first = deploy(record, "1", store("1"))
    champion.load_first()
    second = deploy(record, SEED, verify(SEED_FOLDER))
    asyncio.run(champion.catch_up())
    lines = (tmp_path / "deployments.anchor").read_text().splitlines()
    assert lines == [f"{row.id} {row.hash}" for row in (first, second)]


def test_catch_up_replaces_the_served_version_when_a_newer_one_is_deployed(
    champion: Champion, record: Deployments, store: Store
) -> None:
    champion.load_first()
    before = champion.served
    deploy(record, "1", store("1"))
    assert champion.served is before
    asyncio.run(champion.catch_up())
    assert version_of(champion) == "1"
    deploy(record, SEED, verify(SEED_FOLDER))
    asyncio.run(champion.catch_up())
    assert version_of(champion) == SEED


def test_catch_up_changes_nothing_when_nothing_is_newer(champion: Champion) -> None:
    champion.load_first()
    before = champion.served
    asyncio.run(champion.catch_up())
    assert champion.served is before


def test_catch_up_fetches_the_served_version_again_when_its_files_were_removed(
    champion: Champion,
    record: Deployments,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(record, "1", store("1"))
    champion.load_first()
    before = champion.served
    shutil.rmtree(tmp_path / "store" / "1")
    # MLflow is unavailable: it is served from memory, with all that describes it.
    asyncio.run(champion.catch_up())
    assert champion.served is before
    assert before is not None
    assert before.predictor.artefact.card["metrics"]
    assert before.predictor.artefact.drift_reference
    with pytest.raises(ModelUnavailableError, match="being fetched again"):
        asyncio.run(ExplanationService(champion).explain(PUPIL))

    async def fetch(_settings: Settings, version: str, *, fingerprint: str) -> None:
        assert store(version) == fingerprint

    monkeypatch.setattr(champion_module.versions, "ensure_stored", fetch)
    asyncio.run(champion.catch_up())
    assert champion.served is before
    assert asyncio.run(ExplanationService(champion).explain(PUPIL)).model_version == "1"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "other", "wrong answers"])
def test_catch_up_keeps_the_served_version_when_the_new_one_is_damaged(
    champion: Champion,
    record: Deployments,
    store: Store,
    tmp_path: Path,
    damage: str,
) -> None:
    deploy(record, "1", store("1"))
    champion.load_first()
    fingerprint = store("2")
    folder = tmp_path / "store" / "2"
    serving = folder / "serving.json"
    if damage == "truncated":
        serving.write_bytes(serving.read_bytes()[:-10])
    elif damage == "flipped":
        content = bytearray(serving.read_bytes())
        content[len(content) // 2] ^= 1
        serving.write_bytes(content)
    elif damage == "missing":
        serving.unlink()
    elif damage == "other":
        fingerprint = "0" * 64
    else:
        fingerprint = alter_smoke_cases(folder)
    before = champion.served
    deploy(record, "2", fingerprint)
    asyncio.run(champion.catch_up())
    assert champion.served is before
    # An undamaged version that is deployed afterwards is served.
    deploy(record, "3", store("3"))
    asyncio.run(champion.catch_up())
    assert version_of(champion) == "3"


def alter_smoke_cases(folder: Path) -> str:
    """Make an artefact whose hashes are right and whose recorded answers are wrong."""
    import hashlib

    smoke = folder / "smoke.json"
    cases = json.loads(smoke.read_text("utf-8"))
    text = json.dumps(cases)
    value = next(v for v in _numbers(cases) if 5 < v < 19)
    smoke.write_text(text.replace(json.dumps(value), json.dumps(value - 4.5)), "utf-8")
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    content["files"]["smoke.json"] = hashlib.sha256(smoke.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content), "utf-8")
    return verify(folder)


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [
            number
            for name, inner in value.items()
            for number in (
                [float(inner)]
                if name == "predicted_G3" and isinstance(inner, float)
                else _numbers(inner)
            )
        ]
    if isinstance(value, list):
        return [number for inner in value for number in _numbers(inner)]
    return []


def test_load_first_serves_the_seed_when_the_deployed_version_cannot_be_loaded(
    champion: Champion, record: Deployments, store: Store, tmp_path: Path
) -> None:
    fingerprint = store("1")
    (tmp_path / "store" / "1" / "serving.json").unlink()
    deploy(record, "1", fingerprint)
    champion.load_first()
    assert version_of(champion) == SEED
    assert champion.is_fallback
    shutil.rmtree(tmp_path / "store" / "1")
    store("1")
    asyncio.run(champion.catch_up())
    assert version_of(champion) == "1"
    assert not champion.is_fallback


def test_catch_up_keeps_the_served_version_when_the_database_is_unavailable(
    champion: Champion, record: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion.load_first()
    before = champion.served

    def unavailable() -> int:
        raise DatabaseUnavailableError("unavailable")

    monkeypatch.setattr(record, "newest_id", unavailable)
    with pytest.raises(DatabaseUnavailableError):
        asyncio.run(champion.catch_up())
    assert champion.served is before


def test_follow_goes_on_after_every_failure(
    champion: Champion, record: Deployments, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion.load_first()
    failures = iter(
        [DatabaseUnavailableError("unavailable"), RuntimeError("a bug"), ArtefactError("x")]
    )
    real = champion.catch_up

    async def failing() -> None:
        for error in failures:
            raise error
        await real()

    monkeypatch.setattr(champion, "catch_up", failing)
    deploy(record, "1", store("1"))

    async def follow() -> None:
        task = asyncio.create_task(champion.follow())
        async with asyncio.timeout(20):
            while version_of(champion) != "1":
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(follow())


def test_load_first_serves_nothing_when_the_seed_is_missing(
    record: Deployments, tmp_path: Path
) -> None:
    champion = Champion(Settings(state_dir=tmp_path, seed_model_path=tmp_path / "none"), record)
    champion.load_first()
    assert champion.served is None
    assert champion.is_fallback


def test_problem_is_that_nothing_was_promoted_once_the_database_is_back(
    champion: Champion, record: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> Deployment | None:
        raise DatabaseUnavailableError("The database does not answer.")

    monkeypatch.setattr(versions, "has_seed", lambda _settings: False)
    with monkeypatch.context() as patched:
        patched.setattr(record, "current", unavailable)
        champion.load_first()
    assert champion.problem == "The database does not answer."
    asyncio.run(champion.catch_up())
    assert champion.problem.startswith("No model was promoted")
