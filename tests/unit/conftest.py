"""Databases for the tests of the rooms that have one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.database import connect, migrate


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a migrated database's bytes: a migration costs more than most tests."""
    folder = tmp_path_factory.mktemp("database")
    migrate(f"sqlite:///{folder}/empty.db", state_dir=folder)
    engine = connect(f"sqlite:///{folder}/empty.db")
    raw = engine.raw_connection()
    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    raw.close()
    engine.dispose()
    return (folder / "empty.db").read_bytes()


@pytest.fixture
def database_url(tmp_path: Path, _empty_database: bytes) -> str:
    """Return the URL of a database with all tables and nothing in them."""
    (tmp_path / "student_success.db").write_bytes(_empty_database)
    return f"sqlite:///{tmp_path}/student_success.db"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an engine on that database."""
    made = connect(database_url)
    yield made
    made.dispose()
