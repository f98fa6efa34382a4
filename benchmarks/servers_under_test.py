"""The servers that are measured: this service, empty servers as limits, and other ways to serve."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from student_success.core.paths import ROOT

SERVER_CORE = 0
BOTH_CORES = "0,1"
READY_SECONDS = 120.0


@dataclass(frozen=True)
class ServerUnderTest:
    """One way to serve a prediction.

    Attributes
    ----------
    command
        Returns the command line for a port.
    path
        Route of the predictions.
    wrap
        Returns the request body for a pupil.
    complete
        Whether the server requires both period grades.
    cores
        Cores that it may run on, as `taskset` takes them.
    slow
        Whether it answers so few requests that it must be measured for longer.
    quick
        Whether a quick run measures it as well.
    """

    name: str
    title: str
    command: Callable[[int], Sequence[str]]
    path: str = "/predict"
    environment: Mapping[str, str] = field(default_factory=dict)
    wrap: Callable[[dict[str, Any]], Any] = lambda pupil: pupil
    complete: bool = False
    cores: str = f"{SERVER_CORE}"
    slow: bool = False
    quick: bool = True


def _bento(service: str) -> Callable[[int], Sequence[str]]:
    return lambda port: [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        f"benchmarks.servers.{service}",
        f"--port={port}",
        "--host=127.0.0.1",
    ]


def _uvicorn(app: str) -> Callable[[int], Sequence[str]]:
    return lambda port: [
        sys.executable,
        "-m",
        "uvicorn",
        f"benchmarks.servers.{app}:app",
        f"--port={port}",
        "--no-access-log",
    ]


def this_service(*, workers: int = 1, **settings: str) -> ServerUnderTest:
    """Return this project's service."""
    return ServerUnderTest(
        "ours" if workers == 1 else f"ours-{workers}",
        "this service" if workers == 1 else f"this service, {workers} workers",
        lambda port: [sys.executable, "-m", "student_success", "serve"],
        environment={
            "WORKERS": str(workers),
            "ADMIN_TOKEN": "bench",
            "UI_ENABLED": "false",
            "LOG_FORMAT": "json",
            **settings,
        },
        cores=f"{SERVER_CORE}" if workers == 1 else BOTH_CORES,
    )


def servers_under_test() -> list[ServerUnderTest]:
    """Return every server that is measured with one worker, this service first."""
    return [
        this_service(),
        ServerUnderTest("empty-fastapi", "empty FastAPI route", _uvicorn("empty_fastapi")),
        ServerUnderTest(
            "empty-bento",
            "empty BentoML method, as installed",
            _bento("empty_bento:EmptyBento"),
            wrap=lambda _: {},
        ),
        ServerUnderTest(
            "empty-bento-lean",
            "empty BentoML method, async, our server settings",
            _bento("empty_bento_lean:EmptyBentoLean"),
            wrap=lambda _: {},
        ),
        ServerUnderTest(
            "plain-bento",
            "plain BentoML on our scikit-learn pipeline",
            _bento("plain_bento:PlainBento"),
            quick=False,
        ),
        ServerUnderTest(
            "mlflow",
            "mlflow models serve, our champion",
            lambda port: [
                sys.executable,
                "-m",
                "mlflow",
                "models",
                "serve",
                "--model-uri=champion-mlflow",
                "--env-manager=local",
                "--host=127.0.0.1",
                f"--port={port}",
                "--workers=1",
            ],
            path="/invocations",
            wrap=lambda pupil: {"dataframe_records": [pupil]},
            complete=True,
        ),
        # Its forest starts a thread for each core, and is slower with two cores than with one.
        ServerUnderTest(
            "original",
            "the replaced application's way, both cores",
            _uvicorn("original"),
            complete=True,
            cores=BOTH_CORES,
            slow=True,
        ),
        ServerUnderTest(
            "original-1",
            "the replaced application's way, one core",
            _uvicorn("original"),
            complete=True,
            slow=True,
            quick=False,
        ),
    ]


@dataclass
class RunningServer:
    """A server that answers requests.

    Attributes
    ----------
    ready_seconds
        Time from the start to the first response.
    """

    server: ServerUnderTest
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float

    @property
    def url(self) -> str:
        """Address of the predictions."""
        return f"http://127.0.0.1:{self.port}{self.server.path}"

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def processor_seconds(self) -> float:
        """Return the processor time of all its processes."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def resident_mb(self) -> float:
        """Return the memory of all its processes, in MB; a shared page counts once (PSS)."""
        return self._sum(lambda process: process.memory_full_info().pss) / 1e6

    def _sum(self, figure: Callable[[psutil.Process], float]) -> float:
        """Add up a figure of each process; a process may end meanwhile."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                total += figure(process)
        return total


@contextlib.contextmanager
def running(server: ServerUnderTest, folder: Path) -> Iterator[RunningServer]:
    """Run a server for the block, pinned to its cores.

    Parameters
    ----------
    server
        What to start.
    folder
        Folder for its log and its state.

    Raises
    ------
    RuntimeError
        If it does not answer within `READY_SECONDS`.
    """
    port = _free_port()
    home = folder / f"home-{server.name}"
    home.mkdir(exist_ok=True)
    log = (folder / f"{server.name}.log").open("ab")
    started = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", server.cores, *server.command(port)],
        cwd=folder if server.name == "mlflow" else ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # `mlflow models serve` looks for uvicorn on the PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BENCH_FOLDER": str(folder),
            "STATE_DIR": str(home),
            "PORT": str(port),
            "BENTOML_HOME": str(home / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **server.environment,
        },
        stdout=log,
        stderr=log,
    )
    running_server = RunningServer(server, port, process, 0.0)
    try:
        _wait_for_response(running_server)
        running_server.ready_seconds = time.perf_counter() - started
        yield running_server
    finally:
        processes = running_server.processes()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        for remaining in processes:
            with contextlib.suppress(psutil.Error):
                remaining.kill()
        process.wait(10)
        log.close()


def _wait_for_response(running_server: RunningServer) -> None:
    """Wait until the server answers with any status but 503."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if running_server.process.poll() is not None:
            break
        try:
            address = f"http://127.0.0.1:{running_server.port}/readyz"
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError as response:
            if response.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{running_server.server.name} did not start; see its log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
