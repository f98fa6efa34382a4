"""`verify` detects every change of the audit log of deployments.

The rows come from real promotions and rollbacks by a real server. Then the test changes them as
somebody could who can write the database and nothing else.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults import registered_versions
from tests.faults.promise_counts import counts
from tests.server import ROOT, Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "the audit log of deployments shows tampering"
MOVES = (("/promote", 1), ("/rollback", None), ("/promote", 2), ("/rollback", None))

Tamper = Callable[[sqlite3.Connection], None]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the state of a server that is gone, with four rows."""
    folder = registered_versions.fresh_state(tmp_path_factory)
    with serving(folder) as server:
        for path, version in MOVES:
            body = {"reason": "a move"} if version is None else {"version": version}
            answer = httpx.post(f"{server.url}{path}", headers=server.admin, json=body, timeout=120)
            assert answer.status_code == 200, answer.text
        rows = httpx.get(f"{server.url}/deployments", headers=server.admin).json()
    assert [row["id"] for row in rows] == [4, 3, 2, 1]
    return folder


def verify(state: Path) -> tuple[int, list[str]]:
    """Return exit code and lines of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "student_success", "verify"],
        cwd=ROOT,
        env=dict(Server(state).environment),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def _execute(*statements: str) -> Tamper:
    def tamper(database: sqlite3.Connection) -> None:
        for statement in statements:
            database.execute(statement)

    return tamper


def _reorder(database: sqlite3.Connection) -> None:
    for one, other in ((2, 900), (3, 2), (900, 3)):
        database.execute("UPDATE deployments SET id = ? WHERE id = ?", (other, one))


def _write_anew(database: sqlite3.Connection) -> None:
    """Change a row, and all hashes after it so that they fit, the remembered one too."""
    from student_success.storage.deployments import _GENESIS, _chain

    database.row_factory = sqlite3.Row
    database.execute("UPDATE deployments SET reason = 'never happened' WHERE id = 2")
    before = _GENESIS
    for row in database.execute("SELECT * FROM deployments ORDER BY id").fetchall():
        before = _chain(before, dict(row))
        database.execute("UPDATE deployments SET hash = ? WHERE id = ?", (before, row["id"]))
    database.execute("UPDATE deployments_head SET hash = ?", (before,))


def _remove_newest_and_its_traces(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM deployments WHERE id >= 3")
    database.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'deployments'")
    database.execute(
        "UPDATE deployments_head SET hash = (SELECT hash FROM deployments WHERE id = 2)"
    )


TAMPERED: dict[str, Tamper] = {
    "actor changed": _execute("UPDATE deployments SET actor = 'somebody' WHERE id = 2"),
    "evidence changed": _execute("UPDATE deployments SET evidence_json = '{' WHERE id = 1"),
    "newest changed": _execute("UPDATE deployments SET reason = 'none' WHERE id = 4"),
    "time changed": _execute("UPDATE deployments SET created_us = created_us - 1 WHERE id = 3"),
    "hash changed": _execute("UPDATE deployments SET hash = lower(hex(randomblob(32)))"),
    "first removed": _execute("DELETE FROM deployments WHERE id = 1"),
    "middle removed": _execute("DELETE FROM deployments WHERE id = 2"),
    "middle removed, numbered anew": _execute(
        "DELETE FROM deployments WHERE id = 2",
        "UPDATE deployments SET id = id - 1 WHERE id > 2",
    ),
    "newest removed": _execute("DELETE FROM deployments WHERE id = 4"),
    "newest two removed, and every trace in the database": _remove_newest_and_its_traces,
    "all removed": _execute(
        "DELETE FROM deployments", "DELETE FROM sqlite_sequence", "DELETE FROM deployments_head"
    ),
    "reordered": _reorder,
    "one slipped in": _execute(
        "INSERT INTO deployments (created_us, action, actor, reason, from_version, to_version, "
        "fingerprint, evidence_json, hash) SELECT created_us + 1, 'promote', actor, reason, "
        "to_version, '2', fingerprint, evidence_json, hash FROM deployments WHERE id = 4"
    ),
    "written anew, every hash fitting": _write_anew,
}


def test_verify_accepts_unchanged_audit_log(state: Path) -> None:
    assert verify(state) == (0, ["The record of deployments is whole."])


@pytest.mark.parametrize("how", TAMPERED)
def test_verify_detects_tampering(state: Path, tmp_path: Path, how: str) -> None:
    copied = tmp_path / "state"
    copied.mkdir()
    for path in (*state.glob("student_success.db*"), state / "deployments.anchor"):
        shutil.copy(path, copied)
    with contextlib.closing(sqlite3.connect(copied / "student_success.db")) as database, database:
        TAMPERED[how](database)
    code, lines = verify(copied)
    counts.add(promise=PROMISE, faults=1, requests=1, acknowledged=1, lost=code != 1)
    assert code == 1
    assert lines[-1] == "The record of deployments is broken."
    assert len(lines) > 1, "it does not say what is wrong"
