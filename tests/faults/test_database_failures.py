"""The database is locked, full or read-only: predictions get 503, and the service recovers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.load import HttpConnection, HttpResponse, Load, http_request
from student_success.domain.students import EXAMPLE
from student_success.storage.engine import BUSY_SECONDS
from tests.faults.database_file import check_integrity, count_predictions
from tests.faults.disk_faults import locked, no_writes, small_disk
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "the service recovers when the database was locked, full or read-only"
HELD_SECONDS = repetitions(8, full=40)
SLACK_SECONDS = 3.0
"""For a busy machine, beside the time in which a lock is waited for."""
AT_ONCE = 12
DISK_MB = 24


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("trouble"), WORKERS="2") as running:
        yield running


class Trouble:
    """Predict before, while and after something is wrong, and keep the books."""

    def __init__(self, server: Server, fault: AbstractContextManager[object]) -> None:
        self.server = server
        self.fault = fault

    def go_through(self, *, seconds: float) -> None:
        server = self.server
        with Load(server.port, clients=6, pause=0.02) as load:
            load.wait_for(50)
            with self.fault:
                began = time.monotonic()
                self.others = ask_others(server)
                time.sleep(max(0.0, began + seconds - time.monotonic()))
                whole = load.result
            after = time.monotonic()
            load.wait_for(50, seconds=BUSY_SECONDS + SLACK_SECONDS)
            self.recovered = time.monotonic() - after
        self.result = load.result
        self.refused = self.result.statuses[503]
        row_counts = count_predictions(server.state_dir)
        self.lost = [one for one in self.result.acknowledged if row_counts[one] != 1]
        counts.add(
            promise=PROMISE,
            faults=1,
            requests=self.result.requests,
            acknowledged=self.result.statuses[200],
            lost=len(self.lost) + len(self.result.lost_connections),
        )
        assert not self.lost
        assert not self.result.lost_connections
        assert set(self.result.statuses) == {200, 503}, whole.statuses
        assert self.result.longest_seconds < BUSY_SECONDS + SLACK_SECONDS
        assert check_integrity(server.state_dir) == "ok"
        assert ask(server, "GET", "/readyz").status == 200


def ask(server: Server, method: str, path: str, body: object = None) -> HttpResponse:
    with HttpConnection(server.port) as connection:
        return connection.exchange(http_request(method, path, body, server.admin))


def ask_others(server: Server) -> dict[str, list[tuple[int, float]]]:
    """Ask everything that looks at the database, many at once; note status and seconds."""

    def one(path: str) -> tuple[int, float]:
        started = time.monotonic()
        return ask(server, "GET", path).status, time.monotonic() - started

    paths = ("/readyz", "/health", "/history", "/model", "/livez")
    with ThreadPoolExecutor(AT_ONCE * len(paths)) as pool:
        jobs_by_path = {path: [pool.submit(one, path) for _ in range(AT_ONCE)] for path in paths}
        return {path: [job.result() for job in jobs] for path, jobs in jobs_by_path.items()}


def one_refusal(server: Server) -> HttpResponse:
    """Return a 503 to a prediction; there may be a last answer before it."""
    end = time.monotonic() + 2 * BUSY_SECONDS
    while True:
        answer = ask(server, "POST", "/predict", EXAMPLE)
        if answer.status != 200:
            return answer
        assert time.monotonic() < end, "nothing is refused"


def check_refusal(answer: HttpResponse) -> None:
    assert answer.status == 503
    assert answer.json()["error"] == "history_unavailable"
    assert int(answer.headers["retry-after"]) >= 1


def test_predict_returns_503_and_recovers_when_database_is_locked(server: Server) -> None:
    trouble = Trouble(server, locked(server.state_dir / "student_success.db"))
    trouble.go_through(seconds=HELD_SECONDS)
    assert trouble.refused
    limit = BUSY_SECONDS + SLACK_SECONDS
    assert max(seconds for responses in trouble.others.values() for _, seconds in responses) < limit
    # What only reads goes on.
    for path in ("/history", "/model", "/livez", "/health"):
        assert {status for status, _ in trouble.others[path]} == {200}, path
    assert {status for status, _ in trouble.others["/readyz"]} <= {200, 503}


def test_predict_waits_when_database_is_locked_briefly(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        with locked(server.state_dir / "student_success.db"):
            waiting = pool.submit(ask, server, "POST", "/predict", EXAMPLE)
            time.sleep(1)
            assert not waiting.done()
        assert waiting.result(10).status == 200


def test_predict_names_retry_after_when_database_is_locked(server: Server) -> None:
    with locked(server.state_dir / "student_success.db"):
        check_refusal(one_refusal(server))
    assert ask(server, "POST", "/predict", EXAMPLE).status == 200


def test_predict_returns_503_and_recovers_when_writes_fail(server: Server) -> None:
    trouble = Trouble(server, no_writes(server.workers()))
    trouble.go_through(seconds=3)
    assert trouble.refused


def test_predict_returns_503_and_recovers_when_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=DISK_MB) as disk:
        server = Server(disk.folder / "state", WORKERS="2")
        server.log = tmp_path / "server.log"
        server.start()
        workers = {process.pid for process in server.workers()}

        @contextlib.contextmanager
        def full() -> Iterator[None]:
            disk.fill()
            try:
                yield
            finally:
                disk.empty()

        try:
            trouble = Trouble(server, full())
            trouble.go_through(seconds=5)
            assert trouble.refused
            assert {process.pid for process in server.workers()} == workers
            for path in ("/history", "/model", "/livez", "/health"):
                assert {status for status, _ in trouble.others[path]} == {200}, path
        finally:
            server.stop()


def test_server_starts_and_recovers_when_database_is_read_only(tmp_path: Path) -> None:
    """As after a disk's error: it starts, refuses, and goes on once it may write."""
    with small_disk(tmp_path / "disk", megabytes=DISK_MB) as disk:
        url = f"sqlite:///{disk.folder / 'history.db'}"
        server = Server(tmp_path / "state", WORKERS="2", DATABASE_URL=url)
        try:
            server.start()
            before = ask(server, "POST", "/predict", EXAMPLE)
            assert before.status == 200
            # After a crash the log is there still, and SQLite can read where it cannot write.
            below = server.processes()
            server.kill()
            psutil.wait_procs(below, timeout=10)
            disk.read_only(True)
            server.start(wait=False)
            wait_alive(server)
            check_refusal(one_refusal(server))
            assert ask(server, "GET", "/readyz").status == 503
            assert ask(server, "GET", "/health").json()["db_ok"] is False
            disk.read_only(False)
            server.wait_ready(20)
            for _ in range(10):
                assert ask(server, "POST", "/predict", EXAMPLE).status == 200
            listed = ask(server, "GET", "/history?limit=100").json()
            assert len(listed) == 11
            assert before.json()["prediction_id"] in {row["prediction_id"] for row in listed}
            counts.add(promise=PROMISE, faults=1, requests=13, acknowledged=11)
        finally:
            server.stop()


def wait_alive(server: Server) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/livez").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not alive:\n{server.tail()}")


def test_predict_answers_unlogged_when_configured_and_writes_fail(tmp_path: Path) -> None:
    with serving(tmp_path, ANSWER_UNLOGGED="true") as server, no_writes(server.workers()):
        for path, body in (("/predict", EXAMPLE), ("/predict_batch", {"students": [EXAMPLE] * 3})):
            answer = ask(server, "POST", path, body)
            assert answer.status == 200
            assert answer.json()["unlogged"] is True
        # A key asks for exactly one row: there it stays a refusal.
        with HttpConnection(server.port) as connection:
            keyed = http_request("POST", "/predict", EXAMPLE, {"Idempotency-Key": "one"})
            check_refusal(connection.exchange(keyed))
        assert ask(server, "GET", "/readyz").status == 200
        assert ask(server, "GET", "/health").json()["db_ok"] is False


def test_predict_is_logged_again_when_database_recovers(tmp_path: Path) -> None:
    with serving(tmp_path, ANSWER_UNLOGGED="true") as server:
        with locked(tmp_path / "student_success.db"):
            unlogged = ask(server, "POST", "/predict", EXAMPLE)
            assert unlogged.json()["unlogged"] is True
        logged = ask(server, "POST", "/predict", EXAMPLE)
        assert "unlogged" not in logged.json()
        row_counts = count_predictions(tmp_path)
        assert row_counts[logged.json()["prediction_id"]] == 1
        assert row_counts[unlogged.json()["prediction_id"]] == 0
