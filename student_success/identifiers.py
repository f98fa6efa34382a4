"""Random identifiers that cannot be guessed: whoever knows a session's may read that session."""

from __future__ import annotations

import os
import threading

_BYTES = 16
_BLOCK = 4096
_pool = bytearray()
_lock = threading.Lock()


def random_hex() -> str:
    """Return 32 random hexadecimal digits, from the operating system's generator.

    Taken from it a block at a time: a request needs two or three of them.
    """
    with _lock:
        if not _pool:
            _pool[:] = os.urandom(_BLOCK)
        taken = bytes(_pool[-_BYTES:])
        del _pool[-_BYTES:]
    return taken.hex()
