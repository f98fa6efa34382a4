"""SQLite's write-ahead log: moved, kept short, and nobody made to wait for the disk."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from student_success.core.errors import DatabaseUnavailableError
from student_success.storage.engine import connect, reading, writing
from student_success.storage.inference_log import checkpoint as wal
from student_success.storage.inference_log.checkpoint import checkpoint, limit_log_size
from student_success.storage.tables import outcomes
from tests.databases import is_sqlite


@pytest.fixture(autouse=True)
def of_sqlite(database_url: str) -> None:
    if not is_sqlite(database_url):
        pytest.skip("only SQLite has this log")


def outcome(number: int | str) -> dict[str, Any]:
    return {"prediction_id": f"{number}", "session_id": "s", "actual_grade": 1, "created_us": 0}


def write(engine: Engine, number: int | str) -> None:
    with writing(engine) as connection:
        connection.execute(insert(outcomes).values(outcome(number)))


def test_checkpoint_empties_the_log_and_says_if_it_could_not(path: Path, database_url: str) -> None:
    engine = connect(database_url, busy_seconds=0.05)
    log = Path(f"{path}-wal")
    write(engine, "a")
    assert log.stat().st_size > 0
    with reading(engine) as seen:
        seen.execute(select(outcomes)).all()
        write(engine, "b")
        assert checkpoint(engine, "TRUNCATE") > 0
        assert log.stat().st_size > 0
    assert checkpoint(engine, "TRUNCATE") == 0
    assert log.stat().st_size == 0
    engine.dispose()


def test_checkpoint_of_a_broken_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
    engine = connect(f"sqlite:///{tmp_path}/bad.db")
    with pytest.raises(DatabaseUnavailableError):
        checkpoint(engine)
    with pytest.raises(DatabaseUnavailableError):
        limit_log_size(engine)
    engine.dispose()


def anew(lengths: Sequence[int]) -> int:
    """Count how often the log began anew."""
    return sum(after < before for before, after in itertools.pairwise(lengths))


def test_log_stays_short_under_steady_writing(
    path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "MAX_LOG_BYTES", 1 << 18)
    engine = connect(database_url)
    enough = threading.Event()

    def write_on() -> None:
        number = 0
        while not enough.is_set():
            write(engine, number)
            number += 1
            time.sleep(0.0005)

    writer = threading.Thread(target=write_on)
    writer.start()
    lengths, end = [0], time.monotonic() + 60
    try:
        # The file keeps its length; how far into it the last commit went is what counts.
        while anew(lengths) < 5 and time.monotonic() < end:
            limit_log_size(engine)
            lengths.append(checkpoint(engine))
    finally:
        enough.set()
        writer.join()
        engine.dispose()
    assert anew(lengths) == 5
    assert max(lengths) < 16 << 18


def test_nobody_waits_while_the_disk_takes_the_database(
    path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "MAX_LOG_BYTES", 0)
    engine, impatient = connect(database_url), connect(database_url, busy_seconds=0)
    real, synced = os.fdatasync, []

    def slow(descriptor: int) -> None:
        write(impatient, "meanwhile")
        synced.append(os.path.samestat(os.fstat(descriptor), path.stat()))
        real(descriptor)

    write(engine, "a")
    monkeypatch.setattr(os, "fdatasync", slow)
    limit_log_size(engine)
    assert synced == [True]
    engine.dispose()
    impatient.dispose()


def test_locks_outlast_it(path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing any descriptor of the file would let others take the log away from under us."""
    monkeypatch.setattr(wal, "MAX_LOG_BYTES", 0)
    engine = connect(database_url)
    with engine.connect():
        write(engine, "a")
        limit_log_size(engine)
        limit_log_size(engine)
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0)"
        said = subprocess.run(
            [sys.executable, "-c", f"{other}.execute('PRAGMA journal_mode=DELETE')", path],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "database is locked" in said.stderr
    engine.dispose()
