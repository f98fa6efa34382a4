"""Measure memory, recognise the lack of it, return what is freed, and pause garbage collection."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

DELAY_SECONDS = 1.0
_LACK_OF_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "can't start new thread")
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


def is_lack_of_memory(error: BaseException) -> bool:
    """Tell whether a process with a limit of memory failed because of it.

    Libraries have errors of their own for it. Some name the cause, also one in another process;
    with others only what the process uses tells.
    """
    text = "".join(traceback.format_exception(error))
    return any(sign in text for sign in _LACK_OF_MEMORY) or _is_near_limit()


def _is_near_limit() -> bool:
    try:
        import resource  # not on native Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[5])
    except (ImportError, OSError):
        return False
    return limit != resource.RLIM_INFINITY and pages * resource.getpagesize() > 0.9 * limit


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
