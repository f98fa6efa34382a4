"""The version served: loaded beside the old one, swapped at once, never for a worse one."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.core.errors import (
    ArtefactError,
    HistoryUnavailableError,
    RegistryUnavailableError,
)
from student_success.core.settings import ROOT, Settings
from student_success.domain.decision import SEED
from student_success.lifecycle import champion as module
from student_success.lifecycle.champion import Champion
from student_success.model.artefact import verify
from student_success.registry import versions
from student_success.storage.deployments import Deployment, Deployments

SEED_FOLDER = ROOT / "student_success" / "seed"
Store = Callable[[str], str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a function that puts a version into a store of the test's own."""
    folder = tmp_path / "store"

    def stored(_settings: Settings, version: str) -> Path | None:
        path = folder / version
        return path if path.is_dir() else None

    def put(version: str) -> str:
        shutil.copytree(SEED_FOLDER, folder / version)
        return verify(folder / version)

    monkeypatch.setattr(versions.bento_store, "stored", stored)
    return put


@pytest.fixture
def record(engine: Engine) -> Deployments:
    return Deployments(engine)


@pytest.fixture
def champion(record: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    async def away(*_arguments: str, **_options: object) -> None:
        raise RegistryUnavailableError("away")

    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(versions.subprocesses, "run", away)
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


def test_seed_is_served_before_any_promotion(champion: Champion) -> None:
    assert champion.standing_in
    champion.load_first()
    assert version_of(champion) == SEED
    assert champion.served is not None
    assert champion.served.source == "seed"
    assert not champion.standing_in


def test_last_deployment_is_served_at_start(
    champion: Champion, record: Deployments, store: Store
) -> None:
    deploy(record, "3", store("3"))
    champion.load_first()
    assert version_of(champion) == "3"
    assert champion.served is not None
    assert champion.served.source == "bento-store"


def test_deployment_that_is_followed_is_remembered_outside_the_database(
    champion: Champion, record: Deployments, store: Store, tmp_path: Path
) -> None:
    """Also one that was committed by a process that was killed before it could do so."""
    first = deploy(record, "1", store("1"))
    champion.load_first()
    second = deploy(record, SEED, verify(SEED_FOLDER))
    asyncio.run(champion.catch_up())
    lines = (tmp_path / "deployments.anchor").read_text().splitlines()
    assert lines == [f"{row.id} {row.hash}" for row in (first, second)]


def test_newer_deployment_takes_over_in_one_step(
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


def test_nothing_newer_changes_nothing(champion: Champion) -> None:
    champion.load_first()
    before = champion.served
    asyncio.run(champion.catch_up())
    assert champion.served is before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "other", "wrong answers"])
def test_damaged_version_never_replaces_a_good_one(
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
        fingerprint = lie(folder)
    before = champion.served
    deploy(record, "2", fingerprint)
    asyncio.run(champion.catch_up())
    assert champion.served is before
    # A good one that comes after is served.
    deploy(record, "3", store("3"))
    asyncio.run(champion.catch_up())
    assert version_of(champion) == "3"


def lie(folder: Path) -> str:
    """Make an artefact whose hashes are right and whose recorded answers are not."""
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


def test_seed_stands_in_for_a_version_that_cannot_be_loaded_at_start(
    champion: Champion, record: Deployments, store: Store, tmp_path: Path
) -> None:
    fingerprint = store("1")
    (tmp_path / "store" / "1" / "serving.json").unlink()
    deploy(record, "1", fingerprint)
    champion.load_first()
    assert version_of(champion) == SEED
    assert champion.standing_in
    shutil.rmtree(tmp_path / "store" / "1")
    store("1")
    asyncio.run(champion.catch_up())
    assert version_of(champion) == "1"
    assert not champion.standing_in


def test_database_that_is_away_leaves_what_is_served(
    champion: Champion, record: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion.load_first()
    before = champion.served

    def away() -> int:
        raise HistoryUnavailableError("away")

    monkeypatch.setattr(record, "newest_id", away)
    with pytest.raises(HistoryUnavailableError):
        asyncio.run(champion.catch_up())
    assert champion.served is before


def test_follower_outlives_every_failure(
    champion: Champion, record: Deployments, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion.load_first()
    failures = iter([HistoryUnavailableError("away"), RuntimeError("a bug"), ArtefactError("x")])
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


def test_missing_seed_leaves_nothing_served_and_no_crash(
    record: Deployments, tmp_path: Path
) -> None:
    champion = Champion(Settings(state_dir=tmp_path, seed_model_path=tmp_path / "none"), record)
    champion.load_first()
    assert champion.served is None
    assert champion.standing_in
