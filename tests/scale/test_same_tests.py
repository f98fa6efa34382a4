"""What is tested on SQLite holds on PostgreSQL: the same tests, run once more there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.scale.postgresql import PostgreSQL
from tests.server import ROOT

UNITS = (
    "storage",
    "training/data/test_outcomes.py",
    "lifecycle/test_champion.py",
    "lifecycle/test_training_jobs.py",
)
ROUTES = ("history", "outcomes", "predict", "batch")


@pytest.mark.parametrize(
    ("files", "at_least"),
    [
        ([f"tests/unit/{name}" for name in UNITS], 140),
        ([f"tests/http/test_{name}.py" for name in ROUTES], 80),
    ],
    ids=["units", "routes"],
)
def test_history_tests_pass_on_postgresql(
    postgresql: PostgreSQL, files: list[str], at_least: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_SERVER": postgresql.server_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= at_least
    skipped = re.findall(r"SKIPPED \[\d+\] \S+: (.*)", done.stdout)
    # What is about SQLite alone, and nothing else.
    assert set(skipped) <= {
        "only SQLite keeps the database in a file",
        "only SQLite has this log",
        "a database server has one set of locks for all state directories",
        "a database server keeps no lock files",
        "commits in the event loop are for SQLite alone",
        "a database server writes over erased rows in its own time",
    }
