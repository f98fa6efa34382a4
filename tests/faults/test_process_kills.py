"""An acknowledged prediction is never lost when every process is killed at random moments."""

from __future__ import annotations

import random
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.load import Load, LoadResult
from tests.faults.database_file import check_integrity, count_predictions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

PROMISE = "an acknowledged prediction is never lost"
KILLS = repetitions(20, full=100)
LONGEST_SECONDS = 0.8
WHILE_STARTING = 5
"""Each time it was killed so often, it is killed once while it starts, too."""


def test_acknowledged_predictions_survive_kills_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(7)
    server = Server(tmp_path, WORKERS="2")
    seen = LoadResult()
    lost: set[str] = set()
    twice: set[str] = set()
    faults = 0
    server.start()
    try:
        for round_ in range(KILLS):
            with Load(server.port) as load:
                load.wait_for(10)
                time.sleep(chance.uniform(0, LONGEST_SECONDS))
                server.kill()
                faults += 1
            seen.add(load.result)
            if round_ % WHILE_STARTING == 0:
                server.start(wait=False)
                time.sleep(chance.uniform(0, 2))
                server.kill()
                faults += 1
            server.start()
            assert check_integrity(tmp_path) == "ok"
            row_counts = count_predictions(tmp_path)
            lost |= {one for one in seen.acknowledged if not row_counts[one]}
            twice |= {one for one, number in row_counts.items() if number > 1}
        shown = shown_by_the_api(server)
    finally:
        server.stop()
        counts.add(
            promise=PROMISE,
            faults=faults,
            requests=seen.requests,
            acknowledged=seen.statuses[200],
            lost=len(lost | twice),
        )
    assert not lost
    assert not twice
    assert len(set(seen.acknowledged)) == len(seen.acknowledged)
    assert set(seen.acknowledged) <= set(shown)
    assert len(shown) == len(set(shown))
    # What is not an answer is a connection that the kill cut.
    assert set(seen.statuses) == {200}


def shown_by_the_api(server: Server) -> list[str]:
    """Page through the whole history."""
    shown: list[str] = []
    query: dict[str, int] = {"limit": 1000}
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=60) as http:
        while rows := http.get("/history", params=query).raise_for_status().json():
            shown += [row["prediction_id"] for row in rows]
            query["before_id"] = rows[-1]["id"]
    return shown
