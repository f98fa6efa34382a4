"""MLflow's alias and the served version are kept equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from student_success.core.configuration.settings import Settings
from student_success.core.errors import PromotionRefusedError, RegistryUnavailableError
from student_success.domain.decision import SEED
from student_success.lifecycle import alias_sync
from student_success.lifecycle.alias_sync import align_alias, wanted_alias
from student_success.storage.deployments import Deployments


class Registry:
    """MLflow's alias, and the versions that the gate accepts."""

    def __init__(self, deployments: Deployments) -> None:
        self.deployments = deployments
        self.alias: str | None = None
        self.accepted = {"1", "2"}
        self.adoptions: list[str] = []
        self.available = True

    def get(self, _settings: Settings) -> str | None:
        if not self.available:
            raise RegistryUnavailableError("unavailable")
        return self.alias

    def move(self, _settings: Settings, version: str | None) -> None:
        self.alias = version

    def promote(
        self, _settings: Settings, _deployments: Deployments, request: Any, **_: Any
    ) -> None:
        version = str(request.version)
        self.adoptions.append(version)
        if version not in self.accepted:
            raise PromotionRefusedError("refused")
        deploy(self.deployments, version)


def deploy(deployments: Deployments, version: str) -> None:
    deployments.record(
        "promote", to_version=version, fingerprint="0", actor="a", reason=None, evidence={}
    )


@pytest.fixture
def deployments(engine: Engine) -> Deployments:
    return Deployments(engine)


@pytest.fixture
def registry(deployments: Deployments, monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry(deployments)
    monkeypatch.setattr(alias_sync.mlflow_client, "alias", registry.get)
    monkeypatch.setattr(alias_sync.mlflow_client, "move_alias", registry.move)
    monkeypatch.setattr(alias_sync.promotion, "promote", registry.promote)
    return registry


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def test_wanted_alias_is_the_deployed_version_and_none_for_the_seed(
    deployments: Deployments,
) -> None:
    assert wanted_alias(deployments) is None
    deploy(deployments, "1")
    assert wanted_alias(deployments) == "1"
    deploy(deployments, SEED)
    assert wanted_alias(deployments) is None


def test_align_moves_the_alias_to_the_deployed_version(
    settings: Settings, deployments: Deployments, registry: Registry
) -> None:
    deploy(deployments, "1")
    align_alias(settings, deployments, may_adopt=True)
    assert registry.alias == "1"
    deploy(deployments, "2")
    # The alias is where it was last set, so nobody has moved it.
    align_alias(settings, deployments, may_adopt=True)
    assert registry.alias == "2"
    assert registry.adoptions == []


def test_align_deploys_the_version_that_somebody_moved_the_alias_to(
    settings: Settings, deployments: Deployments, registry: Registry
) -> None:
    deploy(deployments, "1")
    align_alias(settings, deployments, may_adopt=True)
    registry.alias = "2"
    align_alias(settings, deployments, may_adopt=True)
    assert registry.adoptions == ["2"]
    assert (wanted_alias(deployments), registry.alias) == ("2", "2")


@pytest.mark.parametrize("may_adopt", [True, False])
def test_align_moves_the_alias_back_when_its_version_is_not_adopted(
    settings: Settings, deployments: Deployments, registry: Registry, may_adopt: bool
) -> None:
    deploy(deployments, "1")
    align_alias(settings, deployments, may_adopt=True)
    registry.alias = "9"
    align_alias(settings, deployments, may_adopt=may_adopt)
    assert registry.adoptions == (["9"] if may_adopt else [])
    assert (wanted_alias(deployments), registry.alias) == ("1", "1")


@pytest.mark.parametrize(("version", "served"), [("2", "2"), ("9", None)])
def test_align_asks_the_gate_about_an_alias_that_is_set_before_anything_is_deployed(
    settings: Settings,
    deployments: Deployments,
    registry: Registry,
    caplog: pytest.LogCaptureFixture,
    version: str,
    served: str | None,
) -> None:
    registry.alias = version
    align_alias(settings, deployments, may_adopt=True)
    assert registry.adoptions == [version]
    assert (wanted_alias(deployments), registry.alias) == (served, served)
    refused = [record for record in caplog.records if record.getMessage() == "alias_refused"]
    assert len(refused) == (served is None)


def test_align_does_not_adopt_an_alias_that_was_moved_without_an_answer(
    settings: Settings, deployments: Deployments, registry: Registry, monkeypatch: Any
) -> None:
    """MLflow may move the alias and fail to answer; nobody else has moved it then."""
    deploy(deployments, "1")
    align_alias(settings, deployments, may_adopt=True)
    deploy(deployments, "2")

    def move_without_answer(_settings: Settings, version: str | None) -> None:
        registry.alias = version
        raise RegistryUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(alias_sync.mlflow_client, "move_alias", move_without_answer)
        align_alias(settings, deployments, may_adopt=True)
    deploy(deployments, "1")
    align_alias(settings, deployments, may_adopt=True)
    assert registry.adoptions == []
    assert registry.alias == "1"


def test_align_changes_nothing_when_the_registry_is_unavailable(
    settings: Settings, deployments: Deployments, registry: Registry
) -> None:
    deploy(deployments, "1")
    registry.available = False
    align_alias(settings, deployments, may_adopt=True)
    assert registry.alias is None
    registry.available = True
    align_alias(settings, deployments, may_adopt=True)
    assert registry.alias == "1"
