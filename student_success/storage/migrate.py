"""Bring the schema of the database up to date when the service starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, inspect, select, text

from student_success.core.errors import ConfigurationError
from student_success.core.state_files import lock, private_folder
from student_success.storage.engine import connect, unavailable_on_failure
from student_success.storage.sqlite_file import allow_creation
from student_success.storage.start_check import NEWER_SCHEMA, SCHEMA_REVISION

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK_KEY = 7301
"""Key of PostgreSQL's advisory lock during a migration."""


def schema_revision(engine: Engine) -> str | None:
    """Return the migration the database is at, or None for an empty one."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        connection = connection.execution_options(read_only=True)
        revision: str | None = connection.execute(
            select(text("version_num")).select_from(text("alembic_version"))
        ).scalar()
        return revision


def migrate(url: str, *, state_dir: Path) -> None:
    """Bring the schema up to date, one process at a time; create the database if it is missing.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be opened or changed.
    ConfigurationError
        If a newer version of this program made its schema.
    """
    allow_creation(url)
    engine = connect(url, synchronous="FULL")
    try:
        with unavailable_on_failure():
            if schema_revision(engine) == SCHEMA_REVISION:
                return
            with _migration_lock(engine, state_dir):
                _upgrade(engine)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _migration_lock(engine: Engine, state_dir: Path) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATION_LOCK_KEY})")
            try:
                yield
            finally:
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({MIGRATION_LOCK_KEY})")
        return
    private_folder(state_dir)
    with (state_dir / "migration.lock").open("w") as file:
        lock(file, wait=True)
        yield


def _upgrade(engine: Engine) -> None:
    # Imported here: only the first start after an upgrade needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(NEWER_SCHEMA) from error
    logger.info("schema_upgraded", extra={"revision": SCHEMA_REVISION})
