"""Random identifiers that cannot be guessed: whoever knows a session's may read that session."""

from __future__ import annotations

import os

_BYTES = 16
_BLOCK = 256
_pool: list[str] = []


def random_hex() -> str:
    """Return 32 random hexadecimal digits, from the operating system's generator.

    Taken from it a block at a time: a request needs two or three of them.
    """
    while True:
        try:
            # Whichever thread takes one has it alone.
            return _pool.pop()
        except IndexError:
            digits = os.urandom(_BLOCK * _BYTES).hex()
            _pool.extend(
                digits[start : start + 2 * _BYTES] for start in range(0, len(digits), 2 * _BYTES)
            )


# A child must not give what its parent gives.
os.register_at_fork(after_in_child=_pool.clear)
