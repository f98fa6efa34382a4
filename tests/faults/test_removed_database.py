"""The database file is removed or replaced while it is served, or is empty at the start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.faults.database_file import check_integrity, count_predictions
from tests.faults.promise_counts import counts
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PROMISE = "no prediction is acknowledged while the database file is removed"
SECONDS = 10.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "state", WORKERS="2", MONITOR_SECONDS="0.5") as running:
        yield running


def database(server: Server) -> Path:
    return server.state_dir / "student_success.db"


def predict(server: Server, count: int = 20) -> list[str | None]:
    """Predict on new connections, so that both workers are asked; None stands for a 503."""
    ids: list[str | None] = []
    for number in range(count):
        # A key is committed on a thread, the others on the event loop.
        key = {"Idempotency-Key": f"{time.monotonic_ns()}"} if number % 2 else {}
        response = httpx.post(f"{server.url}/predict", json=EXAMPLE, headers=key)
        assert response.status_code in (200, 503), response.text
        if response.status_code == 200:
            ids.append(response.json()["prediction_id"])
        else:
            assert response.json()["error"] == "history_unavailable"
            ids.append(None)
    return ids


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "no recovery"
        time.sleep(0.1)


def health(server: Server) -> dict[str, object]:
    response = httpx.get(f"{server.url}/health")
    assert response.status_code == 200
    body: dict[str, object] = response.json()
    return body


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics", timeout=10).text


def test_predictions_are_refused_while_the_database_file_is_missing(server: Server) -> None:
    file, moved = database(server), server.state_dir / "moved.db"
    before = predict(server)
    assert None not in before
    file.rename(moved)
    assert set(predict(server)) == {None}
    # Each worker keeps the result of its last check for a second.
    until(lambda: health(server)["db_ok"] is False)
    until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
    # The alert DatabaseDown reads it.
    until(lambda: "student_success_database_up 0.0" in metrics(server))
    assert not file.exists()
    moved.rename(file)
    until(lambda: None not in predict(server))
    until(lambda: "student_success_database_up 1.0" in metrics(server))
    after = predict(server)
    until(lambda: health(server)["status"] == "ok")
    rows = count_predictions(server.state_dir)
    assert {rows[str(one)] for one in before + after} == {1}
    counts.add(promise=PROMISE, faults=1, requests=60, acknowledged=40)


@pytest.mark.parametrize("replacement", ["backup", "empty"])
def test_file_in_the_place_of_the_database_is_served_without_a_restart(
    server: Server, replacement: str
) -> None:
    kept = predict(server)
    server.stop()
    backup = server.state_dir / "backup"
    if replacement == "backup":
        shutil.copy(database(server), backup)
    else:
        backup.touch()
        kept = []
    server.start()
    assert None not in predict(server)
    # In one step: there is no moment without a file.
    backup.rename(database(server))
    acknowledged = predict(server)
    until(lambda: None not in predict(server))
    acknowledged += predict(server)
    rows = count_predictions(server.state_dir)
    assert {rows[one] for one in kept + acknowledged if one is not None} == {1}
    assert check_integrity(server.state_dir) == "ok"
    # The same holds for what a restart reads.
    server.stop()
    server.start()
    rows = count_predictions(server.state_dir)
    assert {rows[one] for one in kept + acknowledged if one is not None} == {1}
    answered = len(acknowledged) - acknowledged.count(None)
    counts.add(promise=PROMISE, faults=1, requests=len(acknowledged), acknowledged=answered)


@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-shm",)])
def test_predictions_are_refused_until_a_restart_when_the_log_was_removed(
    server: Server, suffixes: tuple[str, ...]
) -> None:
    """Without that they were acknowledged, gone after a restart, and the file was damaged."""
    acknowledged = predict(server)
    for suffix in suffixes:
        (server.state_dir / f"student_success.db{suffix}").unlink()
    acknowledged += predict(server)
    until(lambda: health(server)["db_ok"] is False)
    assert set(predict(server)) == {None}
    # Another program looks at the file meanwhile.
    assert check_integrity(server.state_dir) == "ok"
    server.stop()
    server.start()
    acknowledged += (after := predict(server))
    assert None not in after
    rows = count_predictions(server.state_dir)
    ids = [one for one in acknowledged if one is not None]
    assert {rows[one] for one in ids} == {1}
    assert check_integrity(server.state_dir) == "ok"
    counts.add(promise=PROMISE, faults=1, requests=80, acknowledged=len(ids))


def test_predictions_are_kept_while_something_else_is_in_place_of_the_database(
    server: Server,
) -> None:
    file, moved = database(server), server.state_dir / "moved.db"
    acknowledged = predict(server)
    file.rename(moved)
    file.mkdir()
    assert set(predict(server)) == {None}
    until(lambda: health(server)["db_ok"] is False)
    file.rmdir()
    moved.rename(file)
    until(lambda: None not in predict(server))
    rows = count_predictions(server.state_dir)
    assert {rows[str(one)] for one in acknowledged} == {1}
    counts.add(promise=PROMISE, faults=1, requests=60, acknowledged=40)


def test_start_on_an_empty_database_is_degraded_if_deployments_were_seen(server: Server) -> None:
    """Otherwise the seed model would be served in place of the promoted version, and none knew."""
    (server.state_dir / "deployments.anchor").write_text(f"3 {'a' * 64}\n")
    server.stop()
    database(server).unlink()
    server.start()
    answer = health(server)
    assert answer["status"] == "degraded"
    [problem] = answer["problems"]  # type: ignore[misc]
    assert "Deployment 3, which this machine has seen, is not in the database" in problem
