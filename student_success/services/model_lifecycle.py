"""Train, promote and roll back versions of the model, and describe them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import ValidationError

from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    DatabaseUnavailableError,
    InvalidInputError,
    StudentSuccessError,
)
from student_success.domain.schemas.lifecycle import (
    EvidenceAnswer,
    ModelAnswer,
    PromoteAnswer,
    PromoteRequest,
    RollbackAnswer,
    RollbackRequest,
    TrainAccepted,
    TrainRequest,
)
from student_success.domain.students import FEATURE_NAMES, FEATURES, PROFILE
from student_success.lifecycle import promotion
from student_success.lifecycle.champion import Champion
from student_success.lifecycle.training_jobs import TrainingJobs
from student_success.registry.child_process import run_command
from student_success.storage.deployments import Deployments
from student_success.storage.locks import Operation, exclusive


class ModelLifecycle:
    """The life of the model's versions. Everything that needs MLflow runs in a child process."""

    def __init__(
        self,
        *,
        settings: Settings,
        deployments: Deployments,
        jobs: TrainingJobs,
        champion: Champion,
    ) -> None:
        self._settings = settings
        self._deployments = deployments
        self._jobs = jobs
        self._champion = champion
        self._listing = asyncio.Lock()

    async def train(self, request: TrainRequest) -> tuple[int, dict[str, Any]]:
        """Start a training.

        Returns
        -------
        tuple
            HTTP status and response; the result of the training if the request asks to wait.
        """
        served = self._champion.served
        champion = None if served is None else served.predictor.folder
        job_id, task = await self._jobs.start(request, champion=champion)
        if not request.wait:
            return 202, TrainAccepted(job_id=job_id).model_dump()
        # Shielded: the training goes on if the client disconnects.
        return 200, await asyncio.shield(task)

    async def job(self, job_id: str | None) -> dict[str, Any]:
        """Return the state of a training; of the newest one if `job_id` is None."""
        return await asyncio.to_thread(self._jobs.get, job_id)

    async def promote(self, request: PromoteRequest, *, actor: str) -> PromoteAnswer:
        """Promote a version through the gate."""
        settings = self._settings
        if request.alias not in (None, settings.model_alias):
            raise InvalidInputError(
                f"Only the alias '{settings.model_alias}' is served.",
                details=[{"loc": ["alias"], "msg": "Not the served alias", "type": "alias"}],
            )
        with _counted("promoted"):
            async with self._exclusive(Operation.TRAINING, Operation.DEPLOYMENT):
                result = await run_command(
                    settings,
                    "promote",
                    "--locked",
                    f"--actor={actor}",
                    f"--request={request.model_dump_json()}",
                    timeout=settings.registry_timeout_seconds + settings.train_timeout_seconds,
                )
        return PromoteAnswer.model_validate({**result, "workers_behind": await self._follow()})

    async def rollback(self, request: RollbackRequest, *, actor: str) -> RollbackAnswer:
        """Go back to the version served before; works while MLflow is unavailable."""
        with _counted("rolled_back"):
            async with self._exclusive(Operation.DEPLOYMENT):
                result = await promotion.roll_back(
                    self._settings, self._deployments, reason=request.reason, actor=actor
                )
        await self._follow()
        return RollbackAnswer.model_validate(result)

    async def deployments(self, *, evidence: bool) -> list[dict[str, Any]]:
        """Return the promotions and rollbacks, newest first."""
        rows = [row.public() for row in await asyncio.to_thread(self._deployments.page)]
        return rows if evidence else [{**row, "evidence": None} for row in rows]

    async def versions(self) -> list[dict[str, Any]]:
        """Return the registered versions, newest first."""
        # One at a time: each is a process, and a page may ask again before the first has ended.
        async with self._listing:
            result = await run_command(self._settings, "versions")
        served = self._champion.served
        version = None if served is None else served.predictor.version
        return [{**row, "served": str(row["version"]) == version} for row in result["versions"]]

    async def evidence(self, version: int) -> dict[str, Any]:
        """Return the gate's verdict on a version; nothing changes.

        The verdict on the version served is the one that it was promoted with.
        """
        if (recorded := await asyncio.to_thread(self._recorded_evidence, version)) is not None:
            return recorded
        result = await run_command(
            self._settings,
            "judge",
            f"--version={version}",
            timeout=self._settings.train_timeout_seconds,
        )
        return EvidenceAnswer.model_validate(result).model_dump(mode="json")

    def _recorded_evidence(self, version: int) -> dict[str, Any] | None:
        current = self._deployments.current()
        if current is None or current.to_version != str(version):
            return None
        for row in self._deployments.page():
            if row.to_version == str(version) and row.action != "rollback":
                with contextlib.suppress(ValidationError):
                    verdict = EvidenceAnswer.model_validate({**row.evidence, "version": version})
                    return verdict.model_dump(mode="json")
        return None

    def model(self) -> ModelAnswer:
        """Describe the served version."""
        served = self._champion.served
        artefact = None if served is None else served.predictor.artefact
        return ModelAnswer(
            model_loaded=served is not None,
            model_version=None if served is None else served.predictor.version,
            model_source=None if served is None else served.source,
            model_name=self._settings.model_name,
            alias=self._settings.model_alias,
            expected_features=list(FEATURE_NAMES),
            features={feature.name: feature.public() for feature in FEATURES},
            metrics={} if artefact is None else artefact.metrics,
            dataset={} if artefact is None else artefact.dataset,
            model_card={} if artefact is None else artefact.card,
            profile=PROFILE.public(),
        )

    async def _follow(self) -> int | None:
        """Serve the new deployment and count the workers that do not in time; None if unknown."""
        try:
            await self._champion.catch_up()
            return await self._champion.await_all()
        except DatabaseUnavailableError:
            # The database failed after the deployment was recorded.
            return None

    @contextlib.asynccontextmanager
    async def _exclusive(self, *operations: Operation) -> AsyncIterator[None]:
        lock = exclusive(
            *operations, engine=self._deployments.engine, state_dir=self._settings.state_dir
        )
        # In a thread, because a lock of PostgreSQL needs a network round trip.
        await asyncio.to_thread(lock.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(lock.__exit__, None, None, None)


@contextlib.contextmanager
def _counted(outcome: str) -> Iterator[None]:
    try:
        yield
    except StudentSuccessError as error:
        metrics.promotions_total.labels(error.code).inc()
        raise
    metrics.promotions_total.labels(outcome).inc()
