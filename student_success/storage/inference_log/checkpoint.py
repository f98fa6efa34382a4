"""SQLite's write-ahead log: moving it into the database file while nobody waits.

What moves the log waits for the disk, and some of that with the lock that all writers need. So the
log is moved often and little at a time; and the database file, for which SQLite waits only when it
has moved everything, is brought to the disk first, without a lock. On a database that is not SQLite
there is nothing to do.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from typing import Literal

from sqlalchemy import Engine

from student_success.core.errors import DatabaseUnavailableError
from student_success.storage.engine import SQLITE_PAGE_BYTES, unavailable_on_failure

LONGEST_BYTES = 64 << 20
"""A longer log makes writers wait until it is moved: it must not fill the disk."""


def checkpoint(engine: Engine, mode: Literal["PASSIVE", "RESTART", "TRUNCATE"] = "PASSIVE") -> int:
    """Move the log into the database file.

    Parameters
    ----------
    mode
        ``PASSIVE`` makes nobody wait, but under steady writing the log then grows for ever;
        ``RESTART`` makes writers wait until it can be written from its start again; ``TRUNCATE``
        also empties it, so that erased rows are gone from it.

    Returns
    -------
    int
        Bytes in the log; after ``TRUNCATE``, more than 0 if somebody was in the way of emptying it.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read or written.
    """
    if engine.dialect.name != "sqlite":
        return 0
    try:
        with unavailable_on_failure(), contextlib.closing(engine.raw_connection()) as raw:
            cursor = raw.cursor()
            try:
                busy, frames, _ = cursor.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                cursor.close()
    except engine.dialect.loaded_dbapi.Error as error:
        # The driver was asked directly, so SQLAlchemy has not made the error one of its own.
        raise DatabaseUnavailableError("The database does not answer.") from error
    return int(max(busy, frames) * SQLITE_PAGE_BYTES)


def shorten(engine: Engine) -> None:
    """Move the log, and have it begin anew where it is too long; for who does so often.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read or written.
    """
    if checkpoint(engine) <= LONGEST_BYTES:
        return
    # Done by the restart itself this would be ten times its length, with the writers' lock held.
    _bring_to_disk(engine)
    checkpoint(engine)
    checkpoint(engine, "RESTART")


def _bring_to_disk(engine: Engine) -> None:
    """Have the disk take the database file; it is only sooner than SQLite would have it taken."""
    path = engine.url.database
    with contextlib.suppress(OSError):
        if path:
            there = os.stat(path)
            os.fdatasync(_descriptor(path, there.st_dev, there.st_ino))


@cache
def _descriptor(path: str, _device: int, _inode: int) -> int:
    # Never closed: with any descriptor of a file that a process closes it loses all its locks on
    # that file, SQLite's too (POSIX; https://www.sqlite.org/howtocorrupt.html, 2.2).
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
