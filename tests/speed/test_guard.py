"""A guard against getting slower: ratios within one run, never times.

The limits are far below what `make bench` measures on a quiet machine, so that a busy one does not
raise a false alarm, and far above what any real regression would leave.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.peers import peers, running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("speed"),
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed"),
]

ROUNDS = 3
SECONDS = 2.0
CONNECTIONS = 16
COMPARED = ("ours", "empty-bento", "empty-fastapi")


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[load.Load]]:
    """Load the three in turn, so that whatever slows the machine slows all of them."""
    folder = tmp_path_factory.mktemp("speed")
    found: dict[str, list[load.Load]] = {name: [] for name in COMPARED}
    with contextlib.ExitStack() as servers:
        up = []
        for peer in peers():
            if peer.name in COMPARED:
                bodies = [peer.wrap(pupil) for pupil in load.pupils(500)]
                path = load.write_bodies(folder / f"{peer.name}.jsonl", bodies)
                up.append((servers.enter_context(running(peer, folder)), path))
        for _ in range(ROUNDS):
            for server, bodies_path in up:
                found[server.peer.name].append(
                    load.run(
                        server.url, bodies=bodies_path, connections=CONNECTIONS, seconds=SECONDS
                    )
                )
    return found


def rate(loads: dict[str, list[load.Load]], name: str) -> float:
    return statistics.median(run.rate for run in loads[name])


def test_committed_prediction_is_faster_than_an_empty_method_of_stock_bentoml(
    loads: dict[str, list[load.Load]],
) -> None:
    assert rate(loads, "ours") > 2.5 * rate(loads, "empty-bento")


def test_committed_prediction_stays_within_reach_of_an_empty_fastapi_route(
    loads: dict[str, list[load.Load]],
) -> None:
    assert rate(loads, "ours") > 0.25 * rate(loads, "empty-fastapi")


def test_no_request_of_the_load_fails(loads: dict[str, list[load.Load]]) -> None:
    assert [run.failed for runs in loads.values() for run in runs] == [0] * len(COMPARED) * ROUNDS


def test_report_of_the_load_generator_is_read_as_it_is_written(tmp_path: Path) -> None:
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
    assert load.parse(text) == load.Load(5930, 2961.37, 0.00244, 0.00098, 7)
