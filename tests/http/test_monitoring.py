"""GET /drift and the gauges beside it: what the background makes of the history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.server import Server, serving

PREFIX = "student_success_"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server of two workers that looks at its history twice a second."""
    folder = tmp_path_factory.mktemp("watched")
    with serving(folder, WORKERS="2", MONITOR_SECONDS="0.5") as server:
        yield server


@pytest.fixture(scope="module")
def admin(watched: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=watched.url, headers=watched.admin, timeout=60) as client:
        yield client


def gauges(client: httpx.Client) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name.removeprefix(PREFIX), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def awaited(what: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def predict(client: httpx.Client, pupils: list[dict[str, Any]], session_id: str) -> list[str]:
    response = client.post(
        "/predict_batch", json={"students": pupils}, headers={"X-Session-Id": session_id}
    )
    assert response.status_code == 200, response.text
    return [one["prediction_id"] for one in response.json()["predictions"]]


def test_drift_and_live_error_follow_predictions_outcomes_and_erasure(
    watched: Server, admin: httpx.Client
) -> None:
    # Nobody yet: nothing to compare, and no figure that could be taken for one.
    before = httpx.get(f"{watched.url}/drift").json()
    assert before["verdict"] == before["predictions"]["verdict"] == "insufficient_data"
    assert before["rows"] == 0
    assert before["model_version"] == "seed"
    assert set(before["features"]) == set(FEATURE_NAMES)
    unknown = (("prediction_drift",), ("live_interval_coverage",), ("live_mae", "G1+G2"))
    wanted = {("feature_drift", "age"), ("drift_detected",), *unknown}
    awaited(lambda: wanted <= gauges(admin).keys())
    found = gauges(admin)
    for key in unknown:
        assert found[key] != found[key], f"{key} is a number"
    assert found["drift_detected",] == 0

    # A school where everybody is like the example pupil, and most are absent a lot.
    pupils = [
        {**EXAMPLE, "absences": 30 + number % 5, "reference": f"P-{number}"}
        for number in range(120)
    ]
    ids = predict(admin, pupils, "school")
    awaited(lambda: admin.get("/drift").json()["rows"] == len(pupils))
    report = admin.get("/drift").json()
    assert report["computed_at"] > before["computed_at"]
    absences = report["features"]["absences"]
    assert (absences["verdict"], absences["test"], absences["count"]) == ("drift", "ks", 120)
    assert absences["p_adjusted"] < 0.001
    assert absences["statistic"] == absences["distance"] > 0.9
    assert report["features"]["school"]["test"] == "chi-square"
    assert report["predictions"]["verdict"] == report["verdict"] == "drift"
    assert report["predictions"]["horizons"]["none"]["verdict"] == "insufficient_data"
    awaited(lambda: gauges(admin)["drift_detected",] >= 2)
    found = gauges(admin)
    assert found["feature_drift", "absences"] == pytest.approx(absences["distance"], abs=1e-6)
    assert found["prediction_drift",] > 0.1

    # Both workers and every connection tell the same report.
    for _ in range(8):
        told = httpx.get(f"{watched.url}/drift").json()
        assert told["features"] == report["features"]

    said = admin.get("/history", params={"session_id": "school", "limit": 1000}).json()
    by_id = {row["prediction_id"]: row for row in said}
    outcomes = [{"prediction_id": one, "actual_G3": 12} for one in ids[:60]]
    response = admin.post("/outcomes", json={"outcomes": outcomes}).json()
    assert response == {"accepted": 60, "rejected": []}
    awaited(lambda: gauges(admin)["live_outcomes", "G1+G2"] == 60)
    rows = [by_id[one] for one in ids[:60]]
    mae = sum(abs(row["predicted_G3"] - 12) for row in rows) / 60
    within = sum(row["interval"]["low"] <= 12 <= row["interval"]["high"] for row in rows) / 60
    # Gauges are set one after another: the first does not say that all are.
    awaited(lambda: gauges(admin)["live_mae", "G1+G2"] == pytest.approx(mae))
    awaited(lambda: gauges(admin)["live_interval_coverage",] == pytest.approx(within))
    found = gauges(admin)
    assert found["live_mae", "G1"] != found["live_mae", "G1"]

    # What is erased is forgotten by the figures too.
    assert admin.delete("/history", params={"session_id": "school"}).status_code == 200
    awaited(lambda: gauges(admin)["live_outcomes", "G1+G2"] == 0)
    awaited(lambda: admin.get("/drift").json()["verdict"] == "insufficient_data")
    awaited(lambda: math.isnan(gauges(admin)["live_mae", "G1+G2"]))
    assert not [line for line in watched.log_lines() if line.get("event") == "monitoring_failed"]


def test_worker_maps_no_scipy_or_pandas(watched: Server) -> None:
    for worker in watched.workers():
        mapped = {Path(part.path).as_posix() for part in worker.memory_maps()}
        assert not [path for path in mapped if "/scipy/" in path or "/pandas/" in path]
