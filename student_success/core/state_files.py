"""Files of the state directory: only their owner can read them, and temporary ones are removed.

The state directory holds pupils' data. Its folders have mode 0700 and its files 0600, whatever the
umask of the process that first creates it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from student_success.core.errors import ConfigurationError
from student_success.core.paths import ROOT

logger = logging.getLogger(__name__)

_OTHER_USERS = 0o077
_FILES = (
    *("server.lock", "migration.lock", "tmp.lock", "interface.lock"),
    *("profile.json", "deployments.anchor"),
)
_FOLDERS = ("locks", "tmp", "workers", "supervisor", "metrics", "mlflow-artefacts")
_SCRATCH = "student-success-"
"""Beginning of the names of temporary directories: `tmp` may hold those of other programs."""
_SYSTEM = ("/dev", "/etc", "/home", "/opt", "/root", "/run", "/srv", "/usr", "/var/lib", "/var/log")


def private_folder(folder: Path) -> Path:
    """Create a folder and its missing parents with mode 0700, and return it.

    `Path.mkdir` creates parents with the mode of the umask. Folders that exist do not change.
    """
    missing = [parent for parent in folder.parents if not parent.exists()]
    for path in (*reversed(missing), folder):
        path.mkdir(mode=0o700, exist_ok=True)
    return folder


def check_state_dir(state_dir: Path) -> None:
    """Create the state directory, and check that the service can work in it.

    Raises
    ------
    ConfigurationError
        If it is no folder, cannot be written, or has something else in the place of a file or a
        folder of the service, such as a pipe, or a link that leads nowhere.
    """
    advice = "Set STATE_DIR to a folder of its own that this user may write."
    try:
        private_folder(state_dir)
        writable = os.access(state_dir, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigurationError(
            f"The service was not started: STATE_DIR {state_dir} cannot be created "
            f"({error.strerror}). {advice}"
        ) from error
    if not writable:
        raise ConfigurationError(
            f"The service was not started: this user may not write STATE_DIR {state_dir}. {advice}"
        )
    files = [state_dir / name for name in _FILES]
    for path in (*files, *state_dir.glob("locks/*.lock")):
        if os.path.lexists(path) and not path.is_file():
            raise ConfigurationError(
                f"The service was not started: {path} must be a file. Remove it."
            )
    for path in (state_dir / name for name in _FOLDERS):
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigurationError(
                f"The service was not started: {path} must be a folder. Remove it."
            )


def protect(state_dir: Path) -> None:
    """Keep other users from the state directory and from all that this process creates later."""
    os.umask(_OTHER_USERS)
    narrow(state_dir)


def narrow(state_dir: Path) -> None:
    """Remove the access of other users from all existing files of the state directory.

    A directory that clearly has other uses does not change: one with the sticky bit, such as
    ``/tmp``, and one that contains the home directory, the source code or one of `_SYSTEM`.
    """
    if not state_dir.is_dir():
        return
    others = (Path(os.path.expanduser("~")).resolve(), ROOT, *map(Path, _SYSTEM))
    sticky = state_dir.stat().st_mode & stat.S_ISVTX
    if sticky or any(other.is_relative_to(state_dir) for other in others):
        logger.warning(
            "Other users may read the files in STATE_DIR %s: its mode was not changed, because it "
            "has other uses too. Set STATE_DIR to a folder of its own.",
            state_dir,
        )
        return
    changed = close_to_others(state_dir)
    if changed:
        logger.warning(
            "Other users could access %d files and folders of STATE_DIR %s. Their modes are 0700 "
            "and 0600 now.",
            changed,
            state_dir,
        )


def close_to_others(folder: Path) -> int:
    """Remove the access of other users from a folder and all in it; return how many changed.

    Copies of files have the mode of their source, whatever the umask.
    """
    paths = [folder]
    for parent, folders, files in os.walk(folder):
        paths.extend(Path(parent, name) for name in (*folders, *files))
    return sum(map(_narrow, paths))


def _narrow(path: Path) -> bool:
    """Remove the access of other users; return whether there was any."""
    try:
        status = path.lstat()
        # Only the owner may change the mode, and a link may point to a file outside.
        if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid():
            return False
        if not status.st_mode & _OTHER_USERS:
            return False
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHER_USERS)
    except FileNotFoundError:
        # Another process has removed it.
        return False
    except OSError as error:
        logger.warning("The mode of %s cannot be changed: %s", path, error.strerror)
        return False
    return True


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(file: IO[Any] | int, *, wait: bool = False, shared: bool = False) -> None:
    """Lock an open file until it is closed or its process ends.

    Parameters
    ----------
    wait
        Whether to wait for another process that holds the lock.
    shared
        Whether others may hold the lock in the same way.

    Raises
    ------
    BlockingIOError
        If another process holds the lock and `wait` is false.
    ConfigurationError
        On native Windows, which has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        raise ConfigurationError(
            "Nothing was started or changed: native Windows is not supported. Use the Windows "
            "Subsystem for Linux (WSL), a container, macOS or Linux."
        ) from None
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


@contextlib.contextmanager
def interface_running(state_dir: Path) -> Iterator[None]:
    """Show other processes, for the block, that this one is the web interface of the server."""
    descriptor = os.open(_interface_lock(state_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def is_interface_running(state_dir: Path) -> bool:
    """Tell whether the web interface that was started beside the server runs.

    A connection to its port would not show it: another program may listen there.
    """
    try:
        descriptor = os.open(_interface_lock(state_dir), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        lock(descriptor, shared=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _interface_lock(state_dir: Path) -> Path:
    return state_dir / "interface.lock"


@contextlib.contextmanager
def served_alone(state_dir: Path, server: str) -> Iterator[None]:
    """Hold the lock of a served state directory during the block.

    The operating system releases the lock when this process ends, however it ends.

    Parameters
    ----------
    server
        Name of this server, for the message that a second one gets.

    Raises
    ------
    ConfigurationError
        If another server holds the lock, or the lock cannot be taken.
    """
    path = state_dir / "server.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The service was not started: {path} cannot be opened ({error.strerror}). Remove it, "
            "or set STATE_DIR to a folder of its own."
        ) from error
    with open(descriptor, "r+", encoding="utf-8", errors="replace") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise ConfigurationError(
                f"The service was not started: STATE_DIR {state_dir} is served by "
                f"{file.read().strip() or 'another server'}. Stop that server, or set STATE_DIR to "
                "another folder; several servers can share one DATABASE_URL."
            ) from None
        file.truncate()
        file.write(f"{server}\n")
        file.flush()
        yield


@contextlib.contextmanager
def scratch_folder(state_dir: Path) -> Iterator[Path]:
    """Create a temporary directory for the block, and remove those of killed processes."""
    parent = private_folder(state_dir / "tmp")
    with (state_dir / "tmp.lock").open("w") as file:
        lock(file, wait=True)
        for folder in parent.glob(f"{_SCRATCH}*"):
            # One in use is locked, and its owner may remove it just now.
            with contextlib.suppress(OSError), _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        lock_holder = contextlib.ExitStack()
        lock_holder.enter_context(_locked(scratch))
    with lock_holder:
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)
