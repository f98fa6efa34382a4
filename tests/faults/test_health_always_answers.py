"""`GET /health` is 200 whatever the state of the service."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import httpx
import pytest

from tests.faults.promise_counts import counts
from tests.server import serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PROMISE = "/health answers 200 whatever the state"


def test_health_returns_200_with_strange_files_in_the_state_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server, httpx.Client(base_url=server.url) as http:
        folders = [server.state_dir, *server.state_dir.rglob("*")]
        folders = [path for path in folders if path.is_dir() and not path.is_symlink()]
        for folder in folders:
            (folder / "strange").write_bytes(b"\xff not a number")
            (folder / "strange folder").mkdir()
            (folder / "strange link").symlink_to("nowhere")
            os.mkfifo(folder / "strange pipe")
        for _ in range(3):
            response = http.get("/health", timeout=10)
            assert response.status_code == 200, response.text
            assert response.json()["model_loaded"] is True
        counts.add(promise=PROMISE, faults=4 * len(folders), requests=3, acknowledged=3)


def test_health_returns_200_when_file_descriptors_run_out(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server, httpx.Client(base_url=server.url) as http:
        [worker] = server.workers()
        assert http.get("/health").json()["status"] == "ok"
        limits = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        # The connection is open already; nothing else can be opened.
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        for _ in range(20):
            response = http.get("/health")
            assert response.status_code == 200, response.text
        # What cannot be answered is a matter of time, and no fault of the service.
        promotion = {"version": 1, "reason": "x"}
        for method, path in (("GET", "/metrics"), ("POST", "/train"), ("POST", "/promote")):
            body = promotion if path == "/promote" else None
            response = http.request(method, path, headers=server.admin, json=body)
            assert response.status_code == 503, (path, response.status_code, response.text)
            assert int(response.headers["retry-after"]) > 0
            assert response.json()["error"].endswith("unavailable")
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, limits)
        assert http.get("/metrics").status_code == 200
        # Nothing that failed holds a lock: the answer is not "busy".
        again = http.post("/promote", headers=server.admin, json=promotion, timeout=120)
        assert again.status_code == 404, again.text
        counts.add(promise=PROMISE, faults=1, requests=20, acknowledged=20)
        assert http.get("/health").status_code == 200
