"""Put the services together: open the database, load the model, start the background tasks.

Nothing here knows HTTP. `service.py` opens one application per worker process.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from functools import partial

from opentelemetry.trace import Tracer

from student_success.core.configuration.settings import Settings
from student_success.core.errors import StudentSuccessError
from student_success.lifecycle.champion import Champion
from student_success.lifecycle.training_jobs import TrainingJobs
from student_success.monitoring.monitor import Monitor
from student_success.monitoring.service_state import ServiceState
from student_success.services.explanation import ExplanationService
from student_success.services.health import Health
from student_success.services.history import HistoryService
from student_success.services.model_lifecycle import ModelLifecycle
from student_success.services.prediction import PredictionService
from student_success.services.registry_watch import RegistryWatch
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from student_success.storage.jobs import JobTable
from student_success.storage.migrate import migrate
from student_success.storage.outcomes import Outcomes
from student_success.storage.sqlite_file import database_file

logger = logging.getLogger(__name__)

DATABASE_RETRY_SECONDS = 1.0


class Application:
    """The services of one worker process.

    Parameters
    ----------
    settings
        Settings of the server.
    worker
        Number of this worker, from 1. The first one keeps MLflow's alias in line and monitors the
        served model and the server; one worker of a server is enough.
    tracer
        Records the steps of predictions; None if traces are not sent.
    """

    def __init__(self, settings: Settings, *, worker: int, tracer: Tracer | None = None) -> None:
        self._settings = settings
        self._worker = worker
        self._tasks: list[asyncio.Task[None]] = []
        self._database_problem = ""
        self._control = connect(settings.database, synchronous="FULL")
        self._monitoring = connect(settings.database, pool_size=1)
        deployments = Deployments(self._control)
        self._history = History.open(settings)
        self._jobs = TrainingJobs(settings, JobTable(self._control))
        self._champion = champion = Champion(settings, deployments)
        self._registry = RegistryWatch(
            settings=settings, deployments=deployments, champion=champion
        )
        self.prediction = PredictionService(
            champion=champion,
            history=self._history,
            answer_unlogged=settings.answer_unlogged,
            # The message of an exception may contain values of a pupil.
            span=partial(
                tracer.start_as_current_span, record_exception=False, set_status_on_exception=False
            )
            if tracer
            else nullcontext,
        )
        self.explanation = ExplanationService(champion)
        self.history = HistoryService(
            history=self._history,
            outcomes=Outcomes(self._control, year_starts=settings.school_year_starts),
        )
        self.monitor = Monitor(settings, self._monitoring, champion)
        self._service_state = ServiceState(settings, deployments, champion)
        self.lifecycle = ModelLifecycle(
            settings=settings, deployments=deployments, jobs=self._jobs, champion=champion
        )
        self.health = Health(
            settings=settings, champion=champion, history=self._history, registry=self._registry
        )

    def open(self) -> None:
        """Bring the schema up to date, load the served version and start the background tasks.

        Call from the event loop. The service starts even if the database or the model is
        unavailable: `/health` reports it, and predictions are answered with 503 until it is back.
        """
        database_ready = self._prepare_database()
        self._champion.load_first()
        self._history.start()
        leader = self._worker == 1
        background = {
            "follow": self._champion.follow(),
            "registry": self._registry.run(leader=leader),
            "database": self._keep_database_ready(database_ready),
            "service_state": self._service_state.run(self._worker),
        }
        if leader:
            background["monitor"] = self.monitor.run()
        self._tasks = [asyncio.create_task(task, name=name) for name, task in background.items()]

    async def close(self) -> None:
        """Stop the background tasks and commit the queued rows."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._jobs.close()
        await asyncio.to_thread(self._history.close)
        self._champion.close()
        self._control.dispose()
        self._monitoring.dispose()

    def _prepare_database(self) -> bool:
        try:
            migrate(self._settings.database, state_dir=self._settings.state_dir)
            self._jobs.recover()
        except (StudentSuccessError, OSError) as error:
            if str(error) != self._database_problem:
                logger.error("database_not_ready", extra={"reason": str(error)})
            self._database_problem = str(error)
            return False
        self._database_problem = ""
        return True

    async def _keep_database_ready(self, ready: bool) -> None:
        """Bring the schema up to date until that succeeds, and again for a file in its place."""
        prepared = database_file(self._settings.database)
        while True:
            await asyncio.sleep(DATABASE_RETRY_SECONDS)
            try:
                current = database_file(self._settings.database)
                # A file that was removed while it was open is not created again: `sqlite_file`.
                if not ready or (current is not None and current != prepared):
                    ready = await asyncio.to_thread(self._prepare_database)
                    prepared = database_file(self._settings.database)
            except Exception:
                # If this task ended, a restored database would never be brought up to date.
                logger.exception("database_not_checked")
