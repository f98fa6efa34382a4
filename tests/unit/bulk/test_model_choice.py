"""A bulk run uses the version that the service of the same state serves, and no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from student_success.bulk.model_choice import Model, choose, load
from student_success.core import subprocesses
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, NotFoundError, RegistryUnavailableError
from student_success.core.paths import ROOT
from student_success.model.artefact import verify
from student_success.registry import versions
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect
from student_success.storage.migrate import migrate

SEED = ROOT / "student_success" / "seed"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", database_url=None)


@pytest.fixture
def deploy(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """Return a function that puts a version into a store of the test's own, and deploys it."""
    settings.state_dir.mkdir()
    migrate(settings.database, state_dir=settings.state_dir)
    record = Deployments(connect(settings.database))

    def stored(_settings: Settings, version: str) -> Path | None:
        path = tmp_path / "store" / version
        return path if path.is_dir() else None

    def put(version: str, action: str = "promote") -> None:
        shutil.copytree(SEED, tmp_path / "store" / version, dirs_exist_ok=True)
        record.record(
            action,  # type: ignore[arg-type]
            to_version=version,
            fingerprint=verify(tmp_path / "store" / version),
            actor="a",
            reason=None,
            evidence={},
        )

    monkeypatch.setattr(versions.bento_store, "stored", stored)
    return put


def test_choose_returns_seed_without_creating_database_when_nothing_is_deployed(
    settings: Settings,
) -> None:
    assert choose(settings, None).version == "seed"
    assert not settings.state_dir.exists()


def test_choose_returns_served_or_named_version(
    settings: Settings, deploy: Callable[[str, str], None]
) -> None:
    deploy("3", "promote")
    deploy("4", "promote")
    assert choose(settings, None).version == "4"
    assert choose(settings, "3").version == "3"
    assert choose(settings, "seed").version == "seed"
    deploy("3", "rollback")
    assert choose(settings, None).version == "3"
    with pytest.raises(NotFoundError, match="never deployed"):
        choose(settings, "9")


def test_choose_never_replaces_served_version_when_it_is_damaged_or_missing(
    settings: Settings,
    deploy: Callable[[str, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy("3", "promote")
    (tmp_path / "store" / "3" / "card.md").write_text("altered")
    with pytest.raises(ArtefactError, match=r"card\.md"):
        choose(settings, None)
    shutil.rmtree(tmp_path / "store" / "3")
    asked: list[str] = []

    async def away(*arguments: str, **_: object) -> None:
        asked.extend(arguments)
        raise RegistryUnavailableError("MLflow is away.")

    monkeypatch.setattr(subprocesses, "run", away)
    with pytest.raises(RegistryUnavailableError):
        choose(settings, None)
    assert "--version=3" in asked


def test_choose_names_model_folder_by_its_fingerprint(settings: Settings) -> None:
    model = choose(settings, str(SEED))
    assert model.version == f"folder:{verify(SEED)[:12]}"


def test_load_verifies_packed_model_on_another_machine(settings: Settings) -> None:
    model = choose(settings, "seed").packed()
    elsewhere = replace(model, folder=Path("/nowhere"))
    assert load(elsewhere).fingerprint == verify(SEED)
    other = Model("seed", "0" * 64, 0.9, model.folder, model.files)
    with pytest.raises(ArtefactError, match="not the one"):
        load(other)
