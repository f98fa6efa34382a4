"""The table of training jobs."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine, func, insert, select, update

from student_success.core.clock import iso, now_us
from student_success.core.errors import NotFoundError
from student_success.storage.engine import reading, writing
from student_success.storage.tables import jobs


class JobTable:
    """Add, update and read jobs.

    Every method raises `DatabaseUnavailableError` if the database does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def has_running(self) -> bool:
        """Tell whether a job is recorded as running."""
        with reading(self.engine) as connection:
            return (
                connection.execute(select(jobs.c.id).where(jobs.c.state == "running")).first()
                is not None
            )

    def fail_running(self, error: str, code: str) -> None:
        """Mark every running job as failed; the caller holds the lock of trainings."""
        with writing(self.engine) as connection:
            running = update(jobs).where(jobs.c.state == "running")
            connection.execute(running.values(**failure(error, code)))

    def add(self, job_id: str) -> None:
        """Add a running training job."""
        with writing(self.engine) as connection:
            # The newest job stays the newest, even if the clock was set back.
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

    def update(self, job_id: str, **values: Any) -> None:
        """Set columns of a job."""
        with writing(self.engine) as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

    def get(self, job_id: str | None) -> dict[str, Any]:
        """Return the fields of `JobAnswer`; of the newest job for None.

        Raises
        ------
        NotFoundError
            If there is no such job.
        """
        query = select(jobs).order_by(jobs.c.created_us.desc()).limit(1)
        if job_id is not None:
            query = query.where(jobs.c.id == job_id)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError("There is no such training job.")
        ended = json.loads(row.result_json or "null")
        has_failed = row.state == "failed"
        return {
            "job_id": row.id,
            "state": row.state,
            "created_at": iso(row.created_us),
            "finished_at": None if row.finished_us is None else iso(row.finished_us),
            "progress": json.loads(row.progress_json),
            "result": None if has_failed else ended,
            "error": row.error,
            "error_code": (ended or {}).get("error_code") if has_failed else None,
        }


def failure(error: str, code: str) -> dict[str, Any]:
    """Return the columns of a job that failed now; the code of the error replaces a result."""
    result = json.dumps({"error_code": code})
    return {"state": "failed", "error": error, "result_json": result, "finished_us": now_us()}
