"""What this machine saw of the record of deployments, kept outside the database.

A chain of hashes shows a row that was changed, removed or moved, but not that its newest rows are
gone, nor that all of it was written anew. So each row's hash is also added to a file of the state
directory; the record must still hold every row that stands there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from student_success.storage.deployments import Deployment

logger = logging.getLogger(__name__)

_TAIL = 256
"""More than one line takes."""


class Anchor:
    """The file; it is only ever added to.

    Parameters
    ----------
    state_dir
        Of this machine.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "deployments.anchor"

    def add(self, deployment: Deployment | None) -> None:
        """Keep the hash of a row that was written or is followed.

        A file that cannot be written is logged: the row is committed already.
        """
        if deployment is None:
            return
        line = f"{deployment.id} {deployment.hash}\n".encode()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                # Several workers follow the same row.
                end = os.fstat(descriptor).st_size
                before = os.pread(descriptor, _TAIL, max(0, end - _TAIL))
                if not before.endswith(b"\n" + line) and before != line:
                    # A line that was cut off by a crash must not spoil this one.
                    os.write(
                        descriptor, line if before.endswith(b"\n") or not end else b"\n" + line
                    )
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            logger.error("anchor_not_written", exc_info=True)

    def check(self, hashes: Mapping[int, str]) -> list[str]:
        """Say, in words, which rows that were seen are not in the record any more.

        Parameters
        ----------
        hashes
            Of all rows, by id.
        """
        if not self._path.exists():
            # Before the first promotion; and where it was removed, nothing shows that it was.
            return []
        problems = {}
        for line in self._path.read_text("ascii", "replace").splitlines():
            number, _, digest = line.partition(" ")
            if not number.isdigit() or len(digest) != 64:
                continue
            there = hashes.get(int(number))
            if there is None:
                problems[number] = f"row {number} was seen on this machine and is missing"
            elif there != digest:
                problems[number] = f"row {number} is not the one that was seen on this machine"
        return list(problems.values())
