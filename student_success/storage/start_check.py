"""Check before the start that this program can work with the database.

The process that starts the workers does this and needs no database afterwards. So a file is read
with the driver alone: importing SQLAlchemy would take a tenth of the time of a start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import stat
from pathlib import Path

import psutil

from student_success.core.errors import ConfigurationError
from student_success.core.state_files import private_folder

logger = logging.getLogger(__name__)

SCHEMA_REVISION = "0007"
"""The newest migration; a test holds it equal to what alembic finds."""

NEWER_SCHEMA = (
    "The database was made by a newer version of this program, and was not changed. Install that "
    "version, or restore a backup of before the upgrade."
)
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "davfs", "afs", "coda", "ceph"),
    *("glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "moosefs", "drvfs"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse"),
    *("fuse.gcsfuse", "fuse.blobfuse2", "fuse.davfs", "fuse.mfs", "fuse.juicefs"),
}
"""File systems whose files other machines may write at the same time."""
_PLAIN_FILE_URL = re.compile(r"sqlite:///([^?%]+)")
"""A URL whose path SQLAlchemy takes as it is: without options, and without characters as %20."""
_HAS_REVISION = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"


def check_database(url: str) -> None:
    """Refuse a database that this program cannot work with.

    A database that is only unavailable, such as a server that is down, passes.

    Raises
    ------
    ConfigurationError
        If the URL is not valid, no driver for it is installed, the file is not a database or on a
        network file system, or a newer version of this program made the schema.
    """
    path = sqlite_path(url)
    revision = _revision_on_server(url) if path is None else _revision_in_file(path)
    if (revision or "") > SCHEMA_REVISION:
        raise ConfigurationError(NEWER_SCHEMA)


def check_local_disk(url: str) -> None:
    """Refuse the URL of an SQLite file on a network file system; other URLs pass.

    Raises
    ------
    ConfigurationError
        With the settings that can change.
    """
    if url.startswith("sqlite"):
        _check_local(sqlite_path(url) or Path())


def _check_local(path: Path) -> None:
    if (kind := network_file_system(path)) is not None:
        raise ConfigurationError(
            f"The service was not started: {path} is on a network file system ({kind}), where "
            "SQLite can lose what it has committed. Set STATE_DIR to a folder on a local disk, or "
            "DATABASE_URL to a PostgreSQL server and MLFLOW_TRACKING_URI to an MLflow server."
        )


def network_file_system(path: Path) -> str | None:
    """Return the type of the file system of a path if it belongs to a network, else None.

    SQLite's write-ahead log is shared memory of one machine: on such a file system a commit may be
    lost, or the file damaged. Drives of Windows count too if they are mounted in WSL.
    """
    resolved = Path(os.path.realpath(path))
    try:
        partitions = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        # Some containers hide it. That alone does not prevent a start.
        logger.warning("file_systems_not_read", exc_info=True)
        return None
    # The last of several mounts on one folder is the one in use.
    mounts = {
        Path(mount.mountpoint): mount
        for mount in partitions
        if resolved.is_relative_to(mount.mountpoint)
    }
    if not mounts:
        return None
    mount = mounts[max(mounts, key=lambda folder: len(folder.parts))]
    # WSL mounts them as `9p`, which other virtual machines use for local files.
    drive = mount.fstype == "9p" and "aname=drvfs" in mount.opts
    return mount.fstype if drive or mount.fstype in _NETWORK else None


def sqlite_path(url: str) -> Path | None:
    """Return the path in the URL of an SQLite file, or None for a server.

    Raises
    ------
    ConfigurationError
        If the URL is not valid, of another kind of database, or needs a driver that is missing.
    """
    if plain := _PLAIN_FILE_URL.fullmatch(url):
        return Path(plain[1])
    # Imported here: see the top.
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name not in ("sqlite", "postgresql"):
            raise _not_started(f"{name} is neither sqlite nor postgresql")
        parsed.get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # The message of the library may contain the URL, and so a password.
        raise _not_started("it is not a valid URL, or its driver is not installed") from error
    return Path(parsed.database or "") if name == "sqlite" else None


def _revision_in_file(path: Path) -> str | None:
    try:
        private_folder(path.parent)
    except OSError as error:
        raise _not_started(f"its folder cannot be created ({error.strerror})") from error
    # SQLite makes the log beside the file that a link leads to.
    files = (str(path), *(os.path.realpath(path) + suffix for suffix in ("-wal", "-shm")))
    for name in files:
        try:
            is_file = stat.S_ISREG(os.stat(name).st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _not_started(f"{name} cannot be opened ({error.strerror})") from error
        if not is_file:
            raise _not_started(f"{name} is not a file, but a folder, a pipe or the like")
    _check_local(path)
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            if not connection.execute(_HAS_REVISION).fetchone():
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return row and str(row[0])
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise _not_started(f"{path} is not an SQLite database") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise _not_started(f"{path} is damaged; restore a backup") from error
        logger.warning("database_not_checked", extra={"reason": str(error)})
        return None


def _revision_on_server(url: str) -> str | None:
    # Imported here: see the top.
    from sqlalchemy.exc import SQLAlchemyError

    from student_success.storage.engine import connect
    from student_success.storage.migrate import schema_revision

    engine = connect(url)
    try:
        return schema_revision(engine)
    except SQLAlchemyError as error:
        logger.warning("database_not_checked", extra={"reason": str(error).partition("\n")[0]})
        return None
    finally:
        engine.dispose()


def _not_started(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The service was not started: DATABASE_URL cannot be used, because {reason}."
    )
