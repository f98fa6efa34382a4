"""Databases for the unit tests, and the state of their process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.storage.engine import connect
from student_success.storage.migrate import migrate
from tests import databases


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a migrated database to copy: a migration takes longer than most tests."""
    folder = tmp_path_factory.mktemp("database")
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder}/empty.db"
        if databases.SERVER is not None:
            url = stack.enter_context(databases.database())
        migrate(url, state_dir=folder)
        if databases.is_sqlite(url):
            engine = connect(url)
            raw = engine.raw_connection()
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            raw.close()
            engine.dispose()
        yield url


@pytest.fixture
def database_url(tmp_path: Path, _empty_database: str) -> Iterator[str]:
    """Return the URL of a database with all tables and no rows."""
    if databases.SERVER is not None:
        with databases.database(_empty_database) as url:
            yield url
        return
    path = tmp_path / "student_success.db"
    path.write_bytes(databases.file_of(_empty_database).read_bytes())
    yield f"sqlite:///{path}"


@pytest.fixture
def path(database_url: str) -> Path:
    """Return the database's file; skip the test on a database server."""
    if not databases.is_sqlite(database_url):
        pytest.skip("only SQLite keeps the database in a file")
    return databases.file_of(database_url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an engine of that database."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def own_process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what a command changes of its process: other tests start programs from there."""
    for name in ("STUDENT_SUCCESS_FOLDER", "BENTOML_HOME", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("BENTOML_HOME")
    monkeypatch.chdir(Path.cwd())
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
