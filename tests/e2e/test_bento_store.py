"""Every entrance uses the Bento store of the settings; `bentoml serve` is refused like `serve`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.faults import registered_versions
from tests.server import ROOT, Server, free_port, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RUN_SECONDS = 240


class BentomlServer(Server):
    """`bentoml serve`, as a developer starts it in the checkout."""

    def start(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "bentoml", "serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=dict(self.environment), stdout=log, stderr=log
            )
        if wait:
            self.wait_ready()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Return a stopped server that has promoted version 1."""
    with serving(
        registered_versions.fresh_state(tmp_path_factory),
        HOME=str(tmp_path_factory.mktemp("home")),
    ) as server:
        answer = httpx.post(
            f"{server.url}/promote", json={"version": 1}, headers=server.admin, timeout=120
        )
        assert answer.status_code == 200, answer.text
    return server


def run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=dict(server.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )


def test_bentoml_serve_serves_the_promoted_version(promoted: Server) -> None:
    server = BentomlServer(promoted.state_dir)
    server.start()
    try:
        answer = httpx.post(f"{server.url}/predict", json=EXAMPLE)
        assert answer.json()["model_version"] == "1"
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        # Its state directory is locked as well.
        second = run(promoted, "student_success", "serve")
        assert second.returncode == 2
        assert f"is served by the server {server.url}" in second.stderr
    finally:
        server.stop()


def test_bentoml_command_lists_the_promoted_version(promoted: Server) -> None:
    listed = run(promoted, "student_success", "bentoml", "models", "list")
    assert listed.returncode == 0, listed.stderr
    assert "student_success_model:v1" in listed.stdout
    assert not Path(promoted.settings["HOME"], "bentoml").exists()


def test_training_finds_the_promoted_version(promoted: Server) -> None:
    """It reads the version to compare with before it looks at the family, which does not exist."""
    refused = run(promoted, "training", "run", "--family=none")
    assert "There is no such family" in refused.stdout + refused.stderr
    assert not Path(promoted.settings["HOME"], "bentoml").exists()


def started_by_bentoml(promoted: Server, *options: str) -> subprocess.CompletedProcess[str]:
    server = Server(promoted.state_dir)
    return run(server, "bentoml", "serve", "--port", str(free_port()), *options)


def test_bentoml_serve_refuses_an_address_of_the_network_without_a_token(promoted: Server) -> None:
    began = time.monotonic()
    refused = started_by_bentoml(promoted, "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "Set API_TOKEN" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert time.monotonic() - began < 30


def test_bentoml_serve_refuses_a_port_in_use(promoted: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = started_by_bentoml(promoted, "--port", str(port))
    assert refused.returncode == 2
    assert f"PORT {port} on 127.0.0.1 cannot be used" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL_ALIAS", "v1"),
        ("PORT", "s3cret"),
        ("PROFILE_PATH", "/nonexistent/school.toml"),
        ("TRAIN_BUDGET_SECONDS", "86400"),
    ],
)
def test_bentoml_serve_refuses_an_invalid_setting(promoted: Server, name: str, value: str) -> None:
    refused = run(Server(promoted.state_dir, **{name: value}), "bentoml", "serve")
    assert refused.returncode == 2, refused.stderr
    (line,) = refused.stderr.splitlines()
    assert name.removesuffix("_PATH").lower() in line.lower()
    assert "s3cret" not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


def test_removed_store_is_fetched_again_while_serving(promoted: Server) -> None:
    with serving(promoted.state_dir, **promoted.settings) as server:
        models = promoted.state_dir / "bentoml" / "models" / "student_success_model"
        # At once: the worker looks for the files every half second.
        shutil.rmtree(models)
        refused = httpx.post(
            f"{server.url}/promote", json={"version": 2}, headers=server.admin, timeout=120
        )
        # The comparison with version 1 was reached; the data of these versions is made up.
        assert refused.json()["error"] == "dataset_invalid", refused.text
        shutil.rmtree(models, ignore_errors=True)
        predicted = httpx.post(f"{server.url}/predict", json=EXAMPLE)
        assert predicted.json()["model_version"] == "1"
        end = time.monotonic() + 60
        # Until its files are whole again, and not only their folder.
        while (explained := httpx.post(f"{server.url}/explain", json=EXAMPLE, timeout=60)).is_error:
            assert (explained.status_code, explained.json()["error"]) == (503, "model_unavailable")
            assert time.monotonic() < end, server.tail()
            time.sleep(0.1)
        assert (models / "v1").is_dir()
        assert explained.json()["model_version"] == "1"
