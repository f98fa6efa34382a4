"""The service stays fast: ratios of requests/s within one run, never absolute times.

The limits are far below what `make bench` measures on a quiet machine, so that a busy machine does
not fail the test, and far above what a real regression would leave.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from pathlib import Path

import pytest

from benchmarks.load import (
    Load,
    WrkReport,
    parse_wrk_report,
    random_pupils,
    run_wrk,
    write_bodies,
)
from benchmarks.servers_under_test import running, servers_under_test
from tests.server import free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("speed"),
]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

ROUNDS = 3
SECONDS = 2.0
CONNECTIONS = 16
COMPARED = ("ours", "empty-bento", "empty-fastapi")

Reports = dict[str, list[WrkReport]]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Load the three servers in turn, so that a slow moment of the machine slows all of them."""
    folder = tmp_path_factory.mktemp("speed")
    reports: Reports = {name: [] for name in COMPARED}
    with contextlib.ExitStack() as stack:
        started = []
        for server in servers_under_test():
            if server.name in COMPARED:
                bodies = [server.wrap(pupil) for pupil in random_pupils(500)]
                path = write_bodies(folder / f"{server.name}.jsonl", bodies)
                started.append((stack.enter_context(running(server, folder)), path))
        for _ in range(ROUNDS):
            for process, path in started:
                report = run_wrk(process.url, bodies=path, connections=CONNECTIONS, seconds=SECONDS)
                reports[process.server.name].append(report)
    return reports


def rate(reports: Reports, name: str) -> float:
    return statistics.median(report.rate for report in reports[name])


@needs_wrk
def test_predict_is_faster_than_empty_bentoml_method_as_installed(reports: Reports) -> None:
    assert rate(reports, "ours") > 2.5 * rate(reports, "empty-bento")


@needs_wrk
def test_predict_reaches_quarter_of_empty_fastapi_route(reports: Reports) -> None:
    assert rate(reports, "ours") > 0.25 * rate(reports, "empty-fastapi")


@needs_wrk
def test_load_has_no_failed_request(reports: Reports) -> None:
    failed = [report.failed for runs in reports.values() for report in runs]
    assert failed == [0] * len(COMPARED) * ROUNDS


def test_wrk_report_is_parsed_with_all_failures() -> None:
    text = """Running 2s test @ http://127.0.0.1:1/predict
  1 threads and 16 connections
  Latency Distribution
     50%    2.44ms
     99%  980.00us
  5930 requests in 2.00s, 3.92MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:   2961.37
"""
    assert parse_wrk_report(text) == WrkReport(5930, 2961.37, 0.00244, 0.00098, 7)


def test_wrk_is_not_started_beyond_loopback_or_limits(tmp_path: Path) -> None:
    bodies = write_bodies(tmp_path / "bodies.jsonl", [{}])
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 only"):
        run_wrk("http://example.org/predict", bodies=bodies, connections=1, seconds=1)
    for connections, seconds in ((1, 1e9), (10**6, 1.0), (0, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="at most"):
            run_wrk("http://127.0.0.1:1/", bodies=bodies, connections=connections, seconds=seconds)


@pytest.mark.parametrize("limit", [{"max_requests": 1}, {"max_seconds": 0.01}])
def test_load_fails_the_test_when_it_reaches_its_limit(limit: dict[str, float]) -> None:
    with (
        pytest.raises(AssertionError, match="reached its limit"),
        Load(free_port(), clients=2, **limit) as load,  # type: ignore[arg-type]
    ):
        time.sleep(0.2)
    assert load.result.requests == 0
    assert load.result.refused_connections >= 2
