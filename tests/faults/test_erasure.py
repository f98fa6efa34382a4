"""Erased data are gone from tables, write-ahead log and every file, on request and by age."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load import Load
from student_success.core.clock import now_us
from student_success.domain.students import EXAMPLE
from student_success.storage.inference_log.history import RETENTION_SECONDS
from tests.faults.promise_counts import counts
from tests.server import Server, serving

pytestmark = pytest.mark.faults

PROMISE = "erased data are gone"
DAY_US = 86_400 * 1_000_000
SOON = 30.0


class Marked:
    """A session of marked pupils, with all that may be left of it somewhere."""

    def __init__(self, client: httpx.Client, admin: dict[str, str], name: str) -> None:
        self.session, self.reference, self.key = f"s-{name}", f"r-{name}", f"k-{name}"
        self.inputs = {**EXAMPLE, "G1": 11.918273645, "G2": 12.564738291}
        body: dict[str, Any] = {**self.inputs, "reference": self.reference}
        headers = {"X-Session-Id": self.session, "Idempotency-Key": self.key}
        first = client.post("/predict", json=body, headers=headers)
        batch = client.post("/predict_batch", json={"students": [body] * 30}, headers=headers)
        self.answers = [first.content, batch.content]
        self.ids = [one["prediction_id"] for one in [first.json(), *batch.json()["predictions"]]]
        outcome = {"prediction_id": self.ids[0], "actual_G3": 13}
        recorded = client.post("/outcomes", json={"outcomes": [outcome]}, headers=admin)
        assert recorded.json()["accepted"] == 1

    @property
    def needles(self) -> list[bytes]:
        """Return every spelling that may be on a disk."""
        texts = [self.session, self.reference, self.key, *self.ids, "11.918273645", "12.564738291"]
        packed = [zlib.compress(answer) for answer in self.answers]
        # A row may be split over two pages: a part of a long one is telling enough.
        return [text.encode() for text in texts] + [whole[10:60] for whole in packed]


def left(state_dir: Path, needles: list[bytes]) -> set[str]:
    """Return the files that hold any of the needles."""
    files_with_marks = set()
    for path in state_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            files_with_marks |= {path.name for needle in needles if needle in content}
    return files_with_marks


def rows(state_dir: Path, session: str, ids: list[str]) -> int:
    """Return how many rows of any table speak of a session or of its predictions."""
    path = state_dir / "student_success.db"
    number = 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                number += any(str(value) in {session, *ids} for value in row)
    return number


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("erased"), WORKERS="2", MONITOR_SECONDS="1") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as body:
        yield body


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "under load"])
def test_erased_session_is_in_no_file(server: Server, client: httpx.Client, busy: bool) -> None:
    mark = f"marked-{'busy' if busy else 'quiet'}-4b1d"
    load = Load(server.port, clients=2, pause=0.01) if busy else contextlib.nullcontext()
    with load:
        marked = Marked(client, server.admin, mark)
        other = Marked(client, server.admin, f"kept-{mark}")
        # Long enough for the log to be moved, and for the figures to be worked out, with it.
        time.sleep(2.5)
        before = left(server.state_dir, marked.needles)
        assert "student_success.db" in before
        assert rows(server.state_dir, marked.session, marked.ids) > 30
        erased = client.delete(
            "/history", params={"session_id": marked.session}, headers=server.admin
        )
        assert erased.json() == {"session_id": marked.session, "erased": 31}
        # With others reading and writing the overwriting may take a few tries.
        own = [needle for needle in marked.needles if needle not in other.needles]
        assert len(own) >= 36
        end = time.monotonic() + SOON
        while (files_with_marks := left(server.state_dir, own)) and time.monotonic() < end:
            time.sleep(0.25)
    counts.add(promise=PROMISE, faults=1, requests=1, acknowledged=1, lost=len(files_with_marks))
    assert files_with_marks == set()
    assert rows(server.state_dir, marked.session, marked.ids) == 0
    # Those of others are all there.
    assert rows(server.state_dir, other.session, other.ids) > 30
    assert left(server.state_dir, [other.session.encode()]) == {"student_success.db"} | (
        left(server.state_dir, [other.session.encode()]) & {"student_success.db-wal"}
    )


def test_erased_session_is_in_no_response(server: Server, client: httpx.Client) -> None:
    marked = Marked(client, server.admin, "marked-asked-7f")
    client.delete("/history", params={"session_id": marked.session}, headers=server.admin)
    mine = client.get("/history", params={"session_id": marked.session})
    assert mine.json() == []
    everything = client.get("/history?limit=1000", headers=server.admin).text
    assert marked.reference not in everything
    # The same request with the same key is a new one: its old answer is gone.
    body = {**marked.inputs, "reference": marked.reference}
    again = client.post(
        "/predict",
        json=body,
        headers={"X-Session-Id": marked.session, "Idempotency-Key": marked.key},
    )
    assert again.status_code == 200
    assert again.json()["prediction_id"] not in marked.ids
    outcome = {"prediction_id": marked.ids[0], "actual_G3": 13}
    answer = client.post("/outcomes", json={"outcomes": [outcome]}, headers=server.admin).json()
    assert [one["error"] for one in answer["rejected"]] == ["not_found"]


def test_erased_session_stays_erased_after_kill(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            marked = Marked(client, server.admin, "marked-killed-2e")
            gone = client.delete(
                "/history", params={"session_id": marked.session}, headers=server.admin
            )
            assert gone.json()["erased"] == 31
        server.kill()
        after_kill = left(tmp_path, marked.needles)
        server.start()
        shown = httpx.get(f"{server.url}/history", params={"session_id": marked.session}).json()
        counts.add(promise=PROMISE, faults=1, requests=1, acknowledged=1, lost=len(after_kill))
    assert after_kill == set()
    assert shown == []


def test_old_rows_are_erased_while_the_service_runs(tmp_path: Path) -> None:
    server = Server(tmp_path, HISTORY_RETENTION_DAYS="1")
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            old = Marked(client, server.admin, "marked-older-11")
            soon = Marked(client, server.admin, "marked-soon-22")
            young = Marked(client, server.admin, "marked-young-33")
        server.stop()
        # As if they had been made then: one was too old at the start, one becomes so a bit later.
        shift(tmp_path, old, to_us=now_us() - DAY_US - 60_000_000)
        shift(tmp_path, soon, to_us=now_us() - DAY_US + 15_000_000)
        server.start()
        assert rows(tmp_path, soon.session, soon.ids) > 30
        end = time.monotonic() + 15 + RETENTION_SECONDS + SOON
        gone: list[str] = []
        for name, marked in (("old", old), ("soon", soon)):
            own = [needle for needle in marked.needles if needle not in young.needles]
            while left(tmp_path, own) and time.monotonic() < end:
                time.sleep(0.25)
            if not left(tmp_path, own) and not rows(tmp_path, marked.session, marked.ids):
                gone.append(name)
        counts.add(promise=PROMISE, faults=2, lost=2 - len(gone))
        assert gone == ["old", "soon"]
        assert rows(tmp_path, young.session, young.ids) > 30
    finally:
        server.stop()


def shift(state_dir: Path, marked: Marked, *, to_us: int) -> None:
    """Put a session into the past: time stamps, and the ids that begin with them."""
    name = f"{to_us // 1000:012x}"
    path = state_dir / "student_success.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA secure_delete = ON")
        for table in ("inference_logs", "outcomes", "idempotency_keys"):
            database.execute(
                f"UPDATE {table} SET created_us = ? WHERE session_id = ?", (to_us, marked.session)
            )
        for table in ("inference_logs", "outcomes"):
            database.execute(
                f"UPDATE {table} SET prediction_id = ? || substr(prediction_id, 13)"
                " WHERE session_id = ?",
                (name, marked.session),
            )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    marked.ids = [name + one[12:] for one in marked.ids]
