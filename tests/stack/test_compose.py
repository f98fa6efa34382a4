"""The stack of `docker-compose.yml`: the main job through real containers, and what may break."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from student_success.core.settings import ROOT
from student_success.domain.students import EXAMPLE
from tests.stack.conftest import Stack, awaited, get, run

pytestmark = pytest.mark.timeout(900)

# What has a source on a machine without an image registry; Grafana and Uptime Kuma have none.
SERVICES = (
    *("api", "ui", "mlflow", "prometheus", "alertmanager", "node-exporter"),
    "blackbox-exporter",
)


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    made = make_stack()
    made.up(*SERVICES)
    yield made
    made.down()


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url("api"), headers=stack.admin, timeout=300) as client:
        yield client


def healthy(stack: Stack, service: str) -> bool:
    return any(
        found["Service"] == service and found["Health"] == "healthy" for found in stack.services()
    )


def ready(stack: Stack) -> bool:
    answer = get(f"{stack.url('api')}/readyz")
    return answer is not None and answer.status_code == 200


def served(stack: Stack) -> str:
    answer = httpx.post(f"{stack.url('api')}/predict", json=EXAMPLE, timeout=10)
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model_version"]
    return version


def test_stack_refuses_to_start_without_secrets(engine: None, tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    environment = {name: os.environ[name] for name in ("PATH", "HOME")}
    command = ("docker", "compose", "--env-file", str(tmp_path / ".env"))
    done = run(*command, "config", check=False, env=environment)
    assert done.returncode != 0
    assert "run `make up`" in done.stderr


def test_everything_is_healthy_and_bound_to_loopback(stack: Stack) -> None:
    for service in SERVICES:
        assert healthy(stack, service), service
    ports = run("docker", "ps", "--format", "{{.Ports}}").stdout.split()
    assert not [port for port in ports if port.startswith(("0.0.0.0:", ":::", "[::]:"))]


def test_pages_and_registry_answer(stack: Stack) -> None:
    assert httpx.get(f"{stack.url('ui')}/fr/", timeout=10).status_code == 200
    search = f"{stack.url('mlflow')}/api/2.0/mlflow/registered-models/search?max_results=1"
    assert httpx.get(search, timeout=10).status_code == 200
    sent_to = httpx.get(f"{stack.url('api')}/", headers={"Accept": "text/html"}).headers["Location"]
    assert sent_to.startswith(stack.url("ui").replace("127.0.0.1", "localhost"))


def test_prometheus_measures_all_of_it(stack: Stack) -> None:
    def up() -> set[str]:
        answer = httpx.get(f"{stack.url('prometheus')}/api/v1/query", params={"query": "up == 1"})
        return {series["metric"]["job"] for series in answer.json()["data"]["result"]}

    awaited(
        lambda: up() == {"api", "node", "prometheus", "alertmanager", "interface"},
        60,
        f"only {up()}",
    )
    rules = httpx.get(f"{stack.url('prometheus')}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}


def test_candidate_is_trained_promoted_and_outlives_a_crash(
    stack: Stack, admin: httpx.Client
) -> None:
    assert served(stack) == "seed"
    trained = admin.post("/train", json={})
    assert trained.status_code == 200, trained.text
    version = str(trained.json()["version"])
    body = {"version": int(version), "allow_synthetic": True}
    promoted = admin.post("/promote", json=body)
    assert promoted.status_code == 200, promoted.text
    assert served(stack) == version
    named = httpx.get(
        f"{stack.url('mlflow')}/api/2.0/mlflow/registered-models/alias",
        params={"name": "student_success_model", "alias": "meilleur"},
    ).json()
    assert named["model_version"]["version"] == version

    # As a crash, not as an operator: the restart policy has to bring it back.
    container = stack.compose("ps", "--quiet", "api").stdout.strip()
    pid = int(run("docker", "inspect", "--format", "{{.State.Pid}}", container).stdout)
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        os.kill(pid, signal.SIGKILL)
        awaited(lambda: not ready(stack), 10, "still answers")
    else:
        stack.compose("restart", "api")
    awaited(lambda: ready(stack), 60, "did not come back")
    assert served(stack) == version


def test_predictions_and_rollback_need_no_registry(stack: Stack, admin: httpx.Client) -> None:
    before = served(stack)
    stack.compose("stop", "mlflow")
    try:
        assert served(stack) == before
        stack.compose("restart", "api")
        awaited(lambda: ready(stack), 60, "does not start without MLflow")
        assert served(stack) == before
        rolled = admin.post("/rollback", json={"reason": "test"})
        assert rolled.status_code == 200, rolled.text
        assert served(stack) == "seed"
    finally:
        stack.compose("start", "mlflow")
        awaited(lambda: healthy(stack, "mlflow"), 90, "MLflow did not come back")


def test_backup_is_restored_on_empty_volumes(
    stack: Stack, admin: httpx.Client, tmp_path: Path
) -> None:
    session = {"X-Session-Id": "backed-up"}
    assert admin.post("/predict", json=EXAMPLE, headers=session).status_code == 200
    before = admin.get("/history?limit=1000").json()
    deployments = admin.get("/deployments").json()
    environment = {**stack.environment, "COMPOSE_ENV_FILES": str(stack.env_file)}
    run("docker/backup", tmp_path / "backup", env=environment)

    # Later than the backup, so it must be gone afterwards; and then everything is lost.
    assert admin.post("/predict", json=EXAMPLE).status_code == 200
    stack.compose("rm", "--stop", "--force", "api", "mlflow")
    for volume in ("api-state", "mlflow"):
        run("docker", "volume", "rm", f"{stack.environment['COMPOSE_PROJECT_NAME']}_{volume}")
    stack.up("api", "mlflow")
    assert admin.get("/history?limit=1000").json() == []

    run("docker/restore", tmp_path / "backup", env=environment, seconds=300)
    assert admin.get("/history?limit=1000").json() == before
    assert admin.get("/deployments").json() == deployments
    answer = httpx.get(
        f"{stack.url('mlflow')}/api/2.0/mlflow/model-versions/search", timeout=10
    ).json()
    assert len(answer["model_versions"]) >= 1


def test_stopping_keeps_the_volumes(stack: Stack) -> None:
    project = stack.environment["COMPOSE_PROJECT_NAME"]
    run("make", "down", env=stack.environment, seconds=180)
    assert not run("docker", "ps", "--quiet", "--filter", f"name={project}").stdout
    volumes = run("docker", "volume", "ls", "--quiet").stdout.split()
    assert {f"{project}_api-state", f"{project}_mlflow"} <= set(volumes)
    assert (ROOT / "docker-compose.yml").is_file()
