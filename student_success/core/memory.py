"""Memory that was freed, given back to the system; and files kept in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_SHARED = Path("/dev/shm")  # noqa: S108 - a folder only we can read is made in it

SOON_SECONDS = 1.0
_due = False


def give_back() -> None:
    """Give freed memory back; glibc would keep what a model's loading or a large batch used.

    Does nothing where the C library has no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def give_back_soon() -> None:
    """Give freed memory back within a second; call from an event loop, as often as one likes."""
    global _due
    if not _due:
        _due = True
        asyncio.get_running_loop().call_later(SOON_SECONDS, _begin)


def _begin() -> None:
    global _due
    _due = False
    asyncio.get_running_loop().run_in_executor(None, give_back)


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Leave out garbage collections while much is made and little thrown away.

    Imports and the loading of a model are such times: collections then find next to nothing, and
    cost a tenth of a start.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def kept_in_memory(path: Path) -> Iterator[None]:
    """Let a folder's files be in memory meanwhile, where the system has a place for such.

    For files that are mapped into memory and need not outlive the process: where the disk is full,
    a process that touches a new page of one is killed by the system.
    """
    folder = _folder_in_memory(str(path))
    if folder is not None:
        _remove(path)
        path.symlink_to(folder, target_is_directory=True)
    try:
        yield
    finally:
        if folder is not None:
            _remove(path)
            shutil.rmtree(folder, ignore_errors=True)


def _folder_in_memory(name: str) -> Path | None:
    """Return an empty folder, the same for the same name: a killed process cannot tidy up."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    folder = _SHARED / f"student-success-{os.getuid()}-{digest}"
    try:
        if folder.lstat().st_uid == os.getuid():
            shutil.rmtree(folder)
    except OSError:
        pass  # It is not there, or is somebody else's, and then the next line fails.
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        return None
    return folder


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
