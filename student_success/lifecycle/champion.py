"""The version that this process serves, kept equal to the newest deployment.

A new version is loaded while the old one is served, and replaces it in a single assignment. If the
load fails, the old version is still served; the failure is counted and logged, and the load is
tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ModelUnavailableError, StudentSuccessError
from student_success.domain.decision import SEED
from student_success.domain.students import PROFILE
from student_success.lifecycle.audit_file import AuditFile
from student_success.lifecycle.worker_status import WorkerStatus
from student_success.model.artefact import MANIFEST
from student_success.model.predictor import Predictor
from student_success.registry import bento_store, versions
from student_success.storage.deployments import Deployment, Deployments, version_of

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.5
"""Interval at which a worker reads the newest deployment: one indexed row."""

Source = Literal["mlflow", "bento-store", "seed"]
RETRY_SECONDS = 5.0
WAIT_FOR_WORKERS_SECONDS = 2.0
WAIT_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Served:
    """One version in memory.

    Attributes
    ----------
    deployment_id
        Id of its row in the table of deployments; 0 for the seed model before any promotion, -1 for
        the seed model in place of a version that could not be loaded.
    """

    predictor: Predictor
    source: Source
    deployment_id: int


class Champion:
    """Hold the served version and replace it when another one is deployed."""

    def __init__(self, settings: Settings, deployments: Deployments) -> None:
        self._settings = settings
        self._deployments = deployments
        self._swapping = asyncio.Lock()
        self._retry_at = 0.0
        self._started = False
        self._audit_file = AuditFile(settings.state_dir)
        self._worker_status = WorkerStatus(settings.state_dir / "workers")
        self.problem = "No verified model is loaded."
        """Why nothing is served, in words."""
        self.served: Served | None = None
        """Read it once per request, so that the whole response comes from one version."""

    def serving(self) -> Served:
        """Return the served version.

        Raises
        ------
        ModelUnavailableError
            If no verified model is loaded.
        """
        if self.served is None:
            raise ModelUnavailableError(self.problem)
        return self.served

    @property
    def is_fallback(self) -> bool:
        """Whether the seed or nothing is served because the deployed version was not loaded."""
        return self.served is None or self.served.deployment_id < 0

    def behind(self) -> int:
        """Count the workers of this machine that do not serve the newest deployment."""
        return self._worker_status.count_behind(self._deployments.newest_id())

    def missing_deployments(self) -> str | None:
        """Return what shows that the database lost deployments, in words; None if nothing does."""
        seen = self._audit_file.newest()
        if seen is not None and self._deployments.hash_of(seen[0]) != seen[1]:
            return (
                f"Deployment {seen[0]}, which this machine has seen, is not in the database: it "
                "was emptied, or replaced by an older copy. Restore a backup, or promote again."
            )
        if self._deployments.newest_id() == 0 and not bento_store.is_empty(self._settings):
            return (
                "The Bento store holds versions, but the database has no deployment: it was "
                "emptied, or is another one. Restore a backup, or promote again."
            )
        return None

    async def await_all(self) -> int:
        """Wait until every worker of this machine serves the newest deployment.

        Returns
        -------
        int
            Number of workers that do not after `WAIT_FOR_WORKERS_SECONDS`.
        """
        deadline = time.monotonic() + WAIT_FOR_WORKERS_SECONDS
        while behind := await asyncio.to_thread(self.behind):
            if time.monotonic() >= deadline:
                logger.error("workers_behind", extra={"workers": behind})
                break
            await asyncio.sleep(WAIT_INTERVAL_SECONDS)
        return behind

    def close(self) -> None:
        """Remove this worker from the list of workers."""
        self._worker_status.close()

    def load_first(self) -> None:
        """Load the newest deployment without the registry; load the seed if that fails."""
        try:
            current = self._deployments.current()
            if current is None and not self._has_seed:
                self._await_first_promotion()
            else:
                self._swap(self._load(current), current)
                self._audit_file.append(current)
        except StudentSuccessError as error:
            logger.error("deployed_version_not_loaded", exc_info=True)
            metrics.model_reloads_total.labels("failed").inc()
            self.problem = error.message
            try:
                if self._has_seed:
                    self._install(Served(versions.load(self._settings, SEED), "seed", -1))
            except StudentSuccessError:
                logger.critical("seed_not_loaded", exc_info=True)
        self._started = True

    async def catch_up(self) -> None:
        """Serve the newest deployment; if that fails, the version served so far is kept."""
        async with self._swapping:
            newest = await asyncio.to_thread(self._deployments.newest_id)
            served = self.served
            if served is not None and served.deployment_id == newest and _is_on_disk(served):
                return
            if newest == 0 and not self._has_seed:
                if served is None:
                    self._await_first_promotion()
                return
            if time.monotonic() < self._retry_at:
                return
            # Set before the load, so that any failure is followed by a pause.
            self._retry_at = time.monotonic() + RETRY_SECONDS
            try:
                current = await asyncio.to_thread(self._deployments.current)
                if current is not None:
                    await versions.ensure_stored(
                        self._settings, current.to_version, fingerprint=current.fingerprint
                    )
                if served is not None and served.deployment_id == newest:
                    # It was served from memory meanwhile; a restart and `/explain` need the files.
                    logger.warning("served_version_fetched_again")
                    self._retry_at = 0.0
                    return
                self._swap(await asyncio.to_thread(self._load, current), current)
                self._retry_at = 0.0
                await asyncio.to_thread(self._audit_file.append, current)
            except StudentSuccessError as error:
                metrics.model_reloads_total.labels("failed").inc()
                logger.error("reload_failed", extra={"reason": str(error)})

    async def follow(self) -> None:
        """Look for a newer deployment until cancelled."""
        reason = ""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self.catch_up()
                reason = ""
            except StudentSuccessError as error:
                # The database is unavailable: the same version is served until it is back.
                if error.message != reason:
                    logger.warning("deployments_unreadable", extra={"reason": error.message})
                reason = error.message
            except Exception:
                # If this task ended, the worker would serve the old version for ever.
                metrics.model_reloads_total.labels("failed").inc()
                logger.exception("follow_failed")

    @cached_property
    def _has_seed(self) -> bool:
        return versions.has_seed(self._settings)

    def _await_first_promotion(self) -> None:
        problem = (
            f"No model was promoted for the profile {PROFILE.name} yet, and the seed model is for "
            "another one. Train a version and promote it."
        )
        if self.problem == problem:
            return
        self.problem = problem
        logger.warning("no_model_yet", extra={"reason": self.problem})
        # Nothing is deployed, so this worker is not behind the others.
        self._worker_status.write(0)

    def _load(self, deployment: Deployment | None) -> Predictor:
        fingerprint = None if deployment is None else deployment.fingerprint
        return versions.load(self._settings, version_of(deployment), fingerprint=fingerprint)

    def _swap(self, predictor: Predictor, deployment: Deployment | None) -> None:
        source: Source = "mlflow" if self._started else "bento-store"
        if predictor.version == SEED:
            source = "seed"
        self._install(Served(predictor, source, deployment.id if deployment else 0))
        metrics.model_reloads_total.labels("loaded").inc()

    def _install(self, served: Served) -> None:
        if self.served is not None:
            metrics.model_info.labels(self.served.predictor.version, self.served.source).set(0)
        self.served = served
        self._worker_status.write(served.deployment_id)
        version = served.predictor.version
        metrics.model_info.labels(version, served.source).set(1)
        extra = {"model_version": version, "source": served.source}
        logger.info("serving", extra=extra)
        metrics.model_synthetic.set(served.predictor.synthetic)
        if served.predictor.synthetic:
            logger.warning("serving_model_of_synthetic_data", extra=extra)


def _is_on_disk(served: Served) -> bool:
    return served.predictor.version == SEED or (served.predictor.folder / MANIFEST).is_file()
