"""Several API processes on one PostgreSQL: one model for all, one training, nothing lost."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from student_success.core.configuration.settings import Settings
from student_success.domain.students import EXAMPLE
from tests.faults import registered_versions
from tests.scale.postgresql import Mode, PostgreSQL
from tests.scale.replicas import Replicas, load_of_replicas, registry, replicas
from tests.server import Server

FOLLOW_SECONDS = 2.0
AWAY_SECONDS = 1.5
BACK_SECONDS = 15.0


@pytest.fixture(scope="module")
def name(postgresql: PostgreSQL) -> str:
    """Return the name of the database that the replicas share."""
    return postgresql.new_database()


@pytest.fixture(scope="module")
def both(
    postgresql: PostgreSQL, name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Return two replicas with a registry that has the versions 1 and 2."""
    folder = tmp_path_factory.mktemp("replicas")
    with registry(folder) as url:
        started = replicas(folder, 2, DATABASE_URL=postgresql.url(name), MLFLOW_TRACKING_URI=url)
        try:
            started.start()
            register_versions(folder, url)
            yield started
        finally:
            started.stop()


def register_versions(folder: Path, url: str) -> None:
    settings = Settings(state_dir=folder / "registering", mlflow_tracking_uri=url)
    for version, shift in registered_versions.SHIFTS.items():
        serving = folder / "made" / str(version)
        registered_versions.make(serving, shift=shift)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's own.
            assert registered_versions.register(settings, serving) == version


def call(server: Server, method: str, path: str, **body: object) -> httpx.Response:
    return httpx.request(
        method, server.url + path, json=body or None, headers=server.admin, timeout=300
    )


def everywhere(both: Replicas, method: str, path: str, **body: object) -> list[httpx.Response]:
    """Ask all replicas the same, twice each, at the same moment."""
    with ThreadPoolExecutor(4) as threads:
        return list(
            threads.map(lambda server: call(server, method, path, **body), both.servers * 2)
        )


def saved(postgresql: PostgreSQL, name: str) -> set[str]:
    rows = postgresql.query("SELECT prediction_id FROM inference_logs", database=name)
    return {prediction_id for (prediction_id,) in rows}


def test_simultaneous_health_checks_succeed_on_all_replicas(both: Replicas) -> None:
    end = time.monotonic() + 4
    statuses: Counter[int] = Counter()

    def ask(server: Server) -> None:
        while time.monotonic() < end:
            statuses[httpx.get(f"{server.url}/readyz", timeout=10).status_code] += 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, both.servers * 2))
    assert set(statuses) == {200}


def test_same_key_at_two_replicas_creates_one_prediction(
    both: Replicas, postgresql: PostgreSQL, name: str
) -> None:
    answers: dict[int, set[str]] = {}

    def ask(asked: tuple[int, Server]) -> None:
        number, server = asked
        headers = {"Idempotency-Key": f"key-{number}", "X-Session-Id": "twice"}
        answer = httpx.post(f"{server.url}/predict", json=EXAMPLE, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        answers.setdefault(number, set()).add(answer.json()["prediction_id"])

    with ThreadPoolExecutor(8) as threads:
        asked = [(number, server) for number in range(100) for server in both.servers]
        list(threads.map(ask, asked))
    assert all(len(ids) == 1 for ids in answers.values())
    query = "SELECT count(*) FROM inference_logs WHERE session_id = 'twice'"
    assert postgresql.query(query, database=name) == [(100,)]


def test_outcomes_and_erasures_at_two_replicas_do_not_deadlock(both: Replicas) -> None:
    statuses: Counter[tuple[str, int]] = Counter()

    def live(asked: tuple[int, Server]) -> None:
        number, server = asked
        session = f"class-{number % 4}"
        for turn in range(5):
            students = [{**EXAMPLE, "reference": f"{turn}-{place}"} for place in range(40)]
            predicted = httpx.post(
                f"{server.url}/predict_batch",
                json={"students": students},
                headers={"X-Session-Id": session},
                timeout=60,
            )
            statuses["predict", predicted.status_code] += 1
            outcomes = [
                {"prediction_id": one["prediction_id"], "actual_G3": 10}
                for one in predicted.json()["predictions"]
            ]
            answer = call(server, "POST", "/outcomes", outcomes=outcomes)
            statuses["outcomes", answer.status_code] += 1
            erased = call(server, "DELETE", f"/history?session_id={session}")
            statuses["erase", erased.status_code] += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(live, enumerate(both.servers * 4)))
    assert statuses == {("predict", 200): 40, ("outcomes", 200): 40, ("erase", 200): 40}
    rows = call(both.servers[0], "GET", "/history?limit=1000").json()
    assert not [row for row in rows if row["session_id"].startswith("class-")]


def follow(both: Replicas, version: str) -> float:
    """Wait until all answer with a version; return how long that took, in seconds."""
    started = time.monotonic()
    while set(both.versions()) != {version} and time.monotonic() < started + 60:
        time.sleep(0.02)
    return time.monotonic() - started


def test_one_promotion_at_a_time_is_followed_by_all_replicas(both: Replicas) -> None:
    assert both.versions() == ["seed", "seed"]
    with load_of_replicas(both.servers) as load:
        for version in (1, 2):
            answers = everywhere(both, "POST", "/promote", version=version)
            assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 3}
            assert follow(both, str(version)) <= FOLLOW_SECONDS
            # Who comes after the first one's end finds nothing left to roll back.
            answers = everywhere(both, "POST", "/rollback", reason="a turn is over")
            assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 3}
            assert follow(both, "seed") <= FOLLOW_SECONDS
    assert set(load.result.statuses) == {200}
    assert not load.result.lost_connections
    rows = call(both.servers[0], "GET", "/deployments").json()
    assert [row["to_version"] for row in rows[::-1]] == ["1", "seed", "2", "seed"]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_acknowledged_predictions_survive_database_restart(
    both: Replicas, postgresql: PostgreSQL, name: str, mode: Mode
) -> None:
    workers = [process.pid for server in both.servers for process in server.workers()]
    ports = {server.port for server in both.servers}

    def answering_since(moment: float) -> bool:
        """Return whether every server has answered with 200 since then."""
        last_success = load.result.last_success
        return all(last_success.get(port, 0.0) > moment for port in ports)

    with load_of_replicas(both.servers, clients=8) as load:
        time.sleep(2)
        postgresql.restart(mode, away_seconds=AWAY_SECONDS)
        back = time.monotonic()
        while not answering_since(back) and time.monotonic() < back + BACK_SECONDS:
            time.sleep(0.02)
        took = time.monotonic() - back
        time.sleep(1)
    result = load.result
    assert result.lost_connections == []
    assert result.refused_connections == 0
    # A success, or a refusal that says when to come again.
    assert set(result.statuses) == {200, 503}
    assert result.missing_retry_after == 0
    assert len(result.acknowledged) > 50
    assert set(result.acknowledged) <= saved(postgresql, name)
    assert took < BACK_SECONDS
    assert workers == [process.pid for server in both.servers for process in server.workers()]
    for server in both.servers:
        assert httpx.get(f"{server.url}/readyz", timeout=10).status_code == 200


def test_one_training_at_a_time_across_database_restart(
    both: Replicas, postgresql: PostgreSQL
) -> None:
    first, second = both.servers
    asked = {"wait": False, "family": "boosting"}
    answers = everywhere(both, "POST", "/train", **asked)
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 3}
    assert {answer.json()["error"] for answer in answers if answer.status_code == 409} == {"busy"}
    [job_id] = [answer.json()["job_id"] for answer in answers if answer.status_code == 202]
    refused = everywhere(both, "POST", "/promote", version=2)
    assert {answer.json()["error"] for answer in refused} == {"busy"}
    postgresql.restart("immediate")
    time.sleep(4)  # The lock is taken anew a second after the server is back.
    assert {answer.json()["error"] for answer in everywhere(both, "POST", "/train", **asked)} == {
        "busy"
    }
    # Whichever runs it: each can tell.
    assert {state(server, job_id) for server in both.servers} == {"running"}
    for server in both.servers:
        for process in server.processes():
            if "training" in process.cmdline():
                process.kill()
    end = time.monotonic() + 30
    while state(first, job_id) != "failed" and time.monotonic() < end:
        time.sleep(0.1)
    assert state(second, job_id) == "failed"
    assert call(second, "POST", "/train", **asked).status_code == 202


def state(server: Server, job_id: str) -> str:
    found: str = call(server, "GET", f"/train?job_id={job_id}").json()["state"]
    return found
