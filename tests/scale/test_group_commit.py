"""Requests of one moment share a commit on PostgreSQL too, by its own count."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from student_success.storage.inference_log.prediction_rows import PredictionRow
from student_success.storage.migrate import migrate
from tests.scale.postgresql import PostgreSQL
from tests.unit.storage.inference_log.test_history import row

CLIENTS = 64
TURNS = 40


@pytest.fixture
def name(postgresql: PostgreSQL, tmp_path: Path) -> str:
    database = postgresql.new_database()
    migrate(postgresql.url(database), state_dir=tmp_path)
    return database


def commits(postgresql: PostgreSQL, name: str) -> int:
    """Return the commits so far; each connection tells of its own within a second."""
    time.sleep(2)
    query = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}'"
    [(number,)] = postgresql.query(query)
    return int(number)


def test_simultaneous_requests_share_a_commit(postgresql: PostgreSQL, name: str) -> None:
    history = History(connect(postgresql.url(name)))
    history.start()

    async def client(number: int) -> None:
        for turn in range(TURNS):
            rows: list[PredictionRow] = [row(number * TURNS + turn)]
            await history.append(rows)

    async def all_clients() -> None:
        await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    before = commits(postgresql, name)
    asyncio.run(all_clients())
    with contextlib.closing(history):
        pass
    database = commits(postgresql, name) - before
    [(saved,)] = postgresql.query("SELECT count(*) FROM inference_logs", database=name)
    assert saved == CLIENTS * TURNS
    # Some of them are the keeper's and this test's own.
    assert database < saved / 10
