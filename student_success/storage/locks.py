"""Locks between processes, freed by the operating system or the database when a holder dies.

On one machine a lock is `flock` on a file of the state directory. With PostgreSQL it is an advisory
lock of the session, so that several machines exclude one another as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from student_success.core.errors import BusyError
from student_success.storage.engine import unavailable_on_failure

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0


class Operation(StrEnum):
    """What must not happen twice at once."""

    TRAINING = "training"
    DEPLOYMENT = "deployment"
    ALIAS = "alias"


def _key(operation: Operation) -> int:
    digest = hashlib.sha256(f"student-success/{operation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextlib.contextmanager
def exclusive(
    *operations: Operation, engine: Engine, state_dir: Path, patience: float = 0.0
) -> Iterator[None]:
    """Hold the locks of `operations` for the block, or refuse.

    Parameters
    ----------
    patience
        Seconds to wait for a lock that somebody else holds.

    Raises
    ------
    BusyError
        If somebody else holds one of them.
    DatabaseUnavailableError
        If the database that keeps them does not answer.
    """
    take = _database_lock if engine.dialect.name == "postgresql" else _file_lock
    give_up = time.monotonic() + patience
    with contextlib.ExitStack() as held:
        for operation in sorted(operations):
            while True:
                try:
                    held.enter_context(take(operation, engine, state_dir))
                    break
                except BusyError:
                    if time.monotonic() >= give_up:
                        raise
                    time.sleep(0.1)
        yield


@contextlib.contextmanager
def _file_lock(operation: Operation, _engine: Engine, state_dir: Path) -> Iterator[None]:
    folder = state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not inheritable: a child that outlived us by an instant must not keep the lock.
    descriptor = os.open(folder / f"{operation}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another {operation} is under way.") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _database_lock(operation: Operation, engine: Engine, _state_dir: Path) -> Iterator[None]:
    lock = _AdvisoryLock(operation, engine)
    if not lock.take():
        raise BusyError(f"Another {operation} is under way.")
    try:
        yield
    finally:
        lock.let_go()


class _AdvisoryLock:
    """A lock of the session with the server, taken anew when the server was restarted.

    Until then another process may get it: what the lock protects is checked once more where it is
    written, see `Deployments.record`.
    """

    def __init__(self, operation: Operation, engine: Engine) -> None:
        self._operation = operation
        self._engine = engine
        self._key = {"key": _key(operation)}
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="lock-watch", daemon=True)

    def take(self) -> bool:
        """Take the lock and watch over it; False if somebody else has it."""
        with unavailable_on_failure():
            taken = self._try()
        if taken:
            self._watching.start()
        return taken

    def let_go(self) -> None:
        self._stopping.set()
        self._watching.join()
        if self._connection is not None:
            # Without a server there is no lock either.
            with contextlib.suppress(SQLAlchemyError), self._connection as connection:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), self._key)

    def _try(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), self._key)
            if taken.scalar():
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
                    logger.info("lock_taken_again", extra={"operation": str(self._operation)})
            except SQLAlchemyError:
                logger.warning("lock_lost", extra={"operation": str(self._operation)})
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()
