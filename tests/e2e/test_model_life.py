"""Train, promote and roll back with two workers, a real MLflow on SQLite and a real training."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import Load, single_predictions
from student_success.core.metrics_buffer import FLUSH_SECONDS
from student_success.domain.students import EXAMPLE
from tests.server import Server, serving

pytestmark = pytest.mark.e2e

FOLLOW_SECONDS = 2.0
MINIMUM_ANSWERS = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("life"),
        WORKERS="2",
        TEST_ALIAS_CHECK_SECONDS="1",
        # A moved alias may need a comparison, which takes minutes on a busy machine.
        REGISTRY_TIMEOUT_SECONDS="240",
    ) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=300) as client:
        yield client


def versions_after(load: Load, moment: float) -> set[str]:
    """Return the versions of the answers since then, once there are enough of them."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        versions = [
            exchange.response.get("model_version", "")
            for exchange in load.result.exchanges
            if exchange.ended > moment
        ]
        if len(versions) >= MINIMUM_ANSWERS:
            return set(versions)
        time.sleep(0.1)
    raise AssertionError("the load came to a halt")


def load_on_new_connections(server: Server) -> Load:
    """Return a load that changes connections often, so that both workers get their share."""
    return Load(
        server.port,
        clients=4,
        requests=single_predictions,
        requests_per_connection=5,
        keep_exchanges=True,
    )


def served_by_all(server: Server, version: str) -> bool:
    """Predict on many new connections, so that both workers answer."""
    versions = {
        httpx.post(f"{server.url}/predict", json=EXAMPLE).json()["model_version"] for _ in range(20)
    }
    return versions == {version}


def admin(
    http: httpx.Client, server: Server, method: str, path: str, **body: Any
) -> httpx.Response:
    return http.request(method, path, headers=server.admin, json=body or None)


def test_predict_uses_the_seed_model_on_a_fresh_state(server: Server, http: httpx.Client) -> None:
    answer = http.post("/predict", json=EXAMPLE, headers={"X-Session-Id": "demo-001"})
    assert answer.status_code == 200
    prediction = answer.json()
    assert prediction["model_version"] == prediction["mlflow_model_version"] == "seed"
    assert prediction["session_id"] == "demo-001"
    assert 8 <= prediction["predicted_G3"] <= 11
    listed = http.get("/history", params={"limit": 50, "session_id": "demo-001"}).json()
    assert [row["prediction_id"] for row in listed] == [prediction["prediction_id"]]
    assert listed[0]["inputs_json"] == EXAMPLE


def test_predict_works_for_a_client_of_the_original_application(http: httpx.Client) -> None:
    answer = http.post("/predict", params={"session_id": "form-7"}, json=EXAMPLE)
    assert answer.status_code == 200
    rows = http.get("/history", params={"limit": 50, "session_id": "form-7"}).json()
    assert len(rows) == 1
    assert set(rows[0]) >= {
        "id",
        "prediction_id",
        "session_id",
        "timestamp",
        "inputs_json",
        "predicted_G3",
        "decision",
        "model_version",
        "actual_G3",
    }


def test_train_promote_and_roll_back_without_a_failed_request(
    server: Server, http: httpx.Client
) -> None:
    trained = admin(http, server, "POST", "/train", family="boosting", budget_seconds=5)
    assert trained.status_code == 200, trained.text
    candidate = trained.json()
    assert candidate["dataset"]["synthetic"] is True
    assert candidate["dataset"]["name"] == "sample.csv"
    assert http.get("/health").json()["model_version"] == "seed", "training must not deploy"
    assert http.get("/train", params={"job_id": candidate["job_id"]}).status_code == 401
    job = admin(http, server, "GET", f"/train?job_id={candidate['job_id']}").json()
    assert job["state"] == "done"
    assert job["result"]["version"] == candidate["version"]

    version = str(candidate["version"])
    refused = admin(http, server, "POST", "/promote", version=candidate["version"])
    failed = {item["name"] for item in refused.json()["details"] if not item["passed"]}
    assert (refused.status_code, failed) == (409, {"synthetic_data"})
    assert "synthetic_model" not in http.post("/predict", json=EXAMPLE).json()
    asked = {"version": candidate["version"], "allow_synthetic": True}
    with load_on_new_connections(server) as load:
        promoted = admin(http, server, "POST", "/promote", **asked)
        answered = time.monotonic()
        assert promoted.status_code == 200, promoted.text
        assert versions_after(load, answered + FOLLOW_SECONDS) == {version}
        assert http.post("/predict", json=EXAMPLE).json()["synthetic_model"] is True
        batch = http.post("/predict_batch", json={"students": [EXAMPLE]}).json()["predictions"]
        assert batch[0]["synthetic_model"] is True

        rolled_back = admin(http, server, "POST", "/rollback", reason="end of the test")
        answered = time.monotonic()
        assert rolled_back.json() == {
            "status": "rolled_back",
            "version": "seed",
            "previous_version": version,
        }
        assert versions_after(load, answered + FOLLOW_SECONDS) == {"seed"}
    assert set(load.result.statuses) == {200}
    assert not load.result.lost_connections
    answered_by = {exchange.response["model_version"] for exchange in load.result.exchanges}
    assert answered_by == {"seed", version}

    evidence = promoted.json()["evidence"]
    assert evidence["passed"] is True
    assert {"mae", "r2", "no_leak"} <= {condition["name"] for condition in evidence["conditions"]}
    rows = admin(http, server, "GET", "/deployments").json()
    assert [(row["action"], row["from_version"], row["to_version"]) for row in rows] == [
        ("rollback", version, "seed"),
        ("promote", "seed", version),
    ]
    assert rows[0]["reason"] == "end of the test"


def test_alias_in_mlflow_equals_the_served_version(server: Server) -> None:
    """The promotion set the alias; after the rollback to the seed there is none."""
    path = server.state_dir / "mlflow.db"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            aliases = database.execute("SELECT alias, version FROM registered_model_aliases")
            rows = aliases.fetchall()
        if not rows:
            break
        time.sleep(0.5)
    assert rows == []


def test_metrics_of_two_workers_add_up(server: Server, http: httpx.Client) -> None:
    def total() -> float:
        families = text_string_to_metric_families(http.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "student_success_predictions_total"
        )

    def stable_total() -> float:
        before = -1.0
        while (now := total()) != before:
            before = now
            time.sleep(2 * FLUSH_SECONDS)
        return now

    before = stable_total()
    for _ in range(20):
        assert httpx.post(f"{server.url}/predict", json=EXAMPLE).status_code == 200
    assert stable_total() == before + 20
    samples = [
        sample
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("student_success_")
    ]
    assert not [sample.name for sample in samples if "pid" in sample.labels]
    served = [
        s.labels["model_version"] for s in samples if s.name.endswith("model_info") and s.value
    ]
    assert served == ["seed"]


def test_promote_lists_every_condition_and_changes_nothing_when_refused(
    server: Server, http: httpx.Client
) -> None:
    before = admin(http, server, "GET", "/deployments").json()
    asked = {"version": 1, "max_mae": 0.01, "allow_synthetic": True}
    refused = admin(http, server, "POST", "/promote", **asked)
    assert refused.status_code == 409
    body = refused.json()
    assert body["error"] == "promotion_refused"
    failed = {item["name"]: item for item in body["details"] if not item["passed"]}
    assert set(failed) == {"mae"}
    assert failed["mae"]["limit"] == 0.01
    assert len(body["details"]) > 5, "conditions that passed are listed too"
    assert admin(http, server, "GET", "/deployments").json() == before


def test_promote_refuses_an_unknown_version_and_another_alias(
    server: Server, http: httpx.Client
) -> None:
    missing = admin(http, server, "POST", "/promote", version=999)
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
    other = admin(http, server, "POST", "/promote", version=1, alias="prod")
    assert (other.status_code, other.json()["error"]) == (422, "validation_error")


def test_rollback_is_a_conflict_when_nothing_is_left_to_roll_back(
    server: Server, http: httpx.Client
) -> None:
    answer = admin(http, server, "POST", "/rollback", reason="again")
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")


def test_train_and_promote_are_refused_while_a_training_runs(
    server: Server, http: httpx.Client
) -> None:
    started = admin(http, server, "POST", "/train", wait=False, family="boosting")
    assert started.status_code == 202
    job_id = started.json()["job_id"]
    second = admin(http, server, "POST", "/train", wait=False)
    assert (second.status_code, second.json()["error"]) == (409, "busy")
    during = admin(http, server, "POST", "/promote", version=1)
    assert (during.status_code, during.json()["error"]) == (409, "busy")
    for process in server.processes():
        if "training" in process.cmdline():
            process.kill()
    for _ in range(100):
        job = admin(http, server, "GET", f"/train?job_id={job_id}").json()
        if job["state"] != "running":
            break
        time.sleep(0.1)
    assert job["state"] == "failed"
    assert "SIGKILL" in job["error"]
    assert http.post("/predict", json=EXAMPLE).status_code == 200


def test_alias_moved_in_mlflow_is_verified_and_deployed(server: Server, http: httpx.Client) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{server.state_dir / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    # A move of the alias cannot allow made-up data in place of real pupils, so that it is compared
    # with a version of the same data.
    promoted = admin(http, server, "POST", "/promote", version=1, allow_synthetic=True)
    assert promoted.status_code == 200, promoted.text
    first = client.get_model_version("student_success_model", "1")
    second = client.create_model_version(
        "student_success_model", source=first.source, run_id=first.run_id, tags=first.tags
    )
    version = str(second.version)
    client.set_registered_model_alias("student_success_model", "meilleur", version)
    end = time.monotonic() + 250
    while not served_by_all(server, version) and time.monotonic() < end:
        time.sleep(0.5)
    rows = admin(http, server, "GET", "/deployments").json()
    moved = (rows[0]["action"], rows[0]["actor"], rows[0]["to_version"])
    assert moved == ("adopt", "mlflow", version)
    assert rows[0]["evidence"]["passed"] is True


def test_restart_serves_the_newest_deployment_when_the_registry_is_unavailable(
    server: Server, http: httpx.Client
) -> None:
    server.stop()
    (server.state_dir / "mlflow.db").rename(server.state_dir / "mlflow.moved")
    server.start()
    health = http.get("/health").json()
    assert (health["model_version"], health["model_source"]) == ("2", "bento-store")
    back = admin(http, server, "POST", "/rollback", reason="without MLflow")
    assert back.status_code == 200
    assert http.get("/health").json()["model_version"] == "1"
    server.stop()
    (server.state_dir / "mlflow.moved").rename(server.state_dir / "mlflow.db")
    server.start()


def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    server = Server(tmp_path, WORKERS="2")
    server.start()
    try:
        workers = server.workers()
        assert len(workers) == 2
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        gone, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive
        assert len(gone) == 2
    finally:
        for process in workers:
            if process.is_running():
                process.kill()
