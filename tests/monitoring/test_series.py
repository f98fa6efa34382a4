"""What is asked of the service must not grow what is measured of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.server import Server

pytestmark = pytest.mark.e2e

PATHS = 10_000
SESSIONS = 200


def series(server: Server) -> set[str]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0] for line in lines if line and not line.startswith("#")}


def test_ten_thousand_paths_add_no_series(scraped: Server) -> None:
    def ask(start: int) -> None:
        with httpx.Client(base_url=scraped.url, timeout=30) as client:
            for number in range(start, PATHS, 4):
                assert client.get(f"/{number:x}/wp-login.php?n={number}").status_code == 404

    def predict(start: int) -> None:
        with httpx.Client(base_url=scraped.url, timeout=30) as client:
            for number in range(start, SESSIONS, 4):
                session = {"X-Session-Id": f"session-{number}"}
                assert client.post("/predict", json=EXAMPLE, headers=session).status_code == 200

    # Once by hand, so that what the first one of a kind makes is there.
    for start in range(4):
        httpx.get(f"{scraped.url}/first-{start}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(predict, [SESSIONS - 4 + start for start in range(4)]))
        before = series(scraped)
        list(pool.map(ask, range(4)))
        list(pool.map(predict, range(4)))
    grown = series(scraped) - before

    # A worker that had none of the first requests may add what the other one had.
    assert not [name for name in grown if "wp-login" in name or "session-" in name]
    assert len(grown) <= 40, sorted(grown)
    assert any('endpoint="(unknown)"' in name for name in before)
