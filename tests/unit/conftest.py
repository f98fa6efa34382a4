"""Databases for the tests of the rooms that have one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.storage.engine import connect
from student_success.storage.migrate import migrate
from tests import databases


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a migrated database: a migration costs more than most tests."""
    folder = tmp_path_factory.mktemp("database")
    with contextlib.ExitStack() as held:
        url = f"sqlite:///{folder}/empty.db"
        if databases.SERVER is not None:
            url = held.enter_context(databases.database())
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
    """Return the URL of a database with all tables and nothing in them."""
    if databases.SERVER is not None:
        with databases.database(_empty_database) as url:
            yield url
        return
    path = tmp_path / "student_success.db"
    path.write_bytes(databases.file_of(_empty_database).read_bytes())
    yield f"sqlite:///{path}"


@pytest.fixture
def path(database_url: str) -> Path:
    """Return the database's file, for what is about SQLite alone."""
    if not databases.is_sqlite(database_url):
        pytest.skip("about the file of SQLite")
    return databases.file_of(database_url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an engine on that database."""
    made = connect(database_url)
    yield made
    made.dispose()
