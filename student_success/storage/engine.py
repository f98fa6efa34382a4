"""The database: engines, tables, and the schema brought up to date at start.

SQLite by default, PostgreSQL by URL; the same tables and statements for both. Times are integers,
microseconds since 1970 in UTC, so that they sort and compare the same way everywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ExceptionContext,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from student_success.core.errors import HistoryUnavailableError

logger = logging.getLogger(__name__)

SCHEMA_REVISION = "0003"
"""The newest migration; a test holds it equal to what alembic finds."""

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 5.0
_LOCK_NOT_AVAILABLE = "55P03"
SQLITE_PAGE_BYTES = 4096

# By default each statement of a transaction would see another moment.
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

metadata = MetaData()
# SQLite gives its 64-bit row id only to a column declared INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

inference_logs = Table(
    "inference_logs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("prediction_id", String(32), nullable=False, unique=True),
    Column("session_id", String(128), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("inputs_json", Text, nullable=False),
    Column("reference", String(64)),
    Column("predicted_g3", Float, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("pass_probability", Float, nullable=False),
    Column("interval_low", SmallInteger, nullable=False),
    Column("interval_high", SmallInteger, nullable=False),
    Column("horizon", String(8), nullable=False),
    Column("at_risk", Boolean, nullable=False),
    Column("model_version", String(20), nullable=False),
    Index("ix_inference_logs_session", "session_id", "id"),
    # A row without a reference is not in it, so that it costs those predictions nothing. So it is
    # on PostgreSQL, by the migration; said here, it would have every start import that dialect.
    Index(
        "ix_inference_logs_reference",
        "session_id",
        "reference",
        sqlite_where=text("reference IS NOT NULL"),
    ),
    # An id is never given twice, not even after the newest row was erased: paging relies on it.
    sqlite_autoincrement=True,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("prediction_id", String(32), primary_key=True),
    Column("session_id", String(128), nullable=False, index=True),
    Column("actual_g3", SmallInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("content_json", Text, nullable=False),
)
"""What one worker found for all of them to see; aggregates only."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key_hash", String(64), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("session_id", String(128), nullable=False, index=True),
    Column("answer", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("created_us", BigInteger, nullable=False),
    Column("action", String(16), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text),
    Column("from_version", String(20)),
    Column("to_version", String(20), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("evidence_json", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    sqlite_autoincrement=True,
)

alias_state = Table(
    "alias_state",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", String(20)),
    Column("updated_us", BigInteger, nullable=False),
)
"""Where MLflow's alias was when last set or accepted: what differs was moved by hand."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
    Column("finished_us", BigInteger),
    Column("progress_json", Text, nullable=False),
    Column("result_json", Text),
    Column("error", Text),
)


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
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        parsed,
        # Parameters are pupils' values: they must not get into an error message.
        hide_parameters=True,
        pool_size=pool_size,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def _only_if_writable(*_: Any) -> None:
        # SQLite would open it to read, and as the connections of a process share what they know of
        # a file, none could write for as long as one of those is open: not even when all is well.
        path = parsed.database or ""
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise sqlite3.OperationalError("the database may not be written")

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
            # A checkpoint inside a commit would make every waiting request wait: see `wal`.
            "wal_autocheckpoint=0",
            "journal_size_limit=67108864",
        ):
            try:
                connection.execute(f"PRAGMA {pragma}").close()
            except sqlite3.Error:
                # The pool would leave it to the garbage collector, which comes late.
                connection.close()
                raise

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that later writes could deadlock with another; writers say so at once.
        mode = "DEFERRED" if connection.get_execution_options().get("read_only") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _connect_to_server(url: URL, *, busy_seconds: float, pool_size: int) -> Engine:
    arguments = {
        "application_name": "student-success",
        "connect_timeout": "5",
        # A server that went away without a word, as when its machine lost power, is noticed.
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
        # A connection of before the server's restart is replaced, not handed out.
        pool_pre_ping=True,
        # What the URL itself says counts.
        connect_args={name: arguments[name] for name in arguments.keys() - url.query.keys()},
    )

    @event.listens_for(engine, "handle_error")
    def _hide_values(context: ExceptionContext) -> None:
        # Below its first line the server quotes the row.
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a snapshot to read from; database trouble becomes `HistoryUnavailableError`."""
    options = _SNAPSHOT if engine.dialect.name == "postgresql" else {"read_only": True}
    with unavailable_on_failure(), engine.connect() as connection:
        connection = connection.execution_options(**options)
        with connection.begin():
            yield connection


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a write transaction; database trouble becomes `HistoryUnavailableError`."""
    with unavailable_on_failure(), engine.begin() as connection:
        yield connection


def one_writer(connection: Connection, table: Table) -> None:
    """Let nobody else change the table until the transaction ends; reading goes on.

    On SQLite every writer is the only one. Where two transactions take rows of several tables,
    both must call this first, with the same table: then neither waits for the other for ever.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


def insert_or(connection: Connection, table: Table) -> Any:
    """Begin an insert that may go on with ``on_conflict_do_…``; both dialects know it."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)


def is_locked(error: BaseException) -> bool:
    """Tell whether a failure was another's lock, which may be gone at the next try."""
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
        logger.error("database_failed", extra={"reason": str(error).splitlines()[0]})
        raise HistoryUnavailableError("The database does not answer.") from error


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
    """Bring the schema up to date, one process at a time.

    Raises
    ------
    HistoryUnavailableError
        If the database cannot be opened or changed.
    """
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
            connection.exec_driver_sql("SELECT pg_advisory_lock(7301)")
            try:
                yield
            finally:
                connection.exec_driver_sql("SELECT pg_advisory_unlock(7301)")
        return
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / "migration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
            raise HistoryUnavailableError(
                "The database was made by a newer version of this program."
            ) from error
    logger.info("schema_upgraded", extra={"revision": SCHEMA_REVISION})
