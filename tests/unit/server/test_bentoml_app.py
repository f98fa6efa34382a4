"""The inner parts of BentoML that are changed here are as they were when that was written."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from student_success.core.settings import ROOT

# BentoML's inner parts use things that its own libraries call old, as soon as they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_DESCRIBE = """
import json
from service import StudentSuccess, settings
app = StudentSuccess.to_asgi()
classes = [item.cls.__name__ for item in app.user_middleware]
bounded = [item for item in app.user_middleware if item.cls.__name__ == "BoundedTraffic"]
print(json.dumps({
    "middleware": classes,
    "paths": sorted(bounded[0].kwargs["paths"]),
    "metrics": StudentSuccess.config["metrics"]["enabled"],
}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, "-c", _DESCRIBE],
        cwd=ROOT,
        env={
            **os.environ,
            "STATE_DIR": str(home),
            "BENTOML_HOME": str(home),
            "BENTOML_DO_NOT_TRACK": "True",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_version_is_one_these_changes_were_made_for() -> None:
    assert importlib.metadata.version("bentoml").startswith("1.4."), (
        "look at student_success/server/bentoml_app.py again, then at this line"
    )


def test_middleware_is_what_is_left_of_bentomls_and_ours_inside_it(built: dict[str, Any]) -> None:
    classes = built["middleware"]
    assert "BoundedTraffic" in classes
    assert "RunnerTrafficMetricsMiddleware" not in classes
    assert "TimeoutMiddleware" not in classes
    assert "OpenTelemetryMiddleware" not in classes
    assert classes.index("BoundedTraffic") < classes.index("ApiMiddleware"), (
        "refused requests count"
    )


def test_only_known_paths_become_series(built: dict[str, Any]) -> None:
    assert {"/predict", "/predict_batch", "/history", "/train", "/health"} <= set(built["paths"])
    assert not [path for path in built["paths"] if "{" in path]
    assert built["metrics"]


def test_traffic_middleware_has_the_series_that_are_used_here() -> None:
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware

    source = inspect.getsource(RunnerTrafficMetricsMiddleware)
    for name in (
        "metrics_request_duration",
        "metrics_request_total",
        "metrics_request_in_progress",
        "metrics_last_request_timestamp",
        "_is_setup",
        "def _setup",
    ):
        assert name in source
    for label in ("service_name", "service_version", "runner_name", "endpoint"):
        assert label in source


def test_host_that_a_socket_listens_on_wins_over_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from student_success.server import bentoml_app

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        monkeypatch.setattr(sys, "argv", ["worker", "--fd", str(listening.fileno())])
        assert bentoml_app.bound_host("0.0.0.0") == "127.0.0.1"
        assert listening.fileno() != -1
    for line in (["worker"], ["worker", "--fd"], ["worker", "--fd", "x"]):
        monkeypatch.setattr(sys, "argv", line)
        assert bentoml_app.bound_host("10.0.0.1") == "10.0.0.1"
