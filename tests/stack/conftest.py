"""Containers, for the tests that need an engine. `make test-stack` runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from student_success.cli.dotenv import STACK_SECRETS, add_secrets
from student_success.core.paths import ROOT
from tests.server import free_port

API_IMAGE = "student-success:test"
STANDINS = ROOT / "tests" / "stack" / "standins"
# Images that no package index holds, and so no machine without an image registry: what stands in.
STANDIN_OF = {
    "prometheus": "PROMETHEUS_IMAGE",
    "alertmanager": "ALERTMANAGER_IMAGE",
    "blackbox-exporter": "BLACKBOX_EXPORTER_IMAGE",
    "node-exporter": "NODE_EXPORTER_IMAGE",
    "postgres": "POSTGRES_IMAGE",
    "proxy": "PROXY_IMAGE",
    "caddy": "CADDY_IMAGE",
    "s3": "S3_IMAGE",
}
BUILD_SECONDS = 900


def run(
    *command: str | Path, seconds: float = 120, check: bool = True, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a program from the checkout; show what it said where it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": seconds, **options},
    )
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def engine() -> None:
    """Ask for a container engine, or skip and say why."""
    if not os.environ.get("TEST_STACK"):
        pytest.skip("builds images and starts containers for minutes: run `make test-stack`")
    if shutil.which("docker") is None or run("docker", "info", check=False).returncode:
        pytest.skip("NO CONTAINER ENGINE ANSWERS: nothing of the stack was tested")
    run("docker", "compose", "version")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """Build the API's image as `make image` does."""
    run("docker/build-image", API_IMAGE, seconds=BUILD_SECONDS)
    return API_IMAGE


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that shows a figure, whether the test passes or not."""

    def told(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n    {text} ")

    return told


def get(url: str, **options: object) -> httpx.Response | None:
    """Ask once; None where nobody answers."""
    try:
        return httpx.get(url, timeout=5, **options)  # type: ignore[arg-type]
    except httpx.HTTPError:
        return None


def awaited(what: Callable[[], object], seconds: float, said: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, said
        time.sleep(0.1)


@dataclass
class Container:
    """One container of the API."""

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        answer = get(f"{self.url}/readyz")
        return answer is not None and answer.status_code == 200

    def inspect(self, path: str) -> str:
        return run("docker", "inspect", "--format", f"{{{{{path}}}}}", self.name).stdout.strip()


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., Container]]:
    """Return a function that starts a container as the README says; they end with the test."""
    names: list[str] = []

    def started(*options: str, **settings: str) -> Container:
        port = free_port()
        name = f"student-success-test-{os.getpid()}-{len(names)}"
        names.append(name)
        given = [f"--env={key}={value}" for key, value in settings.items()]
        # fmt: off
        run("docker", "run", "--detach", "--name", name, "--read-only", "--tmpfs=/tmp",
            f"--publish=127.0.0.1:{port}:8000", *given, *options, image)
        # fmt: on
        return Container(name, port)

    yield started
    for name in names:
        run("docker", "rm", "--force", "--volumes", name, check=False)


@dataclass
class Stack:
    """The compose project, under another name and on other ports."""

    scale: bool
    environment: dict[str, str]
    env_file: Path
    ports: dict[str, int] = field(default_factory=dict)

    def compose(
        self, *command: str, check: bool = True, seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        files = ("-f", "docker-compose.yml", "-f", "docker-compose.scale.yml", "--profile", "scale")
        return run(
            *("docker", "compose", "--env-file", self.env_file, *(files if self.scale else ())),
            *command,
            env=self.environment,
            check=check,
            seconds=seconds,
        )

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def admin(self) -> dict[str, str]:
        lines = self.env_file.read_text("utf-8").splitlines()
        secrets = dict(line.split("=", 1) for line in lines)
        return {"Authorization": f"Bearer {secrets['ADMIN_TOKEN']}"}

    def up(self, *services: str) -> None:
        # fmt: off
        done = self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "180",
                            *services, check=False)
        # fmt: on
        logs = self.compose("logs", "--tail", "30", check=False).stdout
        assert done.returncode == 0, f"{done.stderr}\n{logs}"

    def services(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").stdout.splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "30", check=False)


def healthy(stack: Stack, service: str) -> bool:
    return any(
        found["Service"] == service and found["Health"] == "healthy" for found in stack.services()
    )


@pytest.fixture(scope="session")
def make_stack(
    image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Stack]]:
    """Return a function that prepares the stack, with stand-ins where nothing can be pulled."""
    standins = {}
    for service, variable in STANDIN_OF.items():
        tag = f"student-success-standin/{service}:test"
        run("docker", "build", "--target", service, "--tag", tag, STANDINS, seconds=BUILD_SECONDS)
        standins[variable] = tag
    made: list[Stack] = []

    def prepared(*, scale: bool = False, **settings: str) -> Stack:
        folder = tmp_path_factory.mktemp("stack")
        ports = {
            name: free_port() for name in ("api", "ui", "mlflow", "prometheus", "alertmanager")
        }
        stack = Stack(
            scale=scale,
            env_file=folder / ".env",
            ports=ports,
            environment={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "COMPOSE_PROJECT_NAME": f"student-success-test-{os.getpid()}-{len(made)}",
                "API_IMAGE": image,
                "UI_IMAGE": "student-success-ui:test",
                "MLFLOW_IMAGE": "student-success-mlflow:test",
                "PORT": str(ports["api"]),
                "UI_PORT": str(ports["ui"]),
                "MLFLOW_UI_PORT": str(ports["mlflow"]),
                "PROMETHEUS_PORT": str(ports["prometheus"]),
                "ALERTMANAGER_PORT": str(ports["alertmanager"]),
                "TRAIN_BUDGET_SECONDS": "1",
                **standins,
                **settings,
            },
        )
        made.append(stack)
        add_secrets(stack.env_file, STACK_SECRETS)
        stack.compose("build", "ui", "mlflow", seconds=BUILD_SECONDS)
        return stack

    yield prepared
    for stack in made:
        stack.down()
