"""SIGTERM loses no request: every request that was sent gets a response."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from benchmarks.load import (
    LARGE_BATCH,
    HttpConnection,
    HttpResponse,
    Load,
    LoadResult,
    http_request,
)
from student_success.domain.students import EXAMPLE
from tests.faults.database_file import check_integrity, count_predictions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

PROMISE = "SIGTERM loses no request"
STOPS = repetitions(3, full=20)
CLIENTS = 24
BACK_AGAIN = 4.0
"""Seconds in which a client's kernel has asked again for a connection that was turned away."""


NO_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


@pytest.mark.parametrize(("drain_seconds", "prefix"), [("0", ()), ("1", ()), ("0", NO_PRIVILEGES)])
def test_sigterm_loses_no_request_under_load(
    tmp_path: Path, drain_seconds: str, prefix: tuple[str, ...]
) -> None:
    """Half of the clients ask without pause, half a few times a second, all on kept connections."""
    if prefix and (os.getuid() != 0 or shutil.which(prefix[0]) is None):
        pytest.skip("only root has privileges to give up, with setpriv")
    server = Server(tmp_path, WORKERS="2", DRAIN_SECONDS=drain_seconds)
    server.prefix = prefix
    seen = LoadResult()
    lost: set[str] = set()
    # Calm clients must get their word while it drains: an idle connection may be closed.
    pause = 0.05 if drain_seconds == "0" else 0.2
    try:
        for _ in range(STOPS):
            server.start()
            assert server.process is not None
            with (
                Load(server.port, clients=CLIENTS // 2) as busy,
                Load(server.port, clients=CLIENTS // 2, pause=pause) as calm,
            ):
                busy.wait_for(200)
                below = server.processes()
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(40)
                time.sleep(0.2)
            _, alive = psutil.wait_procs(below, timeout=2)
            assert not alive
            seen.add(busy.result)
            seen.add(calm.result)
            # The end was a refused connection, not a lost request.
            assert busy.result.refused_connections
            assert check_integrity(tmp_path) == "ok"
            row_counts = count_predictions(tmp_path)
            lost |= {one for one in seen.acknowledged if row_counts[one] != 1}
    finally:
        server.stop()
        counts.add(
            promise=PROMISE,
            faults=STOPS,
            requests=seen.requests,
            acknowledged=seen.statuses[200],
            lost=len(lost) + len(seen.lost_connections),
        )
    assert not lost
    assert not seen.lost_connections
    assert set(seen.statuses) == {200}
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert "new_connections_not_blocked" not in log


def test_readyz_returns_503_while_draining(tmp_path: Path) -> None:
    server = Server(tmp_path, WORKERS="2", DRAIN_SECONDS="3")
    server.start()
    assert server.process is not None
    ready, predict = http_request("GET", "/readyz"), http_request("POST", "/predict", EXAMPLE)
    try:
        with HttpConnection(server.port) as kept_one, HttpConnection(server.port) as idle:
            assert kept_one.exchange(ready).status == 200
            signalled = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            while (probe_response := probe(server.port, ready)).status == 200:
                assert time.monotonic() < signalled + 2
            assert probe_response.status == 503
            assert probe_response.headers["retry-after"] == "1"
            assert probe_response.json()["error"] == "model_unavailable"
            # Old and new connections are served, and told.
            for answer in (kept_one.exchange(predict), probe(server.port, predict)):
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
            assert kept_one.is_closed_by_server()
            assert probe(server.port, http_request("GET", "/livez")).status == 200
            # On an idle connection the first request is answered as late as it may come.
            time.sleep(max(0.0, signalled + 2.5 - time.monotonic()))
            assert idle.exchange(predict).status == 200
        server.process.wait(20)
    finally:
        server.stop()


def test_running_batch_is_completed_and_new_connections_refused(tmp_path: Path) -> None:
    """A batch is on its way when the port closes; whoever comes then learns it soon."""
    server = Server(tmp_path)
    server.start()
    assert server.process is not None
    trickle = http_request("POST", "/predict_batch", LARGE_BATCH)
    try:
        with HttpConnection(server.port) as slow, ThreadPoolExecutor(1) as pool:
            slow.send(trickle[:-20])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            started = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                HttpConnection(server.port)
            assert time.monotonic() - started < BACK_AGAIN
            assert server.process.poll() is None
            answer = pool.submit(slow.exchange, trickle[-20:]).result(20)
        assert answer.status == 200
        server.process.wait(20)
        row_counts = count_predictions(tmp_path)
        assert all(row_counts[one["prediction_id"]] == 1 for one in answer.json()["predictions"])
    finally:
        server.stop()


def test_second_sigterm_ends_draining(tmp_path: Path) -> None:
    server = Server(tmp_path, DRAIN_SECONDS="60")
    server.start()
    assert server.process is not None
    [worker] = server.workers()
    try:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert probe(server.port, http_request("GET", "/livez")).status == 200
        # The supervisor has passed on the first one, and waits.
        worker.send_signal(signal.SIGTERM)
        server.process.wait(20)
    finally:
        server.stop()


def probe(port: int, content: bytes) -> HttpResponse:
    with HttpConnection(port) as connection:
        return connection.exchange(content)


def test_stop_ends_although_a_worker_hangs(tmp_path: Path) -> None:
    """BentoML waits for it for a day, and `systemctl stop` until it kills everything."""
    server = Server(tmp_path, WORKERS="2")
    server.start()
    try:
        assert server.process is not None
        server.workers()[0].suspend()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(50) == 0
        assert server.processes() == []
    finally:
        server.stop()
