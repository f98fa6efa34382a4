"""Training jobs: one at a time, each in a process of its own, with its progress on record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Update, func, insert, select, update

from student_success.core import metrics, subprocesses
from student_success.core.clock import iso, now_us
from student_success.core.errors import (
    BusyError,
    DatabaseUnavailableError,
    NotFoundError,
    StudentSuccessError,
    TrainingFailedError,
)
from student_success.core.settings import Settings
from student_success.core.subprocesses import ChildFailure
from student_success.domain.schemas.lifecycle import TrainRequest
from student_success.storage.engine import reading, writing
from student_success.storage.locks import Operation, exclusive
from student_success.storage.tables import jobs

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
END_PATIENCE_SECONDS = 60.0
"""How long the end of a training waits for a database that is away."""
INTERRUPTED = "The server stopped during the training."


class Jobs:
    """Start trainings and tell how they go."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._running: set[asyncio.Task[dict[str, Any]]] = set()

    def recover(self) -> None:
        """Mark trainings as failed that a stopped server left behind."""
        with contextlib.suppress(BusyError), self._lock(), writing(self._engine) as connection:
            connection.execute(_interrupted(jobs.c.state == "running"))

    async def start(
        self, request: TrainRequest, *, champion: Path
    ) -> tuple[str, asyncio.Task[dict[str, Any]]]:
        """Start a training.

        Parameters
        ----------
        champion
            Serving folder of the version to compare the candidate with.

        Returns
        -------
        tuple
            The job's id, and a task that ends with the fields of `TrainAnswer` or raises.

        Raises
        ------
        BusyError
            If a training or a promotion is under way.
        """
        job_id = uuid.uuid4().hex
        held = await asyncio.to_thread(self._begin, job_id)
        task = asyncio.create_task(self._run(job_id, request, champion, held))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return job_id, task

    def _begin(self, job_id: str) -> contextlib.ExitStack:
        """Take the lock and put the job on record; the lock is the caller's to let go."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._lock())
            with writing(self._engine) as connection:
                # The lock is ours, so whatever still says "running" is not.
                connection.execute(_interrupted(jobs.c.state == "running"))
                # The newest job stays the newest, whatever the clock says.
                newest = connection.execute(select(func.max(jobs.c.created_us))).scalar() or 0
                connection.execute(
                    insert(jobs).values(
                        id=job_id,
                        kind="training",
                        state="running",
                        created_us=max(now_us(), newest + 1),
                        progress_json="{}",
                    )
                )
            return undo.pop_all()

    def get(self, job_id: str | None) -> dict[str, Any]:
        """Return the fields of `JobAnswer`; of the newest job for None.

        Raises
        ------
        NotFoundError
            If there is no such job.
        """
        with reading(self._engine) as connection:
            query = select(jobs).order_by(jobs.c.created_us.desc()).limit(1)
            if job_id is not None:
                query = query.where(jobs.c.id == job_id)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError("There is no such training job.")
        return {
            "job_id": row.id,
            "state": row.state,
            "created_at": iso(row.created_us),
            "finished_at": None if row.finished_us is None else iso(row.finished_us),
            "progress": json.loads(row.progress_json),
            "result": None if row.result_json is None else json.loads(row.result_json),
            "error": row.error,
        }

    async def close(self) -> None:
        """Stop the training under way, if there is one, and say so on its record."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(
        self, job_id: str, request: TrainRequest, champion: Path, held: contextlib.ExitStack
    ) -> dict[str, Any]:
        settings = self._settings
        started = time.monotonic()
        last_said = 0.0
        noting: list[asyncio.Future[None]] = []

        def note(message: dict[str, Any]) -> None:
            nonlocal last_said
            if time.monotonic() - last_said >= PROGRESS_SECONDS:
                last_said = time.monotonic()
                message.pop("event", None)
                values: dict[str, Any] = {"progress_json": json.dumps(message)}
                noting.append(asyncio.ensure_future(self._record(job_id, **values)))

        arguments = ["-m", "training", "run", f"--champion={champion}"]
        if request.family is not None:
            arguments.append(f"--family={request.family}")
        if request.budget_seconds is not None:
            arguments.append(f"--budget-seconds={request.budget_seconds}")
        try:
            result = await subprocesses.run(
                *arguments,
                timeout=settings.train_timeout_seconds,
                memory_mb=settings.train_memory_mb,
                on_progress=note,
            )
            result.pop("event")
            answer = {"status": "ok", "job_id": job_id, **result}
            await asyncio.gather(*noting)
            await self._record(
                job_id,
                patience=END_PATIENCE_SECONDS,
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
            # In a thread: a server that keeps the lock may take its time.
            await asyncio.shield(asyncio.to_thread(held.close))
        metrics.training_runs_total.labels("ok").inc()
        metrics.training_duration_seconds.observe(time.monotonic() - started)
        metrics.training_last_success_timestamp_seconds.set_to_current_time()
        metrics.training_last_mae.set(answer["test_mae"])
        metrics.training_last_r2.set(answer["test_r2"])
        logger.info("training_done", extra={"job_id": job_id, "model_version": answer["version"]})
        return answer

    async def _failed(self, job_id: str, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            words = INTERRUPTED
        elif isinstance(error, StudentSuccessError):
            words = error.message
        else:
            words = f"The training {error}."
        metrics.training_runs_total.labels("failed").inc()
        logger.error("training_failed", extra={"job_id": job_id, "reason": words})
        patience = 0.0 if words is INTERRUPTED else END_PATIENCE_SECONDS
        await self._record(
            job_id, patience=patience, state="failed", error=words, finished_us=now_us()
        )

    async def _record(self, job_id: str, *, patience: float = 0.0, **values: Any) -> None:
        """Put it on record; a database that is away for the moment does not end a training.

        Parameters
        ----------
        patience
            Seconds to go on trying while it is away.
        """
        give_up = time.monotonic() + patience

        def record() -> None:
            with writing(self._engine) as connection:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

        while True:
            try:
                return await asyncio.to_thread(record)
            except DatabaseUnavailableError:
                if time.monotonic() >= give_up:
                    return None
            await asyncio.sleep(PROGRESS_SECONDS)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(
            Operation.TRAINING, engine=self._engine, state_dir=self._settings.state_dir
        )

    def _ended(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # Recorded already; an unread one would be logged a second time.


def _interrupted(condition: ColumnElement[bool]) -> Update:
    return (
        update(jobs)
        .where(condition)
        .values(state="failed", error=INTERRUPTED, finished_us=now_us())
    )
