"""The servers that are measured: ourselves, the limits and the peers."""

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

from student_success.core.settings import ROOT

SERVER_CORE = 0
BOTH_CORES = "0,1"
READY_SECONDS = 120.0


@dataclass(frozen=True)
class Peer:
    """One way of serving a prediction.

    Attributes
    ----------
    command
        Makes the command line from the port.
    path
        Where predictions are asked for.
    wrap
        Makes a request body of a pupil.
    complete
        Whether it needs both period grades.
    cores
        Which it may run on.
    slow
        Whether it answers so few requests that they must be counted for longer.
    quick
        Whether a quick run measures it too.
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


def ours(*, workers: int = 1, **settings: str) -> Peer:
    """Return this project's service."""
    return Peer(
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


def peers() -> list[Peer]:
    """Return everything that is measured with one worker, ourselves first."""
    return [
        ours(),
        Peer("empty-fastapi", "empty FastAPI route", _uvicorn("empty_fastapi")),
        Peer(
            "empty-bento",
            "empty BentoML method, as installed",
            _bento("empty_bento:EmptyBento"),
            wrap=lambda _: {},
        ),
        Peer(
            "empty-bento-lean",
            "empty BentoML method, async, our server settings",
            _bento("empty_bento_lean:EmptyBentoLean"),
            wrap=lambda _: {},
        ),
        Peer(
            "plain-bento",
            "plain BentoML on our scikit-learn pipeline",
            _bento("plain_bento:PlainBento"),
            quick=False,
        ),
        Peer(
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
        # Its forest asks for all cores, and is slower with two than with one.
        Peer(
            "original",
            "the replaced application's way, both cores",
            _uvicorn("original"),
            complete=True,
            cores=BOTH_CORES,
            slow=True,
        ),
        Peer(
            "original-1",
            "the replaced application's way, one core",
            _uvicorn("original"),
            complete=True,
            slow=True,
            quick=False,
        ),
    ]


@dataclass
class Running:
    """A server that answers."""

    peer: Peer
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float

    @property
    def url(self) -> str:
        """Where predictions are asked for."""
        return f"http://127.0.0.1:{self.port}{self.peer.path}"

    def tree(self) -> list[psutil.Process]:
        """Return the server's processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def processor_seconds(self) -> float:
        """Return the processor time that its processes have taken."""
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def resident_mb(self) -> float:
        """Return the memory of all its processes, in MB; a shared page counts once (PSS)."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 1e6


@contextlib.contextmanager
def running(peer: Peer, folder: Path) -> Iterator[Running]:
    """Start a server pinned to one core (two for two workers), and stop it."""
    port = _free_port()
    home = folder / f"home-{peer.name}"
    home.mkdir(exist_ok=True)
    log = (folder / f"{peer.name}.log").open("ab")
    started = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", peer.cores, *peer.command(port)],
        cwd=folder if peer.name == "mlflow" else ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # `mlflow models serve` looks for uvicorn there.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BENCH_FOLDER": str(folder),
            "STATE_DIR": str(home),
            "PORT": str(port),
            "BENTOML_HOME": str(home / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **peer.environment,
        },
        stdout=log,
        stderr=log,
    )
    server = Running(peer, port, process, 0.0)
    try:
        _await_port(server)
        server.ready_seconds = time.perf_counter() - started
        yield server
    finally:
        below = server.tree()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        for left in below:
            with contextlib.suppress(psutil.Error):
                left.kill()
        process.wait(10)
        log.close()


def _await_port(server: Running) -> None:
    """Wait until the server answers HTTP, whatever it answers."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=5).close()
            return
        except urllib.error.HTTPError as answer:
            if answer.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{server.peer.name} did not come up; see its log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
