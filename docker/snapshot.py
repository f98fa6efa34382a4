"""Write a folder to standard output as a tar archive, while its databases are in use.

Runs inside the containers of the stack: python snapshot.py /var/lib/student-success
"""

from __future__ import annotations

import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

SKIPPED = {"metrics", "prometheus_multiproc_dir", "locks", "server.lock", "migration.lock", "tmp"}


def main(folder: Path) -> None:
    """Copy each SQLite database with its own backup function, everything else as it is."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as archive:
        databases = sorted(folder.glob("*.db"))
        # Databases first: what is written meanwhile to the folders is then more than they name.
        for path in databases:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".snapshot-") as copy:
                with (
                    closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
                    closing(sqlite3.connect(copy.name)) as target,
                ):
                    source.backup(target)
                archive.add(copy.name, arcname=path.name)
        for path in sorted(folder.iterdir()):
            of_database = path.name.endswith((".db", ".db-wal", ".db-shm"))
            if not of_database and path.name not in SKIPPED and not path.name.startswith("."):
                archive.add(path, arcname=path.name, filter=_kept)


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if SKIPPED & set(Path(member.name).parts) else member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
