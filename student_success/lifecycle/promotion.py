"""Promotion, rollback and the alias: how a version comes to be served.

The deployment row is the one moment of change: before it nothing has changed, after it every
worker follows. MLflow's alias is brought in line afterwards, and again later if MLflow is away.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from student_success.core import subprocesses
from student_success.core.errors import (
    ArtefactError,
    BusyError,
    ConflictError,
    NotFoundError,
    PromotionRefusedError,
    RegistryUnavailableError,
    TrainingFailedError,
)
from student_success.core.settings import Settings
from student_success.core.subprocesses import ChildFailure
from student_success.domain.decision import SEED
from student_success.domain.schemas import PromoteRequest
from student_success.lifecycle import gate
from student_success.lifecycle.audit_file import Anchor
from student_success.lifecycle.evidence import Evidence
from student_success.model.artefact import finite_json, verify
from student_success.registry import bento_store, checksums, mlflow_client, versions
from student_success.storage.deployments import Action, Deployment, Deployments
from student_success.storage.locks import Operation, exclusive

logger = logging.getLogger(__name__)

ALIAS_PATIENCE_SECONDS = 20.0
COMPARISON_MEMORY_MB = 4096

Report = Callable[[str], None]
"""Told the name of each step once it is done."""


def _silent(_step: str) -> None:
    return None


def promote(
    settings: Settings,
    deployments: Deployments,
    request: PromoteRequest,
    *,
    actor: str,
    report: Report = _silent,
) -> dict[str, Any]:
    """Promote a version through the gate; the caller holds the deployment lock.

    MLflow's alias is not moved: see `align_alias`.

    Returns
    -------
    dict
        The fields of `PromoteAnswer`.

    Raises
    ------
    NotFoundError
        If there is no such version.
    PromotionRefusedError
        If the gate refuses; its details list every condition.
    ArtefactError
        If the artefact is damaged or does not answer as recorded.
    RegistryUnavailableError
        If MLflow is away.
    """
    return _promote(settings, deployments, request, actor=actor, action="promote", report=report)


def _promote(
    settings: Settings,
    deployments: Deployments,
    request: PromoteRequest,
    *,
    actor: str,
    action: Action,
    report: Report = _silent,
) -> dict[str, Any]:
    version = str(request.version)
    current = deployments.current()
    if current is not None and current.to_version == version:
        raise ConflictError(f"Version {version} is served already.")
    with mlflow_client.downloaded(settings, request.version) as (registered, folder):
        report("fetched")
        versions.check_in_child(settings, folder, version)
        report("tried")
        judged = _judge(settings, deployments, request, folder)
        report("judged")
        evaluation, verdict = judged.evaluation, judged.verdict
        if not verdict.passed:
            raise PromotionRefusedError(
                f"Version {version} was refused by the gate.",
                details=verdict.to_json()["conditions"],
            )
        bento_store.keep(settings, registered, folder)
    report("kept")
    predictor = versions.load(settings, version, fingerprint=registered.fingerprint)
    report("verified")
    evidence: dict[str, Any] = {
        **verdict.to_json(),
        "mae": evaluation["mae"],
        "r2": evaluation["r2"],
        # Errors, coverage and width of the intervals, beside the baseline's; the alarm's price.
        "figures": evaluation.get("horizons"),
        "alarm": evaluation.get("alarm"),
        "fairness": evaluation.get("fairness"),
    }
    row = deployments.record(
        action,
        to_version=version,
        fingerprint=predictor.fingerprint,
        actor=actor,
        reason=request.reason,
        # What the artefact says of itself may hold numbers that JSON has not.
        evidence=finite_json(evidence),
        after=_id(current),
    )
    _seen(settings, row)
    report("recorded")
    return {
        "status": "promoted",
        "model": settings.model_name,
        "alias": settings.model_alias,
        "version": request.version,
        "previous_version": row.from_version,
        "mae": evaluation["mae"],
        "r2": evaluation["r2"],
        "evidence": row.evidence,
    }


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is known of a version, and what the gate says of it."""

    evaluation: Mapping[str, Any]
    verdict: gate.Verdict


def gate_limits(settings: Settings) -> gate.GateLimits:
    """Return the limits that always hold on this server."""
    return gate.GateLimits(
        max_mae=settings.gate_max_mae,
        min_r2=settings.gate_min_r2,
        significance=settings.gate_significance,
        max_mae_gap=settings.gate_max_mae_gap,
        max_rate_gap=settings.gate_max_rate_gap,
    )


def _judge(
    settings: Settings, deployments: Deployments, request: PromoteRequest, folder: Path
) -> _Judged:
    current = deployments.current()
    served = versions.folder_of(settings, SEED if current is None else current.to_version)
    evaluation = _evaluation(settings, folder / checksums.SERVING, served)
    verdict = gate.decide(
        Evidence.from_json(evaluation),
        gate_limits(settings).tightened(max_mae=request.max_mae, min_r2=request.min_r2),
        champion=verify(served),
        fairness_override=request.fairness_override,
    )
    return _Judged(evaluation, verdict)


def judge(settings: Settings, deployments: Deployments, version: int) -> dict[str, Any]:
    """Say what the gate would say of a version now; nothing changes.

    Returns
    -------
    dict
        The fields of `EvidenceAnswer`.
    """
    with mlflow_client.downloaded(settings, version) as (_, folder):
        judged = _judge(settings, deployments, PromoteRequest(version=version), folder)
    return {
        "version": version,
        "mae": judged.evaluation["mae"],
        "r2": judged.evaluation["r2"],
        **judged.verdict.to_json(),
    }


def roll_back(
    settings: Settings, deployments: Deployments, *, reason: str, actor: str
) -> dict[str, Any]:
    """Go back to the version served before; needs no registry. The caller holds the lock.

    Returns
    -------
    dict
        The fields of `RollbackAnswer`.

    Raises
    ------
    ConflictError
        If nothing was promoted.
    ArtefactError
        If the version served before is not in the Bento store, or is damaged.
    """
    current = deployments.current()
    target = deployments.rollback_target()
    version = SEED if target is None else target.to_version
    predictor = versions.load(
        settings, version, fingerprint=None if target is None else target.fingerprint
    )
    row = deployments.record(
        "rollback",
        to_version=version,
        fingerprint=predictor.fingerprint,
        actor=actor,
        reason=reason,
        evidence={},
        after=_id(current),
    )
    _seen(settings, row)
    assert row.from_version is not None
    return {"status": "rolled_back", "version": version, "previous_version": row.from_version}


def align_alias(settings: Settings, deployments: Deployments, *, may_adopt: bool) -> None:
    """Make MLflow's alias and the version served agree.

    Where the alias is not where it was last set, somebody moved it by hand: that version goes
    through the same checks, and the alias is put back if they refuse it. Where MLflow is away the
    next call does the rest.

    Parameters
    ----------
    may_adopt
        Whether a version may be taken over; False while a promotion decides what is served.
    """
    # A lock of its own: moving the alias must not make a promotion wait.
    lock = exclusive(
        Operation.ALIAS,
        engine=deployments.engine,
        state_dir=settings.state_dir,
        patience=ALIAS_PATIENCE_SECONDS,
    )
    try:
        with lock:
            there = mlflow_client.alias(settings)
            known = deployments.known_alias(settings.model_alias)
            moving = deployments.known_alias(_moving(settings))
            if may_adopt and there not in (None, known, moving, _wanted(deployments)):
                assert there is not None
                _adopt(settings, deployments, there)
            wanted = _wanted(deployments)
            if wanted != there:
                # Said before it is done: if this process ends in between, or MLflow does it and
                # does not say so, it must not look as if somebody had moved the alias by hand.
                deployments.remember_alias(_moving(settings), wanted)
                mlflow_client.move_alias(settings, wanted)
            if wanted != known:
                deployments.remember_alias(settings.model_alias, wanted)
    except (RegistryUnavailableError, BusyError) as error:
        logger.warning("alias_not_aligned", extra={"reason": error.message})


def _moving(settings: Settings) -> str:
    return f"{settings.model_alias} (moving)"


def _wanted(deployments: Deployments) -> str | None:
    current = deployments.current()
    return None if current is None or current.to_version == SEED else current.to_version


def _adopt(settings: Settings, deployments: Deployments, version: str) -> None:
    lock = exclusive(
        Operation.DEPLOYMENT,
        Operation.TRAINING,
        engine=deployments.engine,
        state_dir=settings.state_dir,
    )
    try:
        with lock:
            if deployments.current() is None:
                _adopt_first(settings, deployments, version)
            else:
                request = PromoteRequest(version=int(version), reason="alias moved in MLflow")
                _promote(settings, deployments, request, actor="mlflow", action="adopt")
    except (PromotionRefusedError, ArtefactError, NotFoundError, ConflictError) as error:
        if isinstance(error, BusyError):
            raise
        logger.error("alias_refused", extra={"model_version": version, "conditions": error.details})


def _adopt_first(settings: Settings, deployments: Deployments, version: str) -> None:
    """Take over what a registry with a history of its own says is served."""
    with mlflow_client.downloaded(settings, int(version)) as (registered, folder):
        versions.check_in_child(settings, folder, version)
        bento_store.keep(settings, registered, folder)
    row = deployments.record(
        "adopt",
        to_version=version,
        fingerprint=versions.load(
            settings, version, fingerprint=registered.fingerprint
        ).fingerprint,
        actor="mlflow",
        reason="alias found in MLflow at the first start",
        evidence={},
        after=0,
    )
    _seen(settings, row)


def _seen(settings: Settings, row: Deployment) -> None:
    """Keep the hash of a new row outside the database: beside it, and wherever the log goes."""
    Anchor(settings.state_dir).add(row)
    extra = {"deployment": row.id, "hash": row.hash, "model_version": row.to_version}
    logger.info("deployed", extra=extra)


def _id(deployment: Deployment | None) -> int:
    return 0 if deployment is None else deployment.id


def _evaluation(settings: Settings, candidate: Path, champion: Path) -> Mapping[str, Any]:
    """Return the candidate's evaluation, made anew if another champion serves by now."""
    verify(candidate)
    try:
        found: dict[str, Any] = json.loads((candidate / "evaluation.json").read_text("utf-8"))
        if found.get("champion") != verify(champion):
            found = _compare(settings, candidate, champion)
        if not all(isinstance(found[name], int | float) for name in ("mae", "r2")):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("The evaluation of the model cannot be read.") from error
    return found


def _compare(settings: Settings, candidate: Path, champion: Path) -> dict[str, Any]:
    try:
        # A process of its own: serving does not import training.
        said = asyncio.run(
            subprocesses.run(
                "-m",
                "training",
                "compare",
                f"--candidate={candidate}",
                f"--champion={champion}",
                timeout=settings.train_timeout_seconds,
                memory_mb=COMPARISON_MEMORY_MB,
            )
        )
    except (ChildFailure, TrainingFailedError) as error:
        raise PromotionRefusedError(
            "The candidate could not be compared with the version served now: train it again."
        ) from error
    found: dict[str, Any] = said["evaluation"]
    return found
