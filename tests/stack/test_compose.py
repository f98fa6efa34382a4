"""The stack of `docker-compose.yml`: the main job through real containers, and what may break."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE
from tests.documented_commands import commands_of, scripts
from tests.stack.conftest import Stack, awaited, get, healthy, run

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


def test_interface_that_is_down_is_measured(stack: Stack) -> None:
    def answers() -> list[str]:
        query = {"query": 'probe_success{job="interface"}'}
        found = httpx.get(f"{stack.url('prometheus')}/api/v1/query", params=query).json()
        return [series["value"][1] for series in found["data"]["result"]]

    awaited(lambda: answers() == ["1"], 60, "the interface seems to be down")
    stack.compose("stop", "ui")
    try:
        awaited(lambda: answers() == ["0"], 60, "the interface seems to answer")
    finally:
        stack.compose("start", "ui")


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
        registry = "student_success_registry_up 0.0"
        metrics = f"{stack.url('api')}/metrics"
        awaited(lambda: registry in httpx.get(metrics).text, 60, "the registry seems to answer")
        rolled = admin.post("/rollback", json={"reason": "test"})
        assert rolled.status_code == 200, rolled.text
        assert served(stack) == "seed"
    finally:
        stack.compose("start", "mlflow")
        awaited(lambda: healthy(stack, "mlflow"), 90, "MLflow did not come back")


def backup_metrics(folder: Path) -> dict[str, float]:
    lines = (folder / "student_success_backup.prom").read_text("utf-8").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return {name.removeprefix("student_success_backup_"): float(value) for name, value in pairs}


def test_backup_is_restored_on_an_empty_host(
    stack: Stack, admin: httpx.Client, tmp_path: Path
) -> None:
    session = {"X-Session-Id": "backed-up"}
    assert admin.post("/predict", json=EXAMPLE, headers=session).status_code == 200
    before = admin.get("/history?limit=1000").json()
    deployments = admin.get("/deployments").json()
    (tmp_path / "passphrase").write_text("a passphrase\n")
    environment = {
        **stack.environment,
        "COMPOSE_ENV_FILES": str(stack.env_file),
        "BACKUP_METRICS_FOLDER": str(tmp_path / "metrics"),
        "BACKUP_PASSPHRASE_FILE": str(tmp_path / "passphrase"),
    }
    backup = tmp_path / "backup"
    run("docker/backup", backup, env=environment)
    assert backup_metrics(tmp_path / "metrics")["failed"] == 0
    assert backup_metrics(tmp_path / "metrics")["bytes"] > 10_000
    manifest = (backup / "MANIFEST").read_text("utf-8")
    assert "\nstack single\n" in manifest
    assert f"\nimage api {stack.environment['API_IMAGE']} sha256:" in manifest
    token = stack.admin["Authorization"].removeprefix("Bearer ")
    assert all(token.encode() not in path.read_bytes() for path in backup.iterdir())

    # Later than the backup, so it must be gone afterwards. A damaged backup changes nothing.
    assert admin.post("/predict", json=EXAMPLE).status_code == 200
    later = admin.get("/history?limit=1000").json()
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    with (damaged / "api.tar.gz").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) // 2)
    refused = run("docker/restore", damaged, env=environment, check=False)
    assert refused.returncode != 0
    # Nor does one whose checksums are right.
    run("sh", "-c", "sha256sum *.gz MANIFEST >SHA256SUMS", cwd=damaged)
    refused = run("docker/restore", damaged, env=environment, check=False, seconds=300)
    assert "before anything was replaced" in refused.stderr
    assert admin.get("/history?limit=1000").json() == later

    # Then everything is lost, `.env` too.
    stack.compose("rm", "--stop", "--force", "api", "mlflow")
    for volume in ("api-state", "mlflow"):
        run("docker", "volume", "rm", f"{stack.environment['COMPOSE_PROJECT_NAME']}_{volume}")
    new_host = {**environment, "COMPOSE_ENV_FILES": str(tmp_path / "new" / ".env")}
    (tmp_path / "new").mkdir()
    run("docker/restore", backup, env=new_host, seconds=300)
    assert (tmp_path / "new" / ".env").read_text("utf-8") == stack.env_file.read_text("utf-8")
    assert (tmp_path / "new" / ".env").stat().st_mode & 0o077 == 0
    assert admin.get("/history?limit=1000").json() == before
    assert admin.get("/deployments").json() == deployments
    answer = httpx.get(
        f"{stack.url('mlflow')}/api/2.0/mlflow/model-versions/search", timeout=10
    ).json()
    assert len(answer["model_versions"]) >= 1


def test_backup_that_fails_keeps_the_last_one_and_is_measured(stack: Stack, tmp_path: Path) -> None:
    environment = {
        **stack.environment,
        "COMPOSE_ENV_FILES": str(stack.env_file),
        "BACKUP_METRICS_FOLDER": str(tmp_path / "metrics"),
    }
    run("docker/backup", tmp_path / "backup", env=environment)
    complete = backup_metrics(tmp_path / "metrics")
    files = sorted(path.name for path in (tmp_path / "backup").iterdir())
    stack.compose("stop", "mlflow")
    try:
        failed = run("docker/backup", tmp_path / "backup", env=environment, check=False)
    finally:
        stack.compose("start", "mlflow")
        awaited(lambda: healthy(stack, "mlflow"), 90, "MLflow did not come back")
    assert failed.returncode != 0
    assert backup_metrics(tmp_path / "metrics") == {**complete, "failed": 1}
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == files
    assert "env.enc" not in files
    assert not (tmp_path / "backup.part").exists()


def test_commands_of_the_runbook_run(stack: Stack, admin: httpx.Client) -> None:
    printed = [line for script in scripts("docs/runbook.md") for line in script.lines]
    calls = [line for line in printed if line.startswith("curl") and "job_id=..." not in line]
    assert len(calls) > 3
    commands = commands_of("test_commands_of_the_runbook_run") + calls
    admin.get("/history")
    environment = {
        **stack.environment,
        "COMPOSE_ENV_FILES": str(stack.env_file),
        "ADMIN_TOKEN": stack.admin["Authorization"].removeprefix("Bearer "),
    }
    for command in commands:
        here = command.replace("localhost:8000", stack.url("api").removeprefix("http://"))
        done = run("bash", "-o", "pipefail", "-c", here, env=environment, check=False)
        # Without a match `grep` exits with 1.
        expected = (0, 1) if "| grep" in command else (0,)
        assert done.returncode in expected, f"{command}: {done.stdout} {done.stderr}"
        if command.startswith("curl"):
            answer = json.loads(done.stdout)
            code = answer.get("error") if isinstance(answer, dict) else None
            # After a rollback in an earlier test nothing may be left to roll back.
            assert code in (None, "conflict"), f"{command}: {answer}"
        if "history_commit_failed" in command:
            assert done.stdout == "", "the access log names a route that contains the word"
        awaited(lambda: ready(stack), 60, f"the API does not answer after {command}")


def test_alert_made_by_hand_reaches_alertmanager(stack: Stack) -> None:
    (command,) = commands_of("test_alert_made_by_hand_reaches_alertmanager")
    environment = {**stack.environment, "COMPOSE_ENV_FILES": str(stack.env_file)}
    run("bash", "-c", command, env=environment)
    alerts = httpx.get(f"{stack.url('alertmanager')}/api/v2/alerts", timeout=10).json()
    assert "Test" in [alert["labels"]["alertname"] for alert in alerts]


def test_mlflow_gc_of_the_runbook_erases_deleted_runs(stack: Stack) -> None:
    (command,) = commands_of("test_mlflow_gc_of_the_runbook_erases_deleted_runs")
    api = f"{stack.url('mlflow')}/api/2.0/mlflow"
    with httpx.Client(timeout=30) as client:
        body = {"name": "to be erased"}
        experiment = client.post(f"{api}/experiments/create", json=body).json()["experiment_id"]
        body = {"experiment_id": experiment}
        created = client.post(f"{api}/runs/create", json=body).json()["run"]["info"]
        found = {"run_id": created["run_id"]}
        assert client.get(f"{api}/runs/get", params=found).status_code == 200
        client.post(f"{api}/runs/delete", json=found)
        environment = {**stack.environment, "COMPOSE_ENV_FILES": str(stack.env_file)}
        run("bash", "-c", command, env=environment)
        assert client.get(f"{api}/runs/get", params=found).status_code == 404


def test_pruning_of_the_runbook_keeps_the_image_for_a_way_back(stack: Stack) -> None:
    commands = commands_of("test_pruning_of_the_runbook_keeps_the_image_for_a_way_back")
    assert len(commands) == 2
    before = f"student-success-before:{os.getpid()}"
    content = "FROM scratch\nLABEL student-success-test=before\n"
    # fmt: off
    run("docker", "build", "--tag", before, "-", input=content)
    # fmt: on
    try:
        for command in commands:
            # Limited, so that nothing else on this machine is deleted.
            if command.startswith("docker image"):
                command += " --filter label=student-success-test=before"
                run("bash", "-c", command)
            else:
                assert command == "docker builder prune --force"
        run("docker", "image", "inspect", before)
    finally:
        run("docker", "image", "rm", before, check=False)


def test_stopping_keeps_the_volumes(stack: Stack) -> None:
    project = stack.environment["COMPOSE_PROJECT_NAME"]
    (command,) = commands_of("test_stopping_keeps_the_volumes")
    run("bash", "-c", command, env=stack.environment, seconds=180)
    assert not run("docker", "ps", "--quiet", "--filter", f"name={project}").stdout
    volumes = run("docker", "volume", "ls", "--quiet").stdout.split()
    assert {f"{project}_api-state", f"{project}_mlflow"} <= set(volumes)
    assert (ROOT / "docker-compose.yml").is_file()
