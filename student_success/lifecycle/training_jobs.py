"""Training jobs: one at a time, each in a child process, with its progress in the database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any

from student_success.core import metrics, subprocesses
from student_success.core.clock import now_us
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    BusyError,
    DatabaseUnavailableError,
    InvalidInputError,
    StudentSuccessError,
    TrainingFailedError,
)
from student_success.core.subprocesses import ChildFailure
from student_success.domain.schemas.lifecycle import TrainRequest
from student_success.storage.jobs import JobTable, failure
from student_success.storage.locks import Operation, exclusive

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
END_RETRY_SECONDS = 60.0
"""How long the end of a training is retried while the database is unavailable."""
INTERRUPTED = ("The server stopped during the training.", "interrupted")
"""Sentence and code of a training whose server stopped."""


class TrainingJobs:
    """Start trainings and record their progress."""

    def __init__(self, settings: Settings, table: JobTable) -> None:
        self._settings = settings
        self._table = table
        self._running: set[asyncio.Task[dict[str, Any]]] = set()

    def recover(self) -> None:
        """Mark the trainings of a stopped server as failed."""
        if not self._table.has_running():
            # A worker that starts while another one begins a training must not hold its lock.
            return
        with contextlib.suppress(BusyError), self._lock():
            self._table.fail_running(*INTERRUPTED)

    async def start(
        self, request: TrainRequest, *, champion: Path | None
    ) -> tuple[str, asyncio.Task[dict[str, Any]]]:
        """Start a training.

        Parameters
        ----------
        champion
            Serving folder of the version to compare the candidate with; the training itself looks
            for one if None.

        Returns
        -------
        tuple
            The job's id, and a task that ends with the fields of `TrainAnswer` or raises.

        Raises
        ------
        BusyError
            If a training or a promotion is under way.
        InvalidInputError
            If the budget is longer than the time limit of a training.
        """
        limit = self._settings.train_timeout_seconds
        if request.budget_seconds is not None and request.budget_seconds > limit:
            raise InvalidInputError(
                f"No training was started: the budget must be at most {limit:g} seconds, the time "
                "limit of a training (TRAIN_TIMEOUT_SECONDS)."
            )
        job_id = uuid.uuid4().hex
        lock = await asyncio.to_thread(self._begin, job_id)
        task = asyncio.create_task(self._run(job_id, request, champion, lock))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return job_id, task

    def _begin(self, job_id: str) -> contextlib.ExitStack:
        """Take the lock and add the job; the caller releases the lock."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock())
            # This process holds the lock, so no other job can still be running.
            self._table.fail_running(*INTERRUPTED)
            self._table.add(job_id)
            return stack.pop_all()

    def get(self, job_id: str | None) -> dict[str, Any]:
        """Return the fields of `JobAnswer`, see `JobTable.get`."""
        return self._table.get(job_id)

    async def close(self) -> None:
        """Stop the training under way, if there is one, and say so on its record."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(
        self, job_id: str, request: TrainRequest, champion: Path | None, lock: contextlib.ExitStack
    ) -> dict[str, Any]:
        settings = self._settings
        started = time.monotonic()
        recorded_at = 0.0
        updates: list[asyncio.Future[None]] = []

        def record_progress(message: dict[str, Any]) -> None:
            nonlocal recorded_at
            if time.monotonic() - recorded_at >= PROGRESS_SECONDS:
                recorded_at = time.monotonic()
                values: dict[str, Any] = {"progress_json": json.dumps(message)}
                updates.append(asyncio.ensure_future(self._update(job_id, **values)))

        options = {
            "champion": champion,
            "family": request.family,
            "mapping": settings.data_mapping,
            "budget-seconds": request.budget_seconds,
        }
        try:
            result = await subprocesses.run(
                *("-m", "training", "run"),
                *(f"--{name}={value}" for name, value in options.items() if value is not None),
                timeout=settings.train_timeout_seconds,
                memory_mb=settings.train_memory_mb,
                on_progress=record_progress,
            )
            answer = {"status": "ok", "job_id": job_id, **result}
            await asyncio.gather(*updates)
            await self._update(
                job_id,
                retry_seconds=END_RETRY_SECONDS,
                state="done",
                result_json=json.dumps(answer),
                finished_us=now_us(),
            )
        except BaseException as error:
            await asyncio.shield(self._failed(job_id, error))
            if isinstance(error, ChildFailure):
                raise TrainingFailedError(f"The training {error}.") from error
            raise
        finally:
            # On a thread: releasing a lock of a database server may take a while.
            await asyncio.shield(asyncio.to_thread(lock.close))
        metrics.training_runs_total.labels("ok").inc()
        metrics.training_duration_seconds.observe(time.monotonic() - started)
        metrics.training_last_success_timestamp_seconds.set_to_current_time()
        metrics.training_last_mae.set(answer["test_mae"])
        metrics.training_last_r2.set(answer["test_r2"])
        logger.info("training_done", extra={"job_id": job_id, "model_version": answer["version"]})
        return answer

    async def _failed(self, job_id: str, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            reason, code = INTERRUPTED
        elif isinstance(error, StudentSuccessError):
            reason, code = error.message, error.code
        elif isinstance(error, ChildFailure):
            reason, code = f"The training {error}.", TrainingFailedError.code
        else:
            # With `wait` false nothing else reports it.
            logger.error("training_crashed", extra={"job_id": job_id}, exc_info=error)
            reason, code = "The training failed; the log says why.", TrainingFailedError.code
        metrics.training_runs_total.labels("failed").inc()
        logger.error("training_failed", extra={"job_id": job_id, "reason": reason})
        is_stopping = isinstance(error, asyncio.CancelledError)
        retry_seconds = 0.0 if is_stopping else END_RETRY_SECONDS
        await self._update(job_id, retry_seconds=retry_seconds, **failure(reason, code))

    async def _update(self, job_id: str, *, retry_seconds: float = 0.0, **values: Any) -> None:
        """Update the job; an unavailable database does not end a training.

        Parameters
        ----------
        retry_seconds
            How long to retry while the database is unavailable.
        """
        deadline = time.monotonic() + retry_seconds
        while True:
            try:
                return await asyncio.to_thread(self._table.update, job_id, **values)
            except DatabaseUnavailableError:
                if time.monotonic() >= deadline:
                    return None
            await asyncio.sleep(PROGRESS_SECONDS)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(
            Operation.TRAINING, engine=self._table.engine, state_dir=self._settings.state_dir
        )

    def _ended(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Read it, or asyncio would log the recorded exception a second time.
            task.exception()
