"""Start several servers with one database and one registry, as on several machines."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load import Load, single_predictions
from student_success.core.subprocesses import die_with_parent
from student_success.domain.students import EXAMPLE
from tests.server import Server, free_port

READY_SECONDS = 60.0


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run MLflow's server for the block; its address."""
    port = free_port()
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host=127.0.0.1",
                f"--port={port}",
                "--workers=1",
                f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
                f"--artifacts-destination={folder}/artifacts",
            ],
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            time.sleep(0.1)
        yield url
    finally:
        # Its worker ends with it.
        process.terminate()
        process.wait(20)


@dataclass
class Replicas:
    """Servers that have nothing in common but the database and the registry."""

    servers: list[Server]

    def start(self) -> None:
        for server in self.servers:
            server.start(wait=False)
        for server in self.servers:
            server.wait_ready()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def versions(self) -> list[str]:
        """Ask each which version it answers with."""
        answers = [
            httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=10) for server in self.servers
        ]
        return [answer.json()["model_version"] for answer in answers]


def replicas(folder: Path, number: int, **settings: str) -> Replicas:
    return Replicas([Server(folder / f"replica-{n}", **settings) for n in range(number)])


def load_of_replicas(servers: list[Server], *, clients: int = 4) -> Load:
    """Return a load of single predictions on every server."""
    return Load(
        [server.port for server in servers],
        clients=clients,
        requests=single_predictions,
        pause_after_503=0.05,
    )
