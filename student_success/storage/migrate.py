"""Bring the schema of the database up to date when the service starts."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, inspect, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

from student_success.core.errors import ConfigurationError
from student_success.core.state_files import lock, private_folder
from student_success.storage.engine import connect, unavailable_on_failure
from student_success.storage.sqlite_file import allow_creation, check_local_disk

logger = logging.getLogger(__name__)

SCHEMA_REVISION = "0007"
"""The newest migration; a test holds it equal to what alembic finds."""

NEWER_SCHEMA = (
    "The database was made by a newer version of this program, and was not changed. Install that "
    "version, or restore a backup of before the upgrade."
)
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


def check_database(url: str) -> None:
    """Check before the start that this program can work with the database.

    A database that is only unavailable, such as a server that is down, passes.

    Raises
    ------
    ConfigurationError
        If the URL is not valid, no driver for it is installed, the file is not a database or on a
        network file system, or a newer version of this program made the schema.
    """
    try:
        name = make_url(url).get_backend_name()
        if name not in ("sqlite", "postgresql"):
            raise ConfigurationError(_not_started(f"{name} is neither sqlite nor postgresql"))
        engine = connect(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # The message of the library may contain the URL, and so a password.
        reason = "it is not a valid URL, or its driver is not installed"
        raise ConfigurationError(_not_started(reason)) from error
    except OSError as error:
        reason = f"its folder cannot be created ({error.strerror})"
        raise ConfigurationError(_not_started(reason)) from error
    try:
        path = Path(engine.url.database or "")
        if engine.dialect.name == "sqlite":
            if path.is_dir():
                raise ConfigurationError(_not_started(f"{path} is a folder, not a file"))
            check_local_disk(url)
            if not path.exists():
                return
        if (schema_revision(engine) or "") > SCHEMA_REVISION:
            raise ConfigurationError(NEWER_SCHEMA)
    except SQLAlchemyError as error:
        if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            reason = f"{path} is not an SQLite database"
            raise ConfigurationError(_not_started(reason)) from error
        logger.warning("database_not_checked", extra={"reason": str(error).partition("\n")[0]})
    finally:
        engine.dispose()


def _not_started(reason: str) -> str:
    return f"The service was not started: DATABASE_URL cannot be used, because {reason}."


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
