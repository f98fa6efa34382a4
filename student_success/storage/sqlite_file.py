"""Detect that a file of an SQLite database was removed or replaced while it is open.

SQLite keeps writing to a file that has no name any more, so that everything it commits is lost when
the process ends. Here a file is known by its device and inode. While it is missing, the database is
unavailable. If another file is in its place, for example a restored backup, it is opened instead.

Without its write-ahead log, or moved behind a link, the database is unavailable until the process
ends: the next connection would begin another log, and the two logs would damage the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, event, make_url
from sqlalchemy.exc import DisconnectionError

from student_success.core.state_files import lock

logger = logging.getLogger(__name__)

_INFO = "database_file"
"""Key of a pooled connection's information: the files that the connection opened."""


_LOST_LOG = (
    "the write-ahead log of the database was removed, or the database was moved behind a link; "
    "restart the service"
)


class FileId(NamedTuple):
    """What identifies a file, whatever its name."""

    device: int
    inode: int


class OpenFiles(NamedTuple):
    """The files of a database; `entry` is its path itself, which may be a link."""

    path: str
    database: FileId | None
    entry: FileId | None
    log_path: str
    log: FileId | None
    log_index: FileId | None


_opened: dict[str, FileId] = {}
"""By path, the file that this process has open."""
_removed: dict[str, int] = {}
"""By path of a removed file or of its log, a descriptor, so that its inode is not used again."""
_lost_logs: set[str] = set()
"""Paths of databases that are unavailable because their write-ahead log was removed."""
_thread_lock = threading.Lock()


def file_id(path: str) -> FileId | None:
    """Return the identity of a file, or None if the path does not exist."""
    try:
        return _identity(os.stat(path))
    except FileNotFoundError:
        return None


def _open_now(path: str) -> OpenFiles:
    # SQLite makes the log beside the file that a link leads to.
    log = _log(path)
    entry = _identity(os.lstat(path)) if os.path.lexists(path) else None
    return OpenFiles(path, file_id(path), entry, log, file_id(log), file_id(_index(log)))


def _log(path: str) -> str:
    return f"{os.path.realpath(path)}-wal"


def _index(log: str) -> str:
    return f"{log.removesuffix('-wal')}-shm"


def _identity(status: os.stat_result) -> FileId:
    return FileId(status.st_dev, status.st_ino)


def database_file(url: str) -> FileId | None:
    """Return the identity of an SQLite file; None without a file, or for another database."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    return file_id(parsed.database) if sqlite and parsed.database else None


def allow_creation(url: str) -> None:
    """Let this process create the file if it is missing, although it has opened it before."""
    path = make_url(url).database or ""
    with _thread_lock:
        if file_id(path) is None:
            _opened.pop(path, None)


def watch(engine: Engine) -> None:
    """Check the file of an engine each time that a connection is opened or taken from the pool."""
    path = engine.url.database
    if not path or path == ":memory:":
        return

    @event.listens_for(engine, "do_connect")
    def _before_opening(*_: Any) -> None:
        _check_path(path)

    @event.listens_for(engine, "connect")
    def _after_opening(connection: Any, record: Any) -> None:
        # A new database has no log before something is read.
        try:
            connection.execute("SELECT 1 FROM sqlite_master").close()
        except sqlite3.Error:
            connection.close()
            raise
        record.info[_INFO] = files = _open_now(path)
        if files.database is not None:
            with _thread_lock:
                _opened.setdefault(path, files.database)

    @event.listens_for(engine, "checkout")
    def _before_use(connection: Any, record: Any, _proxy: Any) -> None:
        try:
            _check_files(record.info[_INFO], connection)
        except sqlite3.OperationalError as error:
            # The pool then closes this connection and opens another one.
            raise DisconnectionError(str(error)) from error


def check_same_file(information: Mapping[Any, Any]) -> None:
    """Check that what a connection has committed is in the file that others will read.

    Parameters
    ----------
    information
        The information of the pooled connection; without a file nothing is checked.

    Raises
    ------
    sqlite3.OperationalError
        If the file or its log was removed or replaced since the connection was opened.
    """
    files: OpenFiles | None = information.get(_INFO)
    if files is not None and (
        file_id(files.path) != files.database
        or file_id(files.log_path) != files.log
        or files.path in _lost_logs
    ):
        _check_files(files)
        raise sqlite3.OperationalError("the database was unavailable for a moment")


def _check_files(files: OpenFiles, connection: Any = None) -> None:
    """Raise an error if a file is another one now; save what is only in the log that was open."""
    now = _open_now(files.path)
    if now == files:
        return
    # Looked at again after the log: another process removes the log only of a replaced file.
    replaced = file_id(files.path) != files.database
    if connection is not None and (replaced or now.log is None):
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint").close()
    if replaced:
        _keep_removed_file(files.path)
        raise sqlite3.OperationalError("the database file was removed or replaced")
    with _thread_lock:
        _lost_logs.add(files.path)
    raise sqlite3.OperationalError(_LOST_LOG)


def _check_path(path: str) -> None:
    current = file_id(path)
    with _thread_lock:
        opened = _opened.get(path)
        if current is None:
            if opened is not None:
                raise sqlite3.OperationalError(
                    "the database file was removed; put it back, or restart the service to begin "
                    "with an empty database"
                )
            return
        if path in _lost_logs and opened == current:
            raise sqlite3.OperationalError(_LOST_LOG)
        if not os.access(path, os.W_OK):
            # SQLite would open it to read, and as the connections of a process share what they know
            # of a file, none could write for as long as one of those is open.
            raise sqlite3.OperationalError("the database may not be written")
        if opened != current:
            # Also before the first opening: another process may be removing the old log just now.
            _forget_removed_file(path)
            _lost_logs.discard(path)
            if opened is not None:
                _opened[path] = current
                logger.warning("database_file_replaced")


def _keep_removed_file(path: str) -> None:
    """Remember the removed file and its write-ahead log while its connections are still open."""
    with _thread_lock:
        opened = _opened.get(path)
        # Once another thread has opened the new file, the log is that file's.
        if opened == file_id(path):
            return
        open_files = _open_files()
        # Kept once only: closing a descriptor of a database gives SQLite's locks on it up.
        if path not in _removed and opened in open_files:
            _removed[path] = os.dup(open_files[opened])
        # Kept anew: the log may be another one than when the file was missing before.
        log = _log(path)
        if (found := open_files.get(file_id(log))) is not None:
            kept, _removed[log] = _removed.get(log), os.dup(found)
            if kept is not None:
                os.close(kept)


def _forget_removed_file(path: str) -> None:
    """Remove the log of the file that was replaced: SQLite would apply it to the new file."""
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        # Of two processes that do this at once, the second could remove the new log of the first.
        lock(folder, wait=True)
        log = _log(path)
        removed = _removed.pop(log, None)
        if removed is not None:
            if _identity(os.fstat(removed)) == file_id(log):
                for name in (log, _index(log)):
                    Path(name).unlink(missing_ok=True)
            os.close(removed)
    finally:
        os.close(folder)
    descriptor = _removed.pop(path, None)
    if descriptor is not None:
        os.close(descriptor)


def _open_files() -> dict[FileId | None, int]:
    """Return the open files of this process with one descriptor each."""
    found: dict[FileId | None, int] = {}
    for name in os.listdir("/dev/fd"):
        # The descriptor of this listing is closed by now.
        with contextlib.suppress(OSError):
            found[_identity(os.fstat(int(name)))] = int(name)
    return found
