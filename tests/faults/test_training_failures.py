"""A training never makes a prediction fail; one training and one promotion run at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.load import Load
from student_success.domain.students import PROFILE
from tests.faults import registered_versions
from tests.faults.promise_counts import counts
from tests.schools import write_pupils
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

HARMLESS = "a training never makes a prediction fail"
ONE_AT_A_TIME = "one training and one promotion run at a time"
AT_ONCE = 32
TRAINER_SECONDS = 60
LATENCY_SECONDS = 2.0
"""Of the slowest answer, on a machine whose two cores are busy with the training as well."""

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server of two workers on a fresh state."""
    running = []

    def started(**settings: str) -> Server:
        server = Server(tmp_path / "state", WORKERS="2", **settings)
        server.start()
        running.append(server)
        return server

    yield started
    for server in running:
        server.stop()


def _post(server: Server, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers=server.admin, json=body, timeout=300)


def _job(server: Server) -> dict[str, Any]:
    outcomes: dict[str, Any] = httpx.get(f"{server.url}/train", headers=server.admin).json()
    return outcomes


def _trainers(server: Server) -> list[psutil.Process]:
    outcomes = []
    for process in server.processes():
        try:
            if "training" in process.cmdline():
                outcomes.append(process)
        except psutil.NoSuchProcess:
            continue
    return outcomes


def _ended(server: Server) -> dict[str, Any]:
    end = time.monotonic() + TRAINER_SECONDS
    while (job := _job(server))["state"] == "running":
        assert time.monotonic() < end, "the job goes on for ever"
        time.sleep(0.1)
    return job


def _is_free(server: Server) -> bool:
    """Tell whether a training can be started, and end it."""
    again = _post(server, "/train", wait=False)
    if again.status_code != 202:
        return False
    while not (trainers := _trainers(server)) and _job(server)["state"] == "running":
        time.sleep(0.05)
    for process in trainers:
        process.kill()
    _ended(server)
    return True


def _count(load: Load, *, kept: bool) -> None:
    result = load.result
    counts.add(
        promise=HARMLESS,
        faults=1,
        requests=result.requests,
        acknowledged=result.statuses[200],
        lost=result.requests - result.statuses[200] + (not kept),
    )


def _is_unharmed(load: Load) -> None:
    result = load.result
    assert result.statuses[200] > 0
    assert set(result.statuses) == {200}
    assert not result.lost_connections
    assert result.longest_seconds < LATENCY_SECONDS


def test_killed_training_frees_lock_and_predictions_continue(start: Start) -> None:
    server = start()
    with Load(server.port, clients=2, pause=0.01) as load:
        assert _post(server, "/train", wait=False).status_code == 202
        end = time.monotonic() + TRAINER_SECONDS
        while "share" not in _job(server)["progress"]:
            assert time.monotonic() < end, "no progress"
            time.sleep(0.1)
        trainers = _trainers(server)
        assert trainers
        for process in trainers:
            process.kill()
        job = _ended(server)
        free = _is_free(server)
    left = _trainers(server)
    _count(load, kept=job["state"] == "failed" and free and not left)
    assert (job["state"], "SIGKILL" in job["error"]) == ("failed", True), job
    assert free
    assert not left
    _is_unharmed(load)


def test_training_over_memory_limit_fails_and_predictions_continue(
    start: Start, tmp_path: Path
) -> None:
    # The least that may be set; a training on the sample needs about as much.
    data = write_pupils(tmp_path / "pupils.csv", PROFILE, pupils=30_000)
    server = start(TRAIN_MEMORY_MB="512", DATA_PATH=str(data))
    with Load(server.port, clients=2, pause=0.01) as load:
        answer = _post(server, "/train", family="boosting", budget_seconds=5)
        job = _job(server)
        free = _is_free(server)
    _count(load, kept=job["state"] == "failed" and free)
    assert (answer.status_code, answer.json()["error"]) == (500, "training_failed"), answer.text
    assert job["state"] == "failed"
    assert "memory" in job["error"]
    assert free
    _is_unharmed(load)


def test_training_over_time_limit_is_stopped_and_predictions_continue(start: Start) -> None:
    server = start(TRAIN_TIMEOUT_SECONDS="4")
    with Load(server.port, clients=2, pause=0.01) as load:
        started = time.monotonic()
        answer = _post(server, "/train", budget_seconds=4)
        waited = time.monotonic() - started
        left = _trainers(server)
        job = _job(server)
        free = _is_free(server)
    _count(load, kept=job["state"] == "failed" and free and not left)
    assert (answer.status_code, answer.json()["error"]) == (500, "training_failed"), answer.text
    assert "4 seconds" in job["error"]
    assert waited < 20
    assert not left
    assert free
    _is_unharmed(load)


def test_training_ends_as_failed_when_worker_is_killed(start: Start) -> None:
    server = start()
    assert _post(server, "/train", wait=False).status_code == 202
    end = time.monotonic() + TRAINER_SECONDS
    while not (trainers := _trainers(server)):
        assert time.monotonic() < end
        time.sleep(0.05)
    for worker in server.workers():
        worker.kill()
    gone, alive = psutil.wait_procs(trainers, timeout=10)
    # Workers come back by themselves, and with them the record.
    server.wait_ready()
    job = _ended(server)
    counts.add(promise=HARMLESS, faults=1, lost=bool(alive) or job["state"] != "failed")
    assert not alive
    assert gone
    assert job["state"] == "failed"
    assert _is_free(server)


def test_one_of_simultaneous_trainings_starts(start: Start) -> None:
    server = start()
    answers = _all_at_once(server, "/train", {"wait": False})
    outcomes = Counter((answer.status_code, answer.json().get("error")) for answer in answers)
    _count_winners(outcomes, won=202)
    assert outcomes == {(202, None): 1, (409, "busy"): AT_ONCE - 1}
    assert len([p for p in _trainers(server) if "run" in p.cmdline()]) <= 1
    during = _post(server, "/promote", version=1)
    assert (during.status_code, during.json()["error"]) == (409, "busy")
    for process in _trainers(server):
        process.kill()
    _ended(server)


def test_one_of_simultaneous_promotions_starts(tmp_path_factory: pytest.TempPathFactory) -> None:
    state = registered_versions.fresh_state(tmp_path_factory)
    with serving(state, WORKERS="2", TEST_ALIAS_CHECK_SECONDS="600") as server:
        answers = _all_at_once(server, "/promote", {"version": 1})
        outcomes = Counter((answer.status_code, answer.json().get("error")) for answer in answers)
        rows = httpx.get(f"{server.url}/deployments", headers=server.admin).json()
        _count_winners(outcomes, won=200)
        assert outcomes == {(200, None): 1, (409, "busy"): AT_ONCE - 1}
        assert [row["to_version"] for row in rows] == ["1"]


def _all_at_once(server: Server, path: str, body: dict[str, Any]) -> list[httpx.Response]:
    """Send all on connections of their own, so that both workers get some."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(_post, server, path, **body) for _ in range(AT_ONCE)]
        return [answer.result() for answer in pending]


def _count_winners(outcomes: Counter[tuple[int, Any]], *, won: int) -> None:
    counts.add(
        promise=ONE_AT_A_TIME,
        faults=AT_ONCE,
        requests=AT_ONCE,
        acknowledged=outcomes[won, None],
        lost=outcomes.total() - outcomes[409, "busy"] - 1,
    )
