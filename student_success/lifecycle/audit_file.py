"""Append the hash of each deployment to a local file, outside the database.

The chain of hashes in the database reveals a row that was changed, removed or moved, but not the
removal of the newest rows, nor a log that was written anew. So each row's hash is also appended to
a file in the state directory, and every hash in the file must still be in the database.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from student_success.storage.deployments import Deployment, Deployments

logger = logging.getLogger(__name__)

_TAIL_BYTES = 256
"""More than the length of a line."""


class AuditFile:
    """The local file of hashes; lines are only ever appended.

    Parameters
    ----------
    state_dir
        State directory of this machine.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "deployments.anchor"

    def append(self, deployment: Deployment | None) -> None:
        """Append the hash of a deployment, unless the last line holds it.

        A failure is logged, not raised: the deployment is committed already.
        """
        if deployment is None:
            return
        line = f"{deployment.id} {deployment.hash}\n".encode()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                # Several workers append the same deployment.
                end = os.fstat(descriptor).st_size
                tail = os.pread(descriptor, _TAIL_BYTES, max(0, end - _TAIL_BYTES))
                if not tail.endswith(b"\n" + line) and tail != line:
                    # A crash may have left an incomplete line.
                    complete = not end or tail.endswith(b"\n")
                    os.write(descriptor, line if complete else b"\n" + line)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            logger.error("audit_file_not_written", exc_info=True)

    def newest(self) -> tuple[int, str] | None:
        """Return id and hash of the newest deployment that this machine has seen, if any."""
        try:
            return next(reversed(self._entries()), None)
        except OSError:
            return None

    def check(self, hashes: Mapping[int, str]) -> list[str]:
        """Return a message for each deployment in the file that the database does not hold.

        Parameters
        ----------
        hashes
            Hashes of all deployments in the database, by id.
        """
        if not os.path.lexists(self._path):
            # No deployment yet; a deleted file cannot be told apart from that.
            return []
        if not self._path.is_file():
            return [f"{self._path} is not a file"]
        problems = {}
        for number, digest in self._entries():
            stored = hashes.get(number)
            if stored is None:
                problems[number] = f"row {number} was seen on this machine and is missing"
            elif stored != digest:
                problems[number] = f"row {number} is not the one that was seen on this machine"
        return list(problems.values())

    def _entries(self) -> list[tuple[int, str]]:
        """Return id and hash of each complete line."""
        if not self._path.is_file():
            # Reading a pipe would wait for ever.
            return []
        lines = self._path.read_text("ascii", "replace").splitlines()
        parts = [line.partition(" ") for line in lines]
        return [(int(n), digest) for n, _, digest in parts if n.isdigit() and len(digest) == 64]


def audit_log_problems(deployments: Deployments, state_dir: Path) -> list[str]:
    """Return what is wrong in the audit log of deployments and with its file, in words.

    Raises
    ------
    DatabaseUnavailableError
        If the database does not answer.
    """
    return deployments.verify() + AuditFile(state_dir).check(deployments.hashes())
