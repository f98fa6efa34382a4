"""The ASGI stack that BentoML builds around the service, as it is changed here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from student_success.core.paths import ROOT

# Importing BentoML's private parts raises deprecation warnings of its dependencies.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_DESCRIBE = """
import json
from service import StudentSuccess, settings
app = StudentSuccess.to_asgi()
classes = [item.cls.__name__ for item in app.user_middleware]
bounded = [item for item in app.user_middleware if item.cls.__name__ == "BoundedTrafficMiddleware"]
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
    description: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return description


def test_asgi_stack_has_bounded_metrics_and_no_timeout_or_tracing(built: dict[str, Any]) -> None:
    classes = built["middleware"]
    assert "BoundedTrafficMiddleware" in classes
    assert "RunnerTrafficMetricsMiddleware" not in classes
    assert "TimeoutMiddleware" not in classes
    assert "OpenTelemetryMiddleware" not in classes
    assert classes.index("BoundedTrafficMiddleware") < classes.index("ApiMiddleware"), (
        "refused requests count"
    )


def test_metrics_know_the_paths_of_the_contract_only(built: dict[str, Any]) -> None:
    assert {"/predict", "/predict_batch", "/history", "/train", "/health"} <= set(built["paths"])
    assert not [path for path in built["paths"] if "{" in path]
    assert built["metrics"]


def test_bound_host_is_the_address_of_the_socket_not_the_setting(
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
