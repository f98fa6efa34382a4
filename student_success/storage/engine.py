"""Connections to the database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import SQLAlchemyError

from student_success.core.errors import DatabaseUnavailableError
from student_success.core.state_files import private_folder
from student_success.storage.sqlite_file import watch

logger = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
_LOCK_NOT_AVAILABLE = "55P03"
SQLITE_PAGE_BYTES = 4096

# By default each statement of a transaction would see what is committed by then.
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def connect(
    url: str,
    *,
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
    busy_seconds: float = BUSY_SECONDS,
    pool_size: int = 4,
) -> Engine:
    """Make an engine; nothing is opened until it is used.

    Parameters
    ----------
    url
        SQLAlchemy URL. A SQLite file's folder is made if it is missing.
    synchronous
        SQLite durability: ``NORMAL`` survives a crash of the process, ``FULL`` of the machine.
    busy_seconds
        How long to wait for a lock: SQLite's of all writing, or a server's of a row or table.
    pool_size
        Connections kept open.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _connect_to_server(parsed, busy_seconds=busy_seconds, pool_size=pool_size)
    if parsed.database:
        private_folder(Path(parsed.database).parent)
    engine = create_engine(
        parsed,
        # Parameters are pupils' values: they must not get into an error message.
        hide_parameters=True,
        pool_size=pool_size,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: `_begin` does, with the right lock.
        connection.isolation_level = None
        for pragma in (
            f"page_size={SQLITE_PAGE_BYTES}",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            # Erased means overwritten, not only unlinked.
            "secure_delete=ON",
            # A checkpoint within a commit would delay every request: see `checkpoint`.
            "wal_autocheckpoint=0",
            "journal_size_limit=67108864",
        ):
            try:
                connection.execute(f"PRAGMA {pragma}").close()
            except sqlite3.Error:
                # The pool would leave it to the garbage collector, which comes late.
                connection.close()
                raise

    watch(engine)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads before it writes fails if another has written in between.
        mode = "DEFERRED" if connection.get_execution_options().get("read_only") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _connect_to_server(url: URL, *, busy_seconds: float, pool_size: int) -> Engine:
    arguments = {
        "application_name": "student-success",
        "connect_timeout": "5",
        # Detect a server that vanished without closing the connection, e.g. by a power failure.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
        "options": f"-c lock_timeout={max(1, round(busy_seconds * 1000))}",
    }
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        # Replace connections that a restart of the server has closed.
        pool_pre_ping=True,
        # Parameters of the URL take precedence.
        connect_args={name: arguments[name] for name in arguments.keys() - url.query.keys()},
    )

    @event.listens_for(engine, "handle_error")
    def _hide_values(context: ExceptionContext) -> None:
        # After the first line, PostgreSQL's message quotes the values of the row.
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Begin a read-only transaction, which sees one state of the database.

    Raises
    ------
    DatabaseUnavailableError
        If the database fails within the block.
    """
    options = _SNAPSHOT if engine.dialect.name == "postgresql" else {"read_only": True}
    with unavailable_on_failure(), engine.connect() as connection:
        connection = connection.execution_options(**options)
        with connection.begin():
            yield connection


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Begin a write transaction, which is committed at the end of the block.

    Raises
    ------
    DatabaseUnavailableError
        If the database fails within the block.
    """
    with unavailable_on_failure(), engine.begin() as connection:
        yield connection


def database_bytes(engine: Engine) -> int:
    """Return the size of the database; of SQLite the file and its write-ahead log.

    Raises
    ------
    DatabaseUnavailableError
        If the database does not answer.
    """
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            size = "SELECT pg_database_size(current_database())"
            return int(connection.exec_driver_sql(size).scalar_one())
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()
        path = engine.url.database or ""
        files = [Path(path + suffix) for suffix in ("", "-wal") if path]
        return sum(file.stat().st_size for file in files if file.is_file())


def lock_table(connection: Connection, table: Table) -> None:
    """Let no other transaction write to the table until this one ends; others can read it.

    SQLite has only one writer at a time anyway. Transactions that write to several tables call this
    first, with the same table, so that they cannot deadlock.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


def insert_on_conflict(connection: Connection, table: Table) -> Any:
    """Return the dialect's insert statement, which has the methods ``on_conflict_do_…``."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)


def upsert(connection: Connection, table: Table, key: dict[str, Any], **values: Any) -> Any:
    """Return a statement that inserts the row of `key`, or updates `values` if it exists."""
    return (
        insert_on_conflict(connection, table)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_=values)
    )


def is_locked(error: BaseException) -> bool:
    """Tell whether another connection's lock caused a failure, so that a retry may succeed."""
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
        return True
    # The extended codes have the plain one in their low byte.
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


@contextlib.contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Turn any failure of the database into the 503 that a caller may retry."""
    try:
        yield
    except SQLAlchemyError as error:
        logger.error("database_failed", extra={"reason": str(error).partition("\n")[0]})
        raise DatabaseUnavailableError("The database does not answer.") from error
