"""Checkpoints of SQLite's write-ahead log, made outside of requests.

A checkpoint waits for the disk, partly while it holds the lock that all writers need. So the log is
moved into the database file often and in small parts, and the database file is synchronised to the
disk first, without the lock. On a database other than SQLite these functions do nothing.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from typing import Literal

from sqlalchemy import Engine

from student_success.core.errors import DatabaseUnavailableError
from student_success.storage.engine import SQLITE_PAGE_BYTES, unavailable_on_failure

MAX_LOG_BYTES = 64 << 20
"""If the log is longer, writers wait for a checkpoint, so that it does not fill the disk."""
WAIT_MS = 50
"""How long a checkpoint waits for readers. It holds the lock that all writers need meanwhile, and a
backup reads for minutes."""


def checkpoint(engine: Engine, mode: Literal["PASSIVE", "RESTART", "TRUNCATE"] = "PASSIVE") -> int:
    """Move the log into the database file.

    Parameters
    ----------
    mode
        ``PASSIVE`` blocks nobody, but under steady writing the log then grows for ever; ``RESTART``
        blocks writers until the log can be written from its start again, if no reader prevents it;
        ``TRUNCATE`` also empties the log, so that it holds no erased rows.

    Returns
    -------
    int
        Bytes in the log; after ``TRUNCATE``, more than 0 if a reader prevented it.

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
            (before_ms,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            try:
                cursor.execute(f"PRAGMA busy_timeout={WAIT_MS}")
                busy, frames, _ = cursor.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                cursor.execute(f"PRAGMA busy_timeout={before_ms}")
                cursor.close()
    except engine.dialect.loaded_dbapi.Error as error:
        # The driver was called directly, so the error is not one of SQLAlchemy's.
        raise DatabaseUnavailableError("The database does not answer.") from error
    return int(max(busy, frames) * SQLITE_PAGE_BYTES)


def limit_log_size(engine: Engine) -> None:
    """Checkpoint, and restart the log if it is longer than `MAX_LOG_BYTES`; call it often.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read or written.
    """
    if checkpoint(engine) <= MAX_LOG_BYTES:
        return
    # Otherwise the restart waits for the disk with the writers' lock held, ten times as long.
    _sync_to_disk(engine)
    checkpoint(engine)
    checkpoint(engine, "RESTART")


def _sync_to_disk(engine: Engine) -> None:
    """Synchronise the database file; SQLite does it again later, and then it is fast."""
    path = engine.url.database
    with contextlib.suppress(OSError):
        if path:
            stat = os.stat(path)
            os.fdatasync(_descriptor(path, stat.st_dev, stat.st_ino))


@cache
def _descriptor(path: str, _device: int, _inode: int) -> int:
    # Never closed: when a process closes any descriptor of a file, it loses all its POSIX locks on
    # that file, SQLite's as well (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
