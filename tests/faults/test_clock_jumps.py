"""Clocks may jump by a year, back and forth, while the service runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from benchmarks.load import HttpConnection, HttpResponse, Load, http_request
from student_success.core import clock
from student_success.core.identifiers import time_ordered_hex
from student_success.domain.students import EXAMPLE
from student_success.storage.engine import connect, writing
from student_success.storage.inference_log.history import History
from student_success.storage.inference_log.prediction_rows import PredictionRow
from student_success.storage.migrate import migrate
from student_success.storage.tables import inference_logs
from tests.faults.database_file import count_predictions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server

pytestmark = pytest.mark.faults

PROMISE = "clocks may jump"
YEAR = 365 * 86_400
YEAR_US = YEAR * 1_000_000
JUMPS = [-YEAR, 0, YEAR, -YEAR, YEAR, 0] * repetitions(1, full=10)
PREDICTIONS = 10
PAGE = 7
# Python runs it before anything else: in every process of the server, and only the wall clock.
LYING = """
import os, time
_time, _time_ns, _path = time.time, time.time_ns, os.environ["CLOCK_IS_WRONG_BY"]
def _wrong():
    with open(_path) as file:
        return int(file.read() or 0)
time.time = lambda: _time() + _wrong()
time.time_ns = lambda: _time_ns() + _wrong() * 10**9
"""


class WrongClock:
    """The wall clock of a server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(LYING)
        self._path = folder / "seconds"
        self.settings = {"PYTHONPATH": str(folder), "CLOCK_IS_WRONG_BY": str(self._path)}
        self.set(0)

    def set(self, seconds: int) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._path)


@pytest.fixture
def jumping(tmp_path: Path) -> Iterator[tuple[Server, WrongClock]]:
    wrong = WrongClock(tmp_path / "clock")
    # Without erasure by age: a prediction made under a clock that is a year behind counts as a year
    # old once the clock is right (docs/guarantees.md). Retention has its own test below.
    server = Server(tmp_path / "state", WORKERS="2", **wrong.settings)
    server.start()
    yield server, wrong
    server.stop()


def ask(server: Server, content: bytes) -> HttpResponse:
    with HttpConnection(server.port) as connection:
        return connection.exchange(content)


def test_history_keeps_order_and_keys_count_once_when_clock_jumps(
    jumping: tuple[Server, WrongClock],
) -> None:
    server, wrong = jumping
    session = {"X-Session-Id": uuid.uuid4().hex}
    keyed = http_request("POST", "/predict", EXAMPLE, {**session, "Idempotency-Key": "one"})
    first = ask(server, keyed)
    in_order = [first.json()["prediction_id"]]
    clock_differences: list[float] = []
    for seconds in JUMPS:
        wrong.set(seconds)
        for _ in range(PREDICTIONS):
            prediction = ask(server, http_request("POST", "/predict", EXAMPLE, session)).json()
            in_order.append(prediction["prediction_id"])
        ahead = datetime.fromisoformat(prediction["timestamp"]) - datetime.now(UTC)
        clock_differences.append(ahead.total_seconds())
        assert ask(server, keyed).body == first.body
    listed = pages(server, session["X-Session-Id"])
    counts.add(
        promise=PROMISE,
        faults=len(JUMPS),
        requests=len(in_order) + len(JUMPS),
        acknowledged=len(in_order) + len(JUMPS),
        lost=len(set(in_order) - set(listed)),
    )
    assert clock_differences == pytest.approx(JUMPS, abs=60), "the clock has not jumped"
    assert listed == in_order[::-1]
    assert len(set(in_order)) == len(in_order)


def pages(server: Server, session_id: str) -> list[str]:
    """Page through a session, with a new prediction between any two pages."""
    found: list[str] = []
    before = ""
    while True:
        path = f"/history?limit={PAGE}&session_id={session_id}{before}"
        rows = ask(server, http_request("GET", path)).json()
        if not rows:
            return found
        found += [row["prediction_id"] for row in rows]
        before = f"&before_id={rows[-1]['id']}"
        headers = {"X-Session-Id": session_id}
        assert ask(server, http_request("POST", "/predict", EXAMPLE, headers)).status == 200


def test_predictions_are_not_lost_when_clock_jumps_under_load(
    jumping: tuple[Server, WrongClock],
) -> None:
    server, wrong = jumping
    with Load(server.port) as load:
        for seconds in JUMPS:
            load.wait_for(50)
            wrong.set(seconds)
        load.wait_for(50)
    result = load.result
    found = count_predictions(server.state_dir)
    lost = [one for one in result.acknowledged if found[one] != 1]
    counts.add(
        promise=PROMISE,
        faults=len(JUMPS),
        requests=result.requests,
        acknowledged=result.statuses[200],
        lost=len(lost) + len(result.lost_connections),
    )
    assert not lost
    assert not result.lost_connections
    assert set(result.statuses) == {200}


def test_retention_keeps_young_rows_when_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old rows go; those of today stay, whatever the clock says for an hour."""
    url = f"sqlite:///{tmp_path / 'history.db'}"
    migrate(url, state_dir=tmp_path)
    ahead = 0
    settled = clock.CautiousClock(lambda: clock.now_us() + ahead)
    monkeypatch.setattr(clock, "_cautious", settled)
    history = History(connect(url), retention_days=30)
    rows = {"old": clock.now_us() - YEAR_US, "today": clock.now_us()}
    with writing(connect(url)) as connection:
        connection.execute(
            insert(inference_logs), [record(name, created_us) for name, created_us in rows.items()]
        )

    def left() -> list[str]:
        return [row["session_id"] for row in history.page(limit=10)]

    for ahead in (-YEAR_US, YEAR_US, -2 * YEAR_US, 2 * YEAR_US):
        history._erase_old()
        assert "today" in left(), ahead
    ahead = 0
    monkeypatch.setattr(clock, "_cautious", clock.CautiousClock())
    history._erase_old()
    assert left() == ["today"]
    history.close()


def test_prediction_ids_are_unique_when_clock_stands_still() -> None:
    created_us = {time_ordered_hex(1_700_000_000_000_000) for _ in range(100_000)}
    assert len(created_us) == 100_000


def record(session_id: str, created_us: int) -> dict[str, object]:
    values = (
        *(
            time_ordered_hex(created_us),
            session_id,
            created_us,
            "{}",
            None,
            10.0,
            "reussite",
            0.5,
            8,
            12,
            0.9,
        ),
        *("G1", False, "seed"),
    )
    return PredictionRow(*values)._asdict()


def test_newest_training_stays_newest_when_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from student_success.core.configuration.settings import Settings
    from student_success.lifecycle import training_jobs as module
    from student_success.storage import jobs as table
    from student_success.storage.jobs import JobTable

    settings = Settings(state_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'jobs.db'}")
    migrate(settings.database, state_dir=tmp_path)
    jobs = module.TrainingJobs(settings, JobTable(connect(settings.database)))
    for number, wrong in enumerate((0, -YEAR_US, YEAR_US, -YEAR_US, 0)):
        monkeypatch.setattr(table, "now_us", lambda wrong=wrong: clock.now_us() + wrong)
        jobs._begin(f"job-{number}").close()
        assert jobs.get(None)["job_id"] == f"job-{number}"
    asyncio.run(jobs.close())
