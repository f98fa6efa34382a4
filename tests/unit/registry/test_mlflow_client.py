"""MLflow's own library, as the child processes use it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import RegistryUnavailableError
from student_success.core.paths import ROOT
from student_success.registry import mlflow_client

PROCESSES = 3


def test_versions_is_empty_when_several_processes_open_a_new_registry_at_once(
    tmp_path: Path,
) -> None:
    """Each process creates MLflow's tables if there are none, and MLflow does not lock them."""
    environment = {
        **os.environ,
        "STATE_DIR": str(tmp_path),
        "LOG_FORMAT": "json",
        # On a busy machine the last of them waits longer than a minute for the others.
        "REGISTRY_TIMEOUT_SECONDS": "240",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "student_success", "child", "versions"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    outputs = [process.communicate(timeout=250) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    assert [json.loads(out.splitlines()[-1]) for out, _ in outputs] == [
        {"event": "result", "versions": []}
    ] * PROCESSES


def test_versions_marks_only_the_version_to_which_the_alias_points(tmp_path: Path) -> None:
    """MLflow's search of versions returns them without their aliases."""
    settings = Settings(_env_file=None, state_dir=tmp_path)
    with mlflow_client.open_client(settings) as client:
        client.create_registered_model(settings.model_name)
        for _ in range(3):
            client.create_model_version(settings.model_name, source=str(tmp_path))
    assert [row["alias"] for row in mlflow_client.versions(settings)] == [False] * 3

    mlflow_client.move_alias(settings, "2")
    marked = {row["version"]: row["alias"] for row in mlflow_client.versions(settings)}
    assert marked == {3: False, 2: True, 1: False}

    mlflow_client.move_alias(settings, None)
    assert [row["alias"] for row in mlflow_client.versions(settings)] == [False] * 3


def test_versions_and_find_work_when_the_run_of_a_version_was_deleted_for_good(
    tmp_path: Path,
) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path)
    with mlflow_client.open_client(settings) as client:
        run_id = client.create_run(client.create_experiment("e")).info.run_id
        client.create_registered_model(settings.model_name)
        client.create_model_version(settings.model_name, source=str(tmp_path), run_id=run_id)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # As `mlflow gc` does with a deleted run.
    SqlAlchemyStore(settings.tracking_uri, str(tmp_path))._hard_delete_run(run_id)
    [row] = mlflow_client.versions(settings)
    assert (row["version"], row["run_id"], row["metrics"]) == (1, run_id, {})
    assert mlflow_client.find(settings, 1).metrics == {}


class Recorder(BaseHTTPRequestHandler):
    """An MLflow server that answers everything with nothing, and keeps the logins."""

    logins: ClassVar[set[str | None]] = set()

    def answer(self) -> None:
        self.logins.add(self.headers["Authorization"])
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class OutOfMemory(Recorder):
    """An MLflow server that lacks memory itself."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"error_code": "BAD_REQUEST", "message": "MemoryError: std::bad_alloc"}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer


def test_lack_of_memory_of_the_server_is_not_ours() -> None:
    server = HTTPServer(("127.0.0.1", 0), OutOfMemory)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    settings = Settings(_env_file=None, mlflow_tracking_uri=uri, registry_timeout_seconds=20)
    with pytest.raises(RegistryUnavailableError):
        mlflow_client.check(settings)
    server.shutdown()
    server.server_close()


def test_password_of_the_tracking_uri_is_sent_and_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "another")
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://user:m%40rked-7c1e@127.0.0.1:{server.server_port}"
    settings = Settings(_env_file=None, mlflow_tracking_uri=uri, registry_timeout_seconds=20)
    mlflow_client.check(settings)
    server.shutdown()
    server.server_close()
    assert Recorder.logins == {"Basic " + base64.b64encode(b"user:m@rked-7c1e").decode()}

    with pytest.raises(RegistryUnavailableError):
        mlflow_client.check(settings)
    assert "Connection refused" in caplog.text
    assert "rked-7c1e" not in caplog.text
