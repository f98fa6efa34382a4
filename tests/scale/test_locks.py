"""Locks kept by PostgreSQL: between machines, and through its restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.core.errors import BusyError, DatabaseUnavailableError
from student_success.storage import locks
from student_success.storage.engine import connect, reading
from student_success.storage.locks import Operation, exclusive
from tests.scale.postgresql import PostgreSQL


@pytest.fixture
def engines(postgresql: PostgreSQL) -> Iterator[tuple[Engine, Engine]]:
    """Return engines of two processes, so to speak."""
    url = postgresql.url(postgresql.new_database())
    two_engines = connect(url), connect(url)
    yield two_engines
    for engine in two_engines:
        engine.dispose()


def is_free(engine: Engine, state_dir: Path) -> bool:
    try:
        with exclusive(Operation.TRAINING, engine=engine, state_dir=state_dir):
            return True
    except BusyError:
        return False


def test_lock_is_taken_again_after_database_restart(
    postgresql: PostgreSQL,
    engines: tuple[Engine, Engine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "WATCH_SECONDS", 0.05)
    mine, others = engines
    with exclusive(Operation.TRAINING, engine=mine, state_dir=tmp_path):
        assert not is_free(others, tmp_path)
        postgresql.restart("immediate")
        time.sleep(2)
        assert not is_free(others, tmp_path)
    assert is_free(others, tmp_path)


def test_lock_is_released_while_database_is_away(
    postgresql: PostgreSQL, engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    mine, others = engines
    try:
        with exclusive(Operation.TRAINING, engine=mine, state_dir=tmp_path):
            postgresql.stop()
        with (
            pytest.raises(DatabaseUnavailableError),
            exclusive(Operation.TRAINING, engine=mine, state_dir=tmp_path),
        ):
            pass
    finally:
        postgresql.start()
    assert is_free(others, tmp_path)
    assert is_free(mine, tmp_path)


def test_connection_that_held_a_lock_is_not_reused(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    mine, others = engines
    for _ in range(20):
        assert is_free(mine, tmp_path)
        with reading(mine):
            assert is_free(others, tmp_path)
