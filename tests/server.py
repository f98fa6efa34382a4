"""Start the real server in processes of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
ADMIN_TOKEN = "admin-token-of-the-tests"
SAMPLE = ROOT / "data" / "sample.csv"
READY_SECONDS = 180.0


def free_port() -> int:
    """Return a free port below those that the system gives to connections.

    A port of the system's own range is free only for now: any connection of another test may take
    it before the server does.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """`python -m student_success serve` with a state directory of its own.

    Parameters
    ----------
    state_dir
        State directory. It is kept when the server stops, so that the server can start again on it.
    module
        Run in place of `student_success`.
    settings
        Environment variables.
    """

    def __init__(
        self, state_dir: Path, *, module: str = "student_success", **settings: str
    ) -> None:
        self.state_dir = state_dir
        self.port = free_port()
        self.module = module
        self.settings = settings
        self.prefix: tuple[str, ...] = ()
        self.folder = ROOT
        self.log = state_dir / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "BENTOML"))}
        kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return {
            **kept,
            "STATE_DIR": str(self.state_dir),
            "PORT": str(self.port),
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "LOG_FORMAT": "json",
            "UI_ENABLED": "false",
            # Also after `make prepare`. A profile of another school has data of its own.
            **({} if "PROFILE_PATH" in self.settings else {"DATA_PATH": str(SAMPLE)}),
            # No load balancer needs time to notice the end of the server.
            "DRAIN_SECONDS": "0",
            **self.settings,
        }

    def start(self, *, wait: bool = True) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", self.module, "serve"],
                cwd=self.folder,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        assert self.process is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended:\n{self.tail()}"
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def log_lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and its descendants; each worker has a session of its own."""
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        found = []
        for process in self.processes():
            # A process may end meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "_bentoml_impl.worker.service" in process.cmdline():
                    found.append(process)
        return found

    def stop(self) -> None:
        """Stop the server with SIGTERM, and kill the processes that are left."""
        if self.process is None:
            return
        below = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(40)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)
        # The kernel kills the web interface when the server has ended; that takes a moment.
        psutil.wait_procs(below, 10)
        self.process = None

    def kill(self) -> None:
        """SIGKILL every process at once."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self.process is not None
        self.process.wait(10)
        psutil.wait_procs(processes, 10)
        self.process = None


@contextlib.contextmanager
def serving(state_dir: Path, **settings: str) -> Iterator[Server]:
    """Run a server for the block."""
    server = Server(state_dir, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
