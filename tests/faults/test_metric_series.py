"""Requests cannot add metric series.

`tests/monitoring/test_series.py` asks for ten thousand paths and names hundreds of sessions.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.load import HttpConnection, http_request
from student_success.core.metrics_buffer import FLUSH_SECONDS
from student_success.domain.students import EXAMPLE
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, serving

pytestmark = pytest.mark.faults

PROMISE = "requests cannot add metric series"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("series")
    with serving(folder, WORKERS="2", DATA_PATH=str(folder / "nowhere.csv")) as running:
        yield running


def series(server: Server) -> set[str]:
    """Return the names and labels of all series, from both workers' files."""
    time.sleep(2 * FLUSH_SECONDS)
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line and line[0] != "#"}


def bother(server: Server, mark: str) -> int:
    """Send a word wherever one can be sent, each time on a connection of its own."""
    headers = {
        **server.admin,
        "X-Session-Id": mark,
        "X-Request-Id": mark,
        "Idempotency-Key": mark,
        "User-Agent": mark,
        "X-Forwarded-For": f"10.0.0.{len(mark)}",
        mark: mark,
    }
    # Any of these methods, and these statuses, may be the first of its kind.
    tried = [
        ("POST", "/predict", EXAMPLE, 200),
        # The key was used with another body.
        ("POST", "/predict", {**EXAMPLE, "reference": mark}, 409),
        ("POST", "/predict", {mark: mark}, 422),
        ("POST", "/predict_batch", {"students": [{**EXAMPLE, "reference": mark}]}, 200),
        ("POST", "/outcomes", {"outcomes": [{"prediction_id": mark, "actual_G3": 1}]}, 200),
        ("POST", "/rollback", {"reason": mark}, 409),
        ("POST", "/promote", {"version": 1, "alias": mark}, 422),
        ("POST", "/train", {"family": mark, "budget_seconds": -1}, 422),
        ("GET", f"/history?session_id={mark}", None, 200),
        ("GET", f"/health?{mark}={mark}", None, 200),
        ("GET", f"/evidence?version={mark}", None, 422),
        ("GET", f"/train?job_id={mark}", None, 422),
        ("DELETE", f"/history?session_id={mark}", None, 200),
        ("GET", f"/{mark}", None, 404),
        ("GET", f"/static_content/{mark}.js", None, 404),
        ("GET", f"/predict/{mark}", None, 404),
        ("GET", f"/metrics/{mark}", None, 404),
        ("PUT", f"/{mark}", None, 404),
        ("PROPFIND", "/predict", None, 405),
        ("OPTIONS", f"/{mark}", None, 404),
        (mark.upper(), "/predict", None, 400),
    ]
    for method, path, body, status in tried:
        with HttpConnection(server.port) as connection:
            answer = connection.exchange(http_request(method, path, body, headers))
            assert answer.status == status, (method, path, answer.body)
    return len(tried)


def test_requests_with_new_words_add_no_series(server: Server) -> None:
    # Each worker makes the series of what it is asked first: until there are no new ones.
    before: set[str] = set()
    for _ in range(20):
        bother(server, f"first{secrets.token_hex(4)}")
        current = series(server)
        if current == before:
            break
        before = current
    before = series(server)
    sent = 0
    for _ in range(repetitions(60, full=600)):
        sent += bother(server, f"marked{secrets.token_hex(4)}")
    after = series(server)
    grown = after - before
    counts.add(promise=PROMISE, faults=sent, requests=sent, lost=len(grown))
    assert not [name for name in after if "marked" in name or "first" in name]
    # What one worker had and the other had not; nothing per word that was sent.
    assert len(grown) <= 10, sorted(grown)


def test_unknown_versions_add_no_series(server: Server) -> None:
    before = series(server)
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=60) as client:
        for number in range(repetitions(200, full=2000)):
            # Refused for its alias before anybody looks for the version.
            body = {"version": 10**6 + number, "alias": f"alias-{number}"}
            assert client.post("/promote", json=body).status_code == 422
    grown = series(server) - before
    assert not [name for name in grown if "alias" in name or "10000" in name]
    assert len(grown) <= 10, sorted(grown)


def test_metric_files_do_not_grow_with_connections(server: Server) -> None:
    folders = {worker.environ()["PROMETHEUS_MULTIPROC_DIR"] for worker in server.workers()}

    def files() -> int:
        return sum(len(list(Path(folder).iterdir())) for folder in folders)

    before = files()
    for number in range(200):
        with HttpConnection(server.port) as connection:
            connection.exchange(http_request("GET", f"/nowhere-{number}"))
    assert files() == before > 0
