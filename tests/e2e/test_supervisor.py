"""The supervisor: its command socket, and what the metrics show of a worker that it replaced."""

from __future__ import annotations

import contextlib
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import serving

pytestmark = pytest.mark.e2e
SECONDS = 90.0


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems BentoML's own ports are used")
def test_supervisor_listens_for_commands_only_in_the_state_directory(tmp_path: Path) -> None:
    """Any user of the machine can connect to a port, and another program may occupy it."""
    state = tmp_path / ("a-long-name-for-a-state-directory-" * 4)
    with serving(state) as server:
        assert server.process is not None
        supervisor = psutil.Process(server.process.pid)
        listening = {
            connection.laddr.port
            for connection in supervisor.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        folder = state / "supervisor"
        assert listening == {server.port}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert sorted(path.name for path in folder.iterdir()) == ["commands", "events"]
        server.kill()
        # Files left by a killed supervisor do not prevent the next start.
        server.start()


@pytest.mark.skipif(sys.platform != "linux", reason="the environment of a process is read")
def test_metrics_show_the_restart_of_a_killed_worker(tmp_path: Path) -> None:
    def starts() -> list[float]:
        # A connection to the killed worker fails.
        with contextlib.suppress(httpx.HTTPError):
            text = httpx.get(f"{server.url}/metrics", timeout=10).text
            return [
                sample.value
                for family in text_string_to_metric_families(text)
                if family.name == "student_success_worker_start_time_seconds"
                for sample in family.samples
            ]
        return []

    with serving(tmp_path, WORKERS="2") as server:
        await_true(lambda: len(starts()) == 2)
        last_start = max(starts())
        worker = server.workers()[0]
        folder = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"])
        gauges = f"gauge_live*_{worker.pid}.db"
        assert list(folder.glob(gauges))
        worker.kill()
        await_true(lambda: max(starts(), default=0) > last_start)
        # Otherwise it would seem to serve its version for ever.
        await_true(lambda: not list(folder.glob(gauges)))


def await_true(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
