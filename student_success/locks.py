"""Locks between processes, freed by the operating system or the database when a holder dies.

On one machine a lock is `flock` on a file of the state directory. With PostgreSQL it is an advisory
lock of the session, so that several machines exclude one another as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine, text

from student_success.errors import BusyError


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
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        taken = connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(operation)}
        ).scalar()
        if not taken:
            raise BusyError(f"Another {operation} is under way.")
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(operation)})
