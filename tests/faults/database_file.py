"""Read the database file of a running server."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_read_only(state_dir: Path) -> Iterator[sqlite3.Connection]:
    """Open a server's database for reading."""
    path = state_dir / "student_success.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        yield database


def count_predictions(state_dir: Path) -> Counter[str]:
    """Return the number of rows of each prediction id."""
    with open_read_only(state_dir) as database:
        return Counter(
            row[0] for row in database.execute("SELECT prediction_id FROM inference_logs")
        )


def check_integrity(state_dir: Path) -> str:
    """Return SQLite's report on its file: ``ok`` if it is intact."""
    with open_read_only(state_dir) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


def session_predictions(state_dir: Path, session_id: str) -> list[str]:
    """Return the prediction ids of a session."""
    with open_read_only(state_dir) as database:
        query = "SELECT prediction_id FROM inference_logs WHERE session_id = ?"
        return [row[0] for row in database.execute(query, (session_id,))]
