"""No orphan process holds the port after the supervisor alone was killed."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

PROMISE = "no orphan process holds the port"
GONE_SECONDS = 2.0
KILLS = repetitions(2, full=10)


def test_children_exit_when_supervisor_is_killed(tmp_path: Path) -> None:
    """While it trains, and with the web interface beside it."""
    ui_port = free_port()
    server = Server(tmp_path, WORKERS="2", UI_ENABLED="true", UI_PORT=str(ui_port))
    below: list[psutil.Process] = []
    orphans = 0
    try:
        for _ in range(KILLS):
            server.start()
            train(server)
            listening(ui_port)
            assert server.process is not None
            below = server.processes()[1:]
            commands = [" ".join(process.cmdline()) for process in below]
            assert sum("_bentoml_impl.worker.service" in command for command in commands) == 2
            assert sum("training run" in command for command in commands) >= 1
            assert sum("gradio_ui" in command for command in commands) == 1
            server.process.kill()
            end = time.monotonic() + GONE_SECONDS
            while (alive := living(below)) and time.monotonic() < end:
                time.sleep(0.02)
            orphans += len(alive)
            server.process.wait(10)
            counts.add(promise=PROMISE, faults=1, requests=1, acknowledged=1, lost=len(alive))
            assert not alive
            for port in (server.port, ui_port):
                free(port)
        # Nothing of the killed training stands in the way of the next.
        server.start()
        job = httpx.get(f"{server.url}/train", headers=server.admin, timeout=30).json()
        assert job["state"] == "failed"
        train(server)
    finally:
        server.stop()
        for process in below:
            if process.is_running():
                process.kill()


def test_interface_starts_again_after_it_died(tmp_path: Path) -> None:
    """`/health` says while it does not answer; the API goes on meanwhile."""
    ui_port = free_port()
    server = Server(tmp_path, UI_ENABLED="true", UI_PORT=str(ui_port))
    server.start()
    try:
        listening(ui_port)
        assert httpx.get(f"{server.url}/health", timeout=10).json().get("ui_ok") is True
        [interface] = [p for p in server.processes() if "gradio_ui" in " ".join(p.cmdline())]
        interface.kill()
        interface.wait(10)
        free(ui_port)
        assert httpx.get(f"{server.url}/health", timeout=10).json().get("ui_ok") is not True
        listening(ui_port)
        assert httpx.get(f"{server.url}/health", timeout=10).json().get("ui_ok") is True
        counts.add(promise="the web interface starts again", faults=1, requests=3, acknowledged=3)
    finally:
        server.stop()
    free(ui_port)


def test_interface_does_not_depend_on_who_holds_its_port(tmp_path: Path) -> None:
    """Another program takes the port while the interface is away, and gives it back."""
    ui_port = free_port()
    server = Server(tmp_path, UI_ENABLED="true", UI_PORT=str(ui_port))
    server.start()
    try:
        listening(ui_port)
        assert httpx.get(f"{server.url}/ui").headers["location"] == f"http://127.0.0.1:{ui_port}"
        [interface] = [p for p in server.processes() if "gradio_ui" in " ".join(p.cmdline())]
        interface.kill()
        interface.wait(10)
        with socket.create_server(("127.0.0.1", ui_port)):
            assert httpx.get(f"{server.url}/health", timeout=10).json().get("ui_ok") is not True
            assert httpx.get(f"{server.url}/ui").headers["location"] == "/docs"
            # The interface cannot start now, and says so; that is not its end.
            refused = f"UI_PORT {ui_port} on 127.0.0.1 cannot be used"
            wait_until(lambda: refused in server.log.read_text("utf-8"))
        listening(ui_port)
        assert httpx.get(f"{server.url}/health", timeout=10).json().get("ui_ok") is True
        assert httpx.get(f"{server.url}/ui").headers["location"] == f"http://127.0.0.1:{ui_port}"
        counts.add(promise="the web interface starts again", faults=2, requests=5, acknowledged=5)
    finally:
        server.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def living(processes: list[psutil.Process]) -> list[str]:
    """Return the commands of those that still run; one that only waits to be noticed does not."""
    commands = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                commands.append(" ".join(process.cmdline()))
    return commands


def train(server: Server) -> None:
    """Start a training, and wait until its process is at work and has some of its own."""
    started = httpx.post(
        f"{server.url}/train",
        headers=server.admin,
        json={"wait": False, "family": "boosting", "budget_seconds": 60},
        timeout=30,
    )
    assert started.status_code == 202, started.text
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job = httpx.get(f"{server.url}/train", headers=server.admin, timeout=30).json()
        if job["progress"]:
            return
        assert job["state"] == "running", job
        time.sleep(0.1)
    raise AssertionError("the training does not begin")


def listening(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the interface does not listen")


def free(port: int) -> None:
    """Listen where the dead server did."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen()
