"""Return freed memory to the operating system, and pause garbage collection."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Iterator

SOON_SECONDS = 1.0
_due = False


def release_memory() -> None:
    """Give freed memory back; glibc would keep what a model's loading or a large batch used.

    Does nothing where the C library has no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_memory_soon() -> None:
    """Give freed memory back within a second; call from an event loop, as often as one likes."""
    global _due
    if not _due:
        _due = True
        asyncio.get_running_loop().call_later(SOON_SECONDS, _begin)


def _begin() -> None:
    global _due
    _due = False
    asyncio.get_running_loop().run_in_executor(None, release_memory)


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
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
