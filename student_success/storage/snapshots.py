"""Reports that one worker computes and all workers read."""

from __future__ import annotations

from sqlalchemy import Engine, select

from student_success.core.clock import now_us
from student_success.storage.engine import reading, upsert, writing
from student_success.storage.tables import snapshots


def read_snapshot(engine: Engine, name: str) -> str | None:
    """Return the JSON of a report, None if there is none yet."""
    query = select(snapshots.c.content_json).where(snapshots.c.name == name)
    with reading(engine) as connection:
        content: str | None = connection.execute(query).scalar()
    return content


def write_snapshot(engine: Engine, name: str, content: str) -> None:
    """Replace a report; several replicas may write it at the same time."""
    with writing(engine) as connection:
        connection.execute(
            upsert(connection, snapshots, {"name": name}, created_us=now_us(), content_json=content)
        )
