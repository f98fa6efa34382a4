"""Locks between processes; the lock of a process that dies is released.

With SQLite a lock is a locked file in the state directory. With PostgreSQL it is an advisory lock
of the database session, so that several machines exclude one another as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from student_success.core.errors import BusyError
from student_success.core.state_files import private_folder
from student_success.storage.engine import unavailable_on_failure

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""Pause between checks that the database session of an advisory lock still exists."""
RETRY_SECONDS = 0.1


class Operation(StrEnum):
    """An operation that only one process may do at a time."""

    TRAINING = "training"
    DEPLOYMENT = "deployment"
    ALIAS = "alias"


def _key(operation: Operation) -> int:
    digest = hashlib.sha256(f"student-success/{operation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextlib.contextmanager
def exclusive(
    *operations: Operation, engine: Engine, state_dir: Path, timeout: float = 0.0
) -> Iterator[None]:
    """Hold the locks of `operations` during the block.

    Parameters
    ----------
    timeout
        Seconds to wait for a lock that another process or thread holds.

    Raises
    ------
    BusyError
        If a lock is still held after the timeout; the message names its operation.
    DatabaseUnavailableError
        If the database that holds the locks does not answer.
    """
    on_server = engine.dialect.name == "postgresql"
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as locks:
        for operation in sorted(operations):
            while True:
                try:
                    locks.enter_context(
                        _AdvisoryLock(operation, engine)
                        if on_server
                        else _file_lock(operation, state_dir)
                    )
                    break
                except BusyError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(RETRY_SECONDS)
        yield


@contextlib.contextmanager
def _file_lock(operation: Operation, state_dir: Path) -> Iterator[None]:
    # Imported here: the import takes longer than everything else in this module.
    from filelock import FileLock, Timeout

    folder = private_folder(state_dir / "locks")
    lock = FileLock(
        folder / f"{operation}.lock",
        mode=0o600,
        # A training acquires the lock on one thread and releases it on another.
        thread_local=False,
        # Its substitute on file systems without locks would outlive a killed process.
        fallback_to_soft=False,
    )
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BusyError(f"Another {operation} is under way.") from None
    try:
        yield
    finally:
        lock.release()


class _AdvisoryLock:
    """Hold a lock of a database session for a block; acquire it again if the server restarts.

    In between, another process may acquire it. So the protected data are checked again when they
    are written, see `Deployments.record`.
    """

    def __init__(self, operation: Operation, engine: Engine) -> None:
        self._operation = operation
        self._engine = engine
        self._key = {"key": _key(operation)}
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="lock-watch", daemon=True)

    def __enter__(self) -> None:
        with unavailable_on_failure():
            if not self._try():
                raise BusyError(f"Another {self._operation} is under way.")
        self._watching.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._watching.join()
        if self._connection is not None:
            # If the server is down, the lock does not exist any more.
            with contextlib.suppress(SQLAlchemyError), self._connection as connection:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), self._key)

    def _try(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            result = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), self._key)
            if result.scalar():
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                connection.close()
        return False

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                if self._connection is not None:
                    self._connection.execute(text("SELECT 1"))
                elif self._try():
                    logger.info("lock_acquired_again", extra={"operation": str(self._operation)})
            except SQLAlchemyError:
                logger.warning("lock_lost", extra={"operation": str(self._operation)})
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()
