"""A second server on a state directory is refused, and lost metrics never fail a request."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import psutil
import pytest

from student_success.domain.students import EXAMPLE
from tests.faults.promise_counts import counts
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PROMISE = "a second server on a state directory is refused, and the first one is not disturbed"
READING = ("/health", "/readyz", "/model", "/metrics")


def check_answers(server: Server) -> str:
    """Check that every route answers with 200; return the metrics."""
    with httpx.Client(base_url=server.url, timeout=10) as http:
        responses = {path: http.get(path) for path in READING}
        responses["/predict"] = http.post("/predict", json=EXAMPLE)
    assert {path: response.status_code for path, response in responses.items()} == dict.fromkeys(
        responses, 200
    )
    counts.add(promise=PROMISE, faults=1, requests=len(responses), acknowledged=len(responses))
    return responses["/metrics"].text


def refused(server: Server) -> str:
    """Start a server that must exit with status 2; return its one line of error."""
    server.start(wait=False)
    try:
        assert server.process is not None
        assert server.process.wait(30) == 2, server.tail()
    finally:
        server.stop()
    [line] = server.log.read_text("utf-8").splitlines()
    return line


def test_second_server_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with serving(tmp_path / "state", WORKERS="2") as first:
        assert first.process is not None
        for number in range(3):
            second = Server(tmp_path / "state")
            second.log = tmp_path / f"{number}.log"
            message = refused(second)
            assert message.startswith("Error: The service was not started: ")
            assert f"{first.url} (process {first.process.pid})" in message
            check_answers(first)
        first.kill()
        # The lock of a killed server does not prevent the next start.
        first.start()
        check_answers(first)


def test_servers_with_one_bentoml_home_have_metrics_of_their_own(tmp_path: Path) -> None:
    home = str(tmp_path / "bentoml")
    with serving(tmp_path / "one", BENTOML_HOME=home) as first:
        check_answers(first)
        with serving(tmp_path / "two", BENTOML_HOME=home) as second:
            check_answers(second)
        text = check_answers(first)
    assert predictions(text) == 1, "the second prediction is counted after the metrics are read"


def predictions(metrics: str) -> float:
    lines = metrics.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("student_success_predictions_total{")
    )


def test_requests_are_answered_after_the_metrics_folder_is_removed(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        [worker] = server.workers()
        folder = Path(psutil.Process(worker.pid).environ()["PROMETHEUS_MULTIPROC_DIR"])
        check_answers(server)
        for removed in range(1, 4):
            shutil.rmtree(folder)
            text = check_answers(server)
            # Counts and gauges go on from where they were.
            assert predictions(text) == removed
            assert 'student_success_model_info{model_version="seed",source="seed"} 1.0' in text
        # Again and again, while there is nothing new to count.
        time.sleep(0.5)
        for _ in range(3):
            shutil.rmtree(folder)
            assert predictions(httpx.get(f"{server.url}/metrics").text) == 4
