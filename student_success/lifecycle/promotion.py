"""Promotion through the gate, and rollback.

The row in the table of deployments is the moment of change. Before it nothing has changed; after
it every worker follows. MLflow's alias is moved afterwards, see `alias_sync`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConflictError, PromotionRefusedError
from student_success.domain import recorded_profile
from student_success.domain.decision import SEED
from student_success.domain.schemas.lifecycle import PromoteRequest
from student_success.lifecycle import gate, recorded_outcomes, training_data
from student_success.lifecycle.audit_file import AuditFile
from student_success.lifecycle.comparison import Condition
from student_success.lifecycle.evidence import Evidence, leak_warnings, read_evaluation
from student_success.model.artefact import Artefact, finite_json
from student_success.registry import bento_store, checksums, mlflow_client, versions
from student_success.registry.checksums import RegisteredVersion
from student_success.storage.deployments import Action, Deployment, Deployments, version_of
from student_success.storage.observations import pupils_with_outcomes

logger = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Called with the name of each step once it is done."""


def promote(
    settings: Settings,
    deployments: Deployments,
    request: PromoteRequest,
    *,
    actor: str,
    action: Action = "promote",
    report: Report = lambda _step: None,
) -> dict[str, Any]:
    """Promote a version through the gate; the caller holds the deployment lock.

    MLflow's alias is not moved: see `alias_sync.align_alias`.

    Parameters
    ----------
    action
        ``"adopt"`` if somebody moved the alias in MLflow to this version.

    Returns
    -------
    dict
        The fields of `PromoteAnswer`.

    Raises
    ------
    NotFoundError
        If there is no such version.
    ProfileMismatchError
        If the version was trained for another profile.
    ConflictError
        If the version is served already.
    PromotionRefusedError
        If the gate refuses; its details list every condition.
    ArtefactError
        If the artefact is damaged or does not answer as recorded.
    RegistryUnavailableError
        If MLflow does not answer.
    """
    version = str(request.version)
    current = deployments.current()
    if current is not None and current.to_version == version:
        raise ConflictError(f"Version {version} is served already; nothing was changed.")
    with mlflow_client.downloaded(settings, request.version) as (registered, folder):
        report("fetched")
        recorded_profile.check_version(folder / checksums.SERVING, version)
        versions.check_in_child(settings, folder, version)
        report("tried")
        evaluation, verdict = _decide(settings, deployments, request, registered, folder)
        report("judged")
        if not verdict.passed:
            raise PromotionRefusedError(
                f"Version {version} was not promoted: the gate refused it, see the conditions. "
                f"{_still_served(settings, current)}",
                details=verdict.to_json()["conditions"],
            )
        bento_store.keep(settings, registered, folder)
    report("kept")
    predictor = versions.load(settings, version, fingerprint=registered.fingerprint)
    report("verified")
    row = deployments.record(
        action,
        to_version=version,
        fingerprint=predictor.fingerprint,
        actor=actor,
        reason=request.reason,
        evidence=finite_json(
            {
                **verdict.to_json(),
                "mae": evaluation["mae"],
                "r2": evaluation["r2"],
                # Errors, coverage and width of the intervals beside the baseline's.
                "figures": evaluation.get("horizons"),
                "alarm": evaluation.get("alarm"),
                "fairness": evaluation.get("fairness"),
            }
        ),
        after=id_of(current),
        before_first=SEED if versions.has_seed(settings) else None,
    )
    log_deployment(settings, row)
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


def judge(settings: Settings, deployments: Deployments, version: int) -> dict[str, Any]:
    """Return the gate's verdict on a version; nothing changes.

    Returns
    -------
    dict
        The fields of `EvidenceAnswer`.
    """
    with mlflow_client.downloaded(settings, version) as (registered, folder):
        recorded_profile.check_version(folder / checksums.SERVING, str(version))
        request = PromoteRequest(version=version)
        evaluation, verdict = _decide(settings, deployments, request, registered, folder)
    return {
        "version": version,
        "mae": evaluation["mae"],
        "r2": evaluation["r2"],
        **verdict.to_json(),
    }


async def roll_back(
    settings: Settings, deployments: Deployments, *, reason: str, actor: str
) -> dict[str, Any]:
    """Go back to the version served before; the caller holds the deployment lock.

    The registry is only needed if this machine does not hold that version.

    Returns
    -------
    dict
        The fields of `RollbackAnswer`.

    Raises
    ------
    ConflictError
        If nothing was promoted, or the version served before is for another profile.
    ArtefactError
        If the version served before is damaged.
    RegistryUnavailableError
        If the version served before has to be fetched and MLflow does not answer.
    """
    current = await asyncio.to_thread(deployments.current)
    target = await asyncio.to_thread(deployments.rollback_target)
    if target is None and not versions.has_seed(settings):
        raise ConflictError(
            f"Nothing to roll back: version {version_of(current)} is the first one promoted for "
            "this profile, and the seed model is for another one. It is still served."
        )
    version = version_of(target)
    fingerprint = None
    if target is not None:
        fingerprint = target.fingerprint
        await versions.ensure_stored(settings, version, fingerprint=fingerprint)

    def record() -> tuple[Deployment, list[str]]:
        predictor = versions.load(settings, version, fingerprint=fingerprint)
        row = deployments.record(
            "rollback",
            to_version=version,
            fingerprint=predictor.fingerprint,
            actor=actor,
            reason=reason,
            evidence={},
            after=id_of(current),
        )
        log_deployment(settings, row)
        return row, leak_warnings(predictor.artefact)

    row, warnings = await asyncio.to_thread(record)
    if warnings:
        extra = {"model_version": version, "warnings": warnings}
        logger.warning("rolled_back_with_warnings", extra=extra)
    return {
        "status": "rolled_back",
        "version": version,
        "previous_version": row.from_version,
        "warnings": warnings,
    }


def id_of(deployment: Deployment | None) -> int:
    """Return the id of a deployment's row, 0 before the first deployment."""
    return 0 if deployment is None else deployment.id


def log_deployment(settings: Settings, row: Deployment) -> None:
    """Keep the hash of a new row outside the database: in the audit file and in the log."""
    AuditFile(settings.state_dir).append(row)
    extra = {"deployment": row.id, "hash": row.hash, "model_version": row.to_version}
    logger.info("deployed", extra=extra)


def _decide(
    settings: Settings,
    deployments: Deployments,
    request: PromoteRequest,
    registered: RegisteredVersion,
    folder: Path,
) -> tuple[Mapping[str, Any], gate.Verdict]:
    """Return the evaluation of a downloaded version and the gate's verdict on it."""
    current = deployments.current()
    limits = gate.gate_limits(settings)
    if current is not None and current.to_version != SEED:
        # Its files may have been removed while it was served.
        asyncio.run(
            versions.ensure_stored(settings, current.to_version, fingerprint=current.fingerprint)
        )
    served = versions.champion_folder(settings, version_of(current))
    candidate = Artefact(folder / checksums.SERVING)
    champion = None if served is None else Artefact(served)
    evaluation = read_evaluation(settings, candidate, champion)
    further = training_data.conditions(
        candidate,
        champion,
        allow_synthetic=request.allow_synthetic,
        population_override=request.population_override,
        significance=limits.significance,
    )
    if champion is not None:
        # The served version is older than its deployment; the seed model is as old as the program.
        since = max(registered.created_us, 0 if current is None else current.created_us)
        pupils = pupils_with_outcomes(
            deployments.engine, since_us=since, year_starts=settings.school_year_starts
        )
        folders = candidate.folder, champion.folder
        further.append(
            recorded_outcomes.condition(*folders, pupils, significance=limits.significance)
        )
    evidence = Evidence.from_json(evaluation)
    if (candidate.dataset.get("outcomes") or {}).get("rows") and not evidence.file_pupils:
        detail = "the evidence does not say what the recorded final grades change: train again"
        further.append(Condition("file_pupils", False, None, None, detail))
    verdict = gate.decide(
        evidence,
        limits.tightened(max_mae=request.max_mae, min_r2=request.min_r2),
        champion=None if champion is None else champion.fingerprint,
        fairness_override=request.fairness_override,
        further=further,
    )
    return evaluation, verdict


def _still_served(settings: Settings, current: Deployment | None) -> str:
    if current is None and not versions.has_seed(settings):
        return "There is still no model that is served."
    return f"Version {version_of(current)} is still served."
