"""Memory that was freed, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator


def give_back() -> None:
    """Give freed memory back; glibc would keep what a model's loading or a large batch used.

    Does nothing where the C library has no such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
