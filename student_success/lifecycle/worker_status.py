"""Which deployment each worker of this machine serves, for any of them to tell.

Every worker keeps a small file locked as long as it lives. The operating system lets the lock go
when the worker ends, however it ends; one that is stopped, hung or starved keeps it, and is seen to
be behind. No clock and no process id is involved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

_WORDS = 32


class Attendance:
    """One worker's entry among all.

    Parameters
    ----------
    folder
        The same for all workers of a machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def note(self, deployment_id: int) -> None:
        """Say which deployment this worker serves from now on."""
        if self._descriptor is None:
            self._descriptor = self._enter()
        os.pwrite(self._descriptor, f"{deployment_id:<{_WORDS - 1}}\n".encode(), 0)

    def behind(self, deployment_id: int) -> int:
        """Count the workers that serve another deployment."""
        return sum(served != deployment_id for served in self._all())

    def leave(self) -> None:
        """Take the entry back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _enter(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = uuid.uuid4().hex
        hidden = self._folder / f".{name}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Only now: an entry that is not locked is taken for one of the dead.
        hidden.rename(self._folder / name)
        return descriptor

    def _all(self) -> Iterator[int]:
        for path in sorted(self._folder.glob("[!.]*")):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as entry:
                try:
                    fcntl.flock(entry, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    # One that has not said anything yet serves nothing.
                    yield int(entry.read(_WORDS) or b"-1")
                else:
                    path.unlink()
