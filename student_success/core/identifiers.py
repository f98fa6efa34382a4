"""Random identifiers that cannot be guessed: the identifier of a session gives access to it."""

from __future__ import annotations

import os

_BYTES = 16
_BLOCK = 256
_pool: list[str] = []


def random_hex() -> str:
    """Return 32 random hexadecimal digits from the operating system's generator.

    They are read in blocks, because a request needs two or three identifiers.
    """
    while True:
        try:
            # list.pop is atomic: no two threads get the same identifier.
            return _pool.pop()
        except IndexError:
            digits = os.urandom(_BLOCK * _BYTES).hex()
            _pool.extend(
                digits[start : start + 2 * _BYTES] for start in range(0, len(digits), 2 * _BYTES)
            )


def time_ordered_hex(now: int) -> str:
    """Return 32 hexadecimal digits that sort by time; the last 20 are random, 80 bits as in a ULID.

    Rows with such keys are added at the end of an index. With random keys a commit would read and
    write a page of the index for each of its rows.

    Parameters
    ----------
    now
        Microseconds since 1970; milliseconds are kept.
    """
    return f"{now // 1000:012x}{random_hex()[:20]}"


# A forked child must not return the identifiers of its parent. Native Windows has no forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)
