"""Measure memory, return freed memory to the operating system, and pause garbage collection."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

DELAY_SECONDS = 1.0
_scheduled = False


def release_memory() -> None:
    """Return freed memory to the operating system.

    glibc keeps memory that loading a model or a large batch used. Does nothing with other C
    libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_memory_soon() -> None:
    """Return freed memory within a second. Call it on an event loop; repeated calls are merged."""
    global _scheduled
    if not _scheduled:
        _scheduled = True
        asyncio.get_running_loop().call_later(DELAY_SECONDS, _release_in_thread)


def _release_in_thread() -> None:
    global _scheduled
    _scheduled = False
    asyncio.get_running_loop().run_in_executor(None, release_memory)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None on systems other than Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause garbage collection during imports and the loading of a model.

    They create many objects and discard few: collections free almost nothing then, and take a
    tenth of the start.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
