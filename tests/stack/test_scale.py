"""Profile `scale`: replicas behind the proxy, on PostgreSQL and an S3-compatible store."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.stack.conftest import Stack, awaited, run

pytestmark = pytest.mark.timeout(900)

SERVICES = ("api", "mlflow", "proxy", "postgres", "s3")
FOLLOW_SECONDS = 30


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    made = make_stack(scale=True, API_REPLICAS="2")
    made.up(*SERVICES)
    yield made
    made.down()


def replicas(stack: Stack) -> list[str]:
    return stack.compose("ps", "--quiet", "api").stdout.split()


def versions(stack: Stack) -> Counter[str]:
    """Ask on many connections, so that every replica answers."""
    answers = [httpx.post(f"{stack.url('api')}/predict", json=EXAMPLE) for _ in range(20)]
    return Counter(answer.json().get("model_version") for answer in answers)


def test_a_promotion_reaches_every_replica(stack: Stack) -> None:
    assert len(replicas(stack)) == 2
    with httpx.Client(base_url=stack.url("api"), headers=stack.admin, timeout=300) as admin:
        trained = admin.post("/train", json={})
        assert trained.status_code == 200, trained.text
        version = str(trained.json()["version"])
        body = {"version": int(version), "allow_synthetic": True}
        promoted = admin.post("/promote", json=body)
        assert promoted.status_code == 200, promoted.text
    awaited(lambda: set(versions(stack)) == {version}, FOLLOW_SECONDS, "a replica did not follow")


def test_history_is_in_postgres_and_the_artefact_in_the_store(stack: Stack) -> None:
    # fmt: off
    rows = stack.compose("exec", "-T", "postgres", "psql", "-qtAU", "student_success",
                         "student_success", "-c", "select count(*) from inference_logs").stdout
    # fmt: on
    assert int(rows) >= 20
    count = (
        "import boto3, os\n"
        "client = boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])\n"
        "print(client.list_objects_v2(Bucket='mlflow')['KeyCount'])"
    )
    listed = stack.compose("exec", "-T", "mlflow", "python", "-c", count).stdout
    assert int(listed) > 5


def test_backup_of_databases_and_artefacts_is_restored_on_an_empty_host(
    stack: Stack, tmp_path: Path
) -> None:
    environment = {
        **stack.environment,
        "SCALE": "1",
        "COMPOSE_ENV_FILES": str(stack.env_file),
        "BACKUP_METRICS_FOLDER": str(tmp_path / "metrics"),
    }
    with httpx.Client(base_url=stack.url("api"), headers=stack.admin, timeout=300) as admin:
        before = admin.get("/history?limit=1000").json()
        deployments = admin.get("/deployments").json()
        run("docker/backup", tmp_path / "backup", env=environment)
        assert admin.post("/predict", json=EXAMPLE).status_code == 200
        rolled_back = admin.post("/rollback", json={"reason": "later than the backup"})
        assert rolled_back.status_code == 200, rolled_back.text
    wrong = {name: value for name, value in environment.items() if name != "SCALE"}
    refused = run("docker/restore", tmp_path / "backup", env=wrong, check=False)
    assert refused.returncode == 2
    assert "set SCALE" in refused.stderr

    # On the host that lost its database only; then on one that lost everything.
    run("docker/restore", tmp_path / "backup", env=environment, seconds=300)
    check_restored(stack, before, deployments)
    stack.compose("down", "--volumes", "--timeout", "40")
    run("docker/restore", tmp_path / "backup", env=environment, seconds=400)
    stack.up(*SERVICES)
    check_restored(stack, before, deployments)


def check_restored(stack: Stack, history: list[Any], deployments: list[Any]) -> None:
    """Compare what the API answers; its version comes from the restored artefact store."""
    with httpx.Client(base_url=stack.url("api"), headers=stack.admin, timeout=60) as admin:
        assert admin.get("/history?limit=1000").json() == history
        assert admin.get("/deployments").json() == deployments
    served = deployments[0]["to_version"]
    awaited(lambda: set(versions(stack)) == {served}, FOLLOW_SECONDS, "the version is not served")


def test_losing_a_replica_loses_no_prediction(stack: Stack) -> None:
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses[httpx.post(f"{stack.url('api')}/predict", json=EXAMPLE).status_code] += 1

    client = threading.Thread(target=ask)
    client.start()
    time.sleep(1)
    # Stopped as in an upgrade: it finishes what it has, and the proxy sends the rest elsewhere.
    run("docker", "stop", "--time", "40", replicas(stack)[0])
    time.sleep(4)
    stop.set()
    client.join()
    assert statuses[200] > 20
    assert set(statuses) == {200}


def test_metrics_are_not_shown_to_the_outside(stack: Stack) -> None:
    assert httpx.get(f"{stack.url('api')}/metrics").status_code == 404
