"""What the service can do, put together: every route of the contract is one method here.

It knows nothing of HTTP. `service.py` makes one for each worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from student_success.core import metrics, subprocesses
from student_success.core.errors import (
    HistoryUnavailableError,
    InvalidInputError,
    RegistryUnavailableError,
    StudentSuccessError,
)
from student_success.core.memory import give_back_soon
from student_success.core.settings import Settings
from student_success.core.subprocesses import ChildFailure
from student_success.domain.schemas import (
    DriftAnswer,
    EvidenceAnswer,
    HealthAnswer,
    HistoryQuery,
    ModelAnswer,
    Outcome,
    OutcomesAnswer,
    PromoteAnswer,
    PromoteRequest,
    RollbackAnswer,
    RollbackRequest,
    TrainRequest,
)
from student_success.domain.students import FEATURE_NAMES, FEATURES
from student_success.lifecycle import promotion
from student_success.lifecycle.alias_sync import wanted_alias
from student_success.lifecycle.champion import Champion
from student_success.lifecycle.training_jobs import Jobs
from student_success.monitoring.monitor import Monitor
from student_success.registry import mlflow_http
from student_success.services.explanation import Explanations
from student_success.services.prediction import Inference
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect, migrate
from student_success.storage.inference_log.group_commit import LOCK_SECONDS
from student_success.storage.inference_log.history import History
from student_success.storage.locks import Operation, exclusive
from student_success.storage.outcomes import Outcomes

logger = logging.getLogger(__name__)

PROMOTION_MEMORY_MB = 4096
DATABASE_RETRY_SECONDS = 2.0
LARGE_PAGE = 200
"""Rows; what a larger page took is given back to the system."""
_REFERENCE = {"reference"}


class Application:
    """One worker's engines, served version and background tasks.

    Parameters
    ----------
    settings
        Everything is made from these; nothing is opened before `open`.
    """

    deployments: Deployments
    jobs: Jobs
    history: History
    champion: Champion
    inference: Inference
    explanations: Explanations
    outcomes: Outcomes
    monitor: Monitor

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._listing = asyncio.Lock()
        self._check: asyncio.Task[None] | None = None
        self._registry_ok = True

    def open(self, *, leader: bool) -> None:
        """Bring the schema up to date, load the served version, start the background work.

        Call from the event loop. A database or model that is away does not stop the start: the
        service says so in `/health` and answers 503 until it is back.

        Parameters
        ----------
        leader
            Whether this worker looks after MLflow's alias and watches how the model fares; one
            worker of a server is enough.
        """
        settings = self.settings
        self._started_at = time.monotonic()
        control = connect(settings.database, synchronous="FULL")
        self._control = control
        self.deployments = Deployments(control)
        self.jobs = Jobs(settings, control)
        sqlite = settings.database.startswith("sqlite")
        quick = sqlite and settings.history_synchronous == "NORMAL"
        self.history = History(
            connect(settings.database, synchronous=settings.history_synchronous),
            commit_engine=connect(
                settings.database,
                synchronous=settings.history_synchronous,
                busy_seconds=0 if sqlite else LOCK_SECONDS,
                pool_size=1,
            ),
            quick_engine=connect(settings.database, busy_seconds=0, pool_size=1) if quick else None,
            retention_days=settings.history_retention_days,
        )
        self.champion = Champion(settings, self.deployments)
        self.inference = Inference(
            self.champion, self.history, answer_unlogged=settings.answer_unlogged
        )
        self.explanations = Explanations(self.champion)
        self.outcomes = Outcomes(control)
        self._watching = connect(settings.database, pool_size=1)
        self.monitor = Monitor(settings, self._watching, self.champion)
        ready = self._prepare_database()
        self.champion.load_first()
        self.history.start()
        self._tasks = [asyncio.create_task(self.champion.follow(), name="follow")]
        if not ready:
            self._tasks.append(asyncio.create_task(self._await_database(), name="database"))
        watching = self._watch_registry(leader=leader)
        self._tasks.append(asyncio.create_task(watching, name="registry"))
        if leader:
            self._tasks.append(asyncio.create_task(self.monitor.run(), name="monitor"))

    async def close(self) -> None:
        """Stop the background work and commit what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.jobs.close()
        await asyncio.to_thread(self.history.close)
        self.champion.close()
        self._control.dispose()
        self._watching.dispose()

    def _prepare_database(self) -> bool:
        try:
            migrate(self.settings.database, state_dir=self.settings.state_dir)
            self.jobs.recover()
        except StudentSuccessError as error:
            logger.error("database_not_ready", extra={"reason": error.message})
            return False
        return True

    async def _await_database(self) -> None:
        """Prepare the database as soon as it is there."""
        while not await asyncio.to_thread(self._prepare_database):
            await asyncio.sleep(DATABASE_RETRY_SECONDS)

    # History

    async def history_page(
        self, query: HistoryQuery, *, session_id: str | None
    ) -> list[dict[str, Any]]:
        """Return predictions, newest first; of every session where `session_id` is None."""
        if query.limit >= LARGE_PAGE:
            give_back_soon()
        return await asyncio.to_thread(
            self.history.page,
            limit=query.limit,
            session_id=session_id,
            before_id=query.before_id,
        )

    async def erase(self, session_id: str) -> dict[str, Any]:
        """Erase a session for good."""
        erased = await asyncio.to_thread(self.history.erase_session, session_id)
        logger.info("session_erased", extra={"rows": erased})
        return {"session_id": session_id, "erased": erased}

    async def record_outcomes(self, items: Sequence[Outcome]) -> OutcomesAnswer:
        """Record the grades really obtained."""
        answer = await asyncio.to_thread(self.outcomes.record, items)
        logger.info(
            "outcomes_recorded",
            extra={"accepted": answer.accepted, "rejected": len(answer.rejected)},
        )
        return answer

    async def drift(self) -> DriftAnswer:
        """Tell how the pupils of today differ from those the served model was trained on."""
        return await self.monitor.drift()

    # The model's life

    async def train(self, request: TrainRequest) -> tuple[int, dict[str, Any]]:
        """Start a training; return the HTTP status and the answer, once done if asked to wait."""
        job_id, task = await self.jobs.start(
            request, champion=self.inference.serving().predictor.folder
        )
        if not request.wait:
            return 202, {"status": "accepted", "job_id": job_id}
        # Shielded: a client that hangs up does not end the training.
        return 200, await asyncio.shield(task)

    async def promote(self, request: PromoteRequest, *, actor: str) -> PromoteAnswer:
        """Promote a version through the gate."""
        settings = self.settings
        if request.alias not in (None, settings.model_alias):
            raise InvalidInputError(
                f"Only the alias '{settings.model_alias}' is served.",
                details=[{"loc": ["alias"], "msg": "Not the served alias", "type": "alias"}],
            )
        with self._counted("promoted"):
            async with self._exclusive(Operation.TRAINING, Operation.DEPLOYMENT):
                result = await self._registry_child(
                    "promote",
                    "--locked",
                    f"--actor={actor}",
                    f"--request={request.model_dump_json()}",
                    timeout=settings.registry_timeout_seconds + settings.train_timeout_seconds,
                )
        return PromoteAnswer.model_validate({**result, "workers_behind": await self._followed()})

    async def rollback(self, request: RollbackRequest, *, actor: str) -> RollbackAnswer:
        """Go back to the version served before; works with MLflow away."""
        with self._counted("rolled_back"):
            async with self._exclusive(Operation.DEPLOYMENT):
                result = await promotion.roll_back(
                    self.settings, self.deployments, reason=request.reason, actor=actor
                )
        await self._followed()
        return RollbackAnswer.model_validate(result)

    async def _followed(self) -> int | None:
        """Follow a deployment, and count the workers that do not in time; None if unknown."""
        try:
            await self.champion.catch_up()
            return await self.champion.await_all()
        except HistoryUnavailableError:
            # It is on record, whatever befell the database since.
            return None

    async def deployments_page(self) -> list[dict[str, Any]]:
        """Return the record of promotions and rollbacks, newest first."""
        rows = await asyncio.to_thread(self.deployments.page)
        return [row.public() for row in rows]

    async def versions(self) -> list[dict[str, Any]]:
        """List the registered versions, newest first."""
        # One at a time: each is a process, and a page may ask again before the last is done.
        async with self._listing:
            found = await self._registry_child("versions")
        served = self.champion.served
        version = None if served is None else served.predictor.version
        return [{**row, "served": str(row["version"]) == version} for row in found["versions"]]

    async def evidence(self, version: int) -> dict[str, Any]:
        """Say what the gate would say of a version now."""
        found = await self._registry_child(
            "judge", f"--version={version}", timeout=self.settings.train_timeout_seconds
        )
        return EvidenceAnswer.model_validate(found).model_dump(mode="json")

    def model(self) -> ModelAnswer:
        """Describe the served version."""
        served = self.champion.served
        settings = self.settings
        predictor = None if served is None else served.predictor
        return ModelAnswer(
            model_loaded=predictor is not None,
            model_version=None if predictor is None else predictor.version,
            model_source=None if served is None else served.source,
            model_name=settings.model_name,
            alias=settings.model_alias,
            expected_features=list(FEATURE_NAMES),
            features={feature.name: feature.public() for feature in FEATURES},
            metrics={} if predictor is None else predictor.artefact.metrics,
            dataset={} if predictor is None else predictor.artefact.dataset,
            model_card={} if predictor is None else predictor.artefact.card,
        )

    # Health

    async def health(self) -> HealthAnswer:
        """Say how the service is, whatever the state."""
        served = self.champion.served
        db_ok = await self._database_ok()
        behind: int | None = None
        with contextlib.suppress(HistoryUnavailableError):
            behind = await asyncio.to_thread(self.champion.behind)
        if served is None or not db_ok:
            status = "unavailable"
        elif self.champion.standing_in or behind or not self._registry_ok:
            status = "degraded"
        else:
            status = "ok"
        return HealthAnswer.model_validate(
            {
                "status": status,
                "db_ok": db_ok,
                "model_loaded": served is not None,
                "model_version": None if served is None else served.predictor.version,
                "model_source": None if served is None else served.source,
                "registry_ok": self._registry_ok,
                "workers_behind": behind,
                "uptime_seconds": round(time.monotonic() - self._started_at, 3),
                "synthetic_data": None
                if served is None
                else bool(served.predictor.artefact.dataset.get("synthetic")),
            }
        )

    async def check_ready(self) -> None:
        """Show that predictions can be answered now.

        Raises
        ------
        ModelUnavailableError, HistoryUnavailableError
            If they cannot.
        """
        self.inference.serving()
        if not self.settings.answer_unlogged:
            await self._check_history()

    async def _check_history(self) -> None:
        """Ask once for all who ask now: a slow database must not hold a thread for each."""
        if self._check is None:
            self._check = asyncio.create_task(asyncio.to_thread(self.history.check))
            self._check.add_done_callback(self._checked)
        await asyncio.shield(self._check)

    def _checked(self, check: asyncio.Task[None]) -> None:
        self._check = None
        if not check.cancelled():
            check.exception()  # Those who asked have it; they may have gone away.

    async def _database_ok(self) -> bool:
        try:
            await self._check_history()
        except HistoryUnavailableError:
            return False
        return True

    # Background

    async def _watch_registry(self, *, leader: bool) -> None:
        """Notice whether MLflow is there, and an alias that does not say what is served."""
        settings = self.settings
        while True:
            self._registry_ok, there = await asyncio.to_thread(mlflow_http.peek, settings)
            try:
                if (
                    leader
                    and self._registry_ok
                    and there != await asyncio.to_thread(wanted_alias, self.deployments)
                ):
                    await self._registry_child("align-alias")
                    await self.champion.catch_up()
            except StudentSuccessError as error:
                logger.warning("alias_not_aligned", extra={"reason": error.message})
            await asyncio.sleep(settings.test_alias_check_seconds)

    async def _registry_child(
        self, *arguments: str, timeout: float | None = None
    ) -> dict[str, Any]:
        """Do the registry's work in a child; one that fails is a registry that is away."""
        try:
            return await subprocesses.run(
                "-m",
                "student_success",
                *arguments,
                timeout=timeout or self.settings.registry_timeout_seconds,
                memory_mb=PROMOTION_MEMORY_MB,
            )
        except ChildFailure as error:
            raise RegistryUnavailableError(f"The registry's answer {error}.") from error

    @contextlib.asynccontextmanager
    async def _exclusive(self, *operations: Operation) -> AsyncIterator[None]:
        lock = exclusive(*operations, engine=self._control, state_dir=self.settings.state_dir)
        # In a thread: with PostgreSQL it may take its time.
        await asyncio.to_thread(lock.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(lock.__exit__, None, None, None)

    @contextlib.contextmanager
    def _counted(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except StudentSuccessError as error:
            metrics.promotions_total.labels(error.code).inc()
            raise
        metrics.promotions_total.labels(outcome).inc()
