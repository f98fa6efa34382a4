"""Show every worker of this machine which deployment each of the others serves.

Every worker holds the lock of a small file as long as it lives. The operating system releases the
lock when the worker ends, however it ends; a worker that is stopped or hangs keeps it, and so
counts as behind. No clock and no process id is involved.

The files are locked with `flock` itself: a `FileLock` of filelock is exclusive and creates the file
that is only to be checked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from student_success.core.state_files import lock, private_folder

logger = logging.getLogger(__name__)

_NAME = re.compile("[0-9a-f]{32}")
_BYTES = 32
"""Length of a file, so that a shorter number overwrites a longer one."""


class WorkerStatus:
    """The status file of one worker, and those of all other workers.

    Parameters
    ----------
    folder
        The same for all workers of a machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def write(self, deployment_id: int) -> None:
        """Record which deployment this worker serves from now on.

        A failure is logged, not raised: a full disk must not keep a worker from serving.
        """
        try:
            if self._descriptor is None:
                self._descriptor = self._create()
            os.pwrite(self._descriptor, f"{deployment_id:<{_BYTES - 1}}\n".encode(), 0)
        except OSError:
            logger.error("worker_status_not_written", exc_info=True)

    def count_behind(self, deployment_id: int) -> int:
        """Count the workers that serve another deployment."""
        return sum(served != deployment_id for served in self._served_deployments())

    def close(self) -> None:
        """Release the lock, so that this worker is not counted any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _create(self) -> int:
        private_folder(self._folder)
        name = uuid.uuid4().hex
        hidden = self._folder / f".{name}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lock(descriptor, wait=True)
        # Renamed after it is locked: an unlocked file belongs to a worker that has exited.
        hidden.rename(self._folder / name)
        return descriptor

    def _served_deployments(self) -> Iterator[int]:
        """Yield what each living worker serves; delete the files of workers that have exited."""
        for path in sorted(self._folder.glob("*")):
            # Something else than a file of a worker is left alone.
            if not _NAME.fullmatch(path.name) or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    lock(file, shared=True)
                except BlockingIOError:
                    # An empty file belongs to a worker that serves nothing yet.
                    content = file.read(_BYTES).strip()
                    yield int(content) if content.isdigit() or content == b"-1" else -1
                else:
                    path.unlink()
