"""What the service answers about versions without asking MLflow."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from student_success.core.configuration.settings import Settings
from student_success.core.errors import RegistryUnavailableError
from student_success.services import model_lifecycle
from student_success.services.model_lifecycle import ModelLifecycle
from student_success.storage.deployments import Deployments

EVIDENCE: dict[str, Any] = {
    "passed": True,
    "mae": 0.9,
    "r2": 0.85,
    "conditions": [
        {"name": "mae", "passed": True, "value": 0.9, "limit": 1.0, "detail": "at most 1"}
    ],
    "comparisons": [],
    "figures": {"G1": 1.0},
}


@pytest.fixture
def lifecycle(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> ModelLifecycle:
    """Return the service after a promotion of version 3, then 4, and a rollback to 3."""

    async def unavailable(*_arguments: Any, **_options: Any) -> None:
        raise RegistryUnavailableError("asked the registry")

    monkeypatch.setattr(model_lifecycle, "run_command", unavailable)
    deployments = Deployments(engine)
    for action, version, evidence in (
        ("promote", "3", EVIDENCE),
        ("promote", "4", {**EVIDENCE, "mae": 0.8}),
        ("rollback", "3", {}),
    ):
        deployments.record(
            cast("Any", action),
            to_version=version,
            fingerprint="f" * 64,
            actor="a",
            reason=None,
            evidence=evidence,
        )
    nothing = cast("Any", None)
    return ModelLifecycle(
        settings=Settings(), deployments=deployments, jobs=nothing, champion=nothing
    )


def test_evidence_of_the_version_served_is_that_of_its_promotion(lifecycle: ModelLifecycle) -> None:
    answer = asyncio.run(lifecycle.evidence(3))
    # Recorded before the conditions said how value and limit are compared.
    conditions = [{**condition, "compared": None} for condition in EVIDENCE["conditions"]]
    expected = {**EVIDENCE, "version": 3, "conditions": conditions}
    assert answer == {key: expected[key] for key in expected if key != "figures"}


def test_evidence_of_another_version_is_computed(lifecycle: ModelLifecycle) -> None:
    with pytest.raises(RegistryUnavailableError, match="asked the registry"):
        asyncio.run(lifecycle.evidence(4))


def test_deployments_are_short_without_evidence(lifecycle: ModelLifecycle) -> None:
    whole = asyncio.run(lifecycle.deployments(evidence=True))
    short = asyncio.run(lifecycle.deployments(evidence=False))
    assert [row["evidence"]["mae"] for row in whole[1:]] == [0.8, 0.9]
    assert short == [{**row, "evidence": None} for row in whole]
