"""The registry is down, slow or returns nonsense: predictions go on, other routes say so in time.

Version 1 was promoted, after version 2, while the registry still worked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load import HttpConnection, http_request
from student_success.domain.students import EXAMPLE
from tests.faults import registered_versions
from tests.faults.broken_registry import FAULTS, Fault, broken_registry
from tests.faults.promise_counts import counts
from tests.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "the service works while the registry is down, slow or returns nonsense"
REGISTRY_SECONDS = 8
"""REGISTRY_TIMEOUT_SECONDS of the server."""
START_SECONDS = 20
"""More than a process with MLflow in it takes to start on a busy machine."""
HEALTH_SECONDS = 15
REQUESTS = 150
SLOW = {"black hole", "byte a second"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state whose store holds what the record of deployments names."""
    folder = registered_versions.fresh_state(tmp_path_factory)
    server = Server(folder)
    server.start()
    try:
        for version in (2, 1):
            if version == 1:
                back = {"reason": "the other one is next"}
                _post(server, "/rollback", back).raise_for_status()
            _post(server, "/promote", {"version": version}).raise_for_status()
    finally:
        server.stop()
    return folder


def _post(server: Server, path: str, body: dict[str, Any], seconds: float = 120) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers=server.admin, json=body, timeout=seconds)


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    chosen: Fault = request.param
    return chosen


@pytest.fixture
def server(state: Path, fault: Fault) -> Iterator[Server]:
    """Start again on the same state, with a broken registry."""
    with broken_registry(fault) as registry:
        running = Server(
            state,
            MLFLOW_TRACKING_URI=registry.url,
            REGISTRY_TIMEOUT_SECONDS=str(REGISTRY_SECONDS),
            TEST_ALIAS_CHECK_SECONDS="1",
        )
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _predict(server: Server, requests: int) -> list[float]:
    """Predict, check every answer, and return how long each took."""
    content = http_request("POST", "/predict", EXAMPLE)
    took = []
    with HttpConnection(server.port, seconds=10) as connection:
        for _ in range(requests):
            started = time.perf_counter()
            answer = connection.exchange(content)
            took.append(time.perf_counter() - started)
            assert answer.status == 200
            assert answer.json()["model_version"] == "1"
    return took


def test_predictions_continue_and_promote_returns_503_when_registry_fails(
    server: Server, fault: Fault, tmp_path: Path
) -> None:
    health = httpx.get(f"{server.url}/health").json()
    assert (health["model_version"], health["model_source"]) == ("1", "bento-store")
    took = _predict(server, REQUESTS)
    end = time.monotonic() + HEALTH_SECONDS
    while httpx.get(f"{server.url}/health").json()["registry_ok"]:
        assert time.monotonic() < end, "health goes on saying that the registry is there"
        time.sleep(0.2)
    assert httpx.get(f"{server.url}/health").json()["status"] == "degraded"

    started = time.monotonic()
    promoted = _post(server, "/promote", {"version": 2})
    waited = time.monotonic() - started
    took += _predict(server, REQUESTS)
    counts.add(
        promise=PROMISE,
        faults=1,
        requests=1 + len(took),
        acknowledged=len(took),
        lost=promoted.status_code != 503,
    )
    assert (promoted.status_code, promoted.json()["error"]) == (503, "registry_unavailable")
    assert "Retry-After" in promoted.headers
    assert waited < REGISTRY_SECONDS + START_SECONDS
    assert statistics.median(took) < 0.05
    assert httpx.get(f"{server.url}/deployments", headers=server.admin).json()[0]["id"] == 3
    assert list((server.state_dir / "tmp").iterdir()) == []


@pytest.mark.parametrize("fault", ["byte a second"], indirect=False)
def test_train_returns_503_when_registry_is_slow(server: Server, fault: Fault) -> None:
    started = time.monotonic()
    trained = _post(server, "/train", {"family": "boosting", "budget_seconds": 0.5})
    waited = time.monotonic() - started
    counts.add(promise=PROMISE, faults=1, requests=1, lost=trained.status_code != 503)
    assert (trained.status_code, trained.json()["error"]) == (503, "registry_unavailable")
    assert waited < REGISTRY_SECONDS + START_SECONDS
    job = httpx.get(f"{server.url}/train", headers=server.admin).json()
    assert job["state"] == "failed"
    _predict(server, 10)


@pytest.mark.parametrize("fault", ["black hole"], indirect=False)
def test_rollback_works_without_registry_and_alias_follows_later(
    server: Server, fault: Fault
) -> None:
    assert httpx.get(f"{server.url}/deployments", headers=server.admin).json()[0]["id"] == 3
    back = _post(server, "/rollback", {"reason": "without a registry"})
    counts.add(promise=PROMISE, faults=1, requests=1, acknowledged=back.status_code == 200)
    assert back.status_code == 200, back.text
    assert httpx.get(f"{server.url}/health").json()["model_version"] == "seed"
    assert httpx.post(f"{server.url}/predict", json=EXAMPLE).json()["model_version"] == "seed"
    server.stop()

    # The registry is back.
    assert registered_versions.alias_of(server.state_dir) == "1"
    again = Server(server.state_dir, TEST_ALIAS_CHECK_SECONDS="0.5")
    again.start()
    try:
        end = time.monotonic() + 60
        while registered_versions.alias_of(server.state_dir) is not None:
            assert time.monotonic() < end, "the alias still names what is not served"
            time.sleep(0.2)
        assert httpx.get(f"{again.url}/health").json()["model_version"] == "seed"
    finally:
        again.stop()
