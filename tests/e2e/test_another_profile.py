"""A service with another school's profile: before its first model, and on the wrong state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.schools import SCHOOLS, write_profile
from tests.server import ADMIN_TOKEN, Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

START_SECONDS = 60.0


@pytest.fixture(scope="module", params=["lower-is-better", "points"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    write_profile(folder / "school.toml", request.param)
    running = Server(folder / "state", PROFILE_PATH=str(folder / "school.toml"))
    running.start(wait=False)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{running.url}/livez", timeout=5)
                break
            except httpx.HTTPError:
                assert time.monotonic() < end, running.tail()
                time.sleep(0.1)
        yield running
    finally:
        running.stop()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def example(http: httpx.Client) -> dict[str, Any]:
    document = http.get("/openapi.json").json()
    operation = document["paths"]["/predict"]["post"]
    shown: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["example"]
    return shown


def test_service_without_a_model_of_its_profile_says_so_and_serves_no_seed(
    server: Server, http: httpx.Client, example: dict[str, Any]
) -> None:
    for response in (
        http.post("/predict", json=example),
        http.post("/explain", json=example),
        http.get("/drift"),
    ):
        assert response.status_code == 503, response.text
        assert response.json()["error"] == "model_unavailable"
        assert "Train a version and promote it" in response.json()["message"]
    assert http.get("/readyz").status_code == 503
    health = http.get("/health").json()
    assert health["status"] == "unavailable"
    assert health["workers_behind"] == 0
    assert any("Train a version and promote it" in problem for problem in health["problems"])
    model = http.get("/model").json()
    assert not model["model_loaded"]
    assert model["profile"]["name"] in str(server.state_dir)
    assert model["profile"]["grade"]["column"] == "final"
    assert set(example) == set(model["expected_features"])

    refused = http.post("/rollback", json={"reason": "test"}, headers=server.admin)
    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")


def test_openapi_names_the_grade_and_its_bounds_by_the_profile(
    server: Server, http: httpx.Client
) -> None:
    document = http.get("/openapi.json").json()
    low, high = (0.0, 100.0) if "points" in str(server.state_dir) else (1.0, 6.0)
    schemas = document["components"]["schemas"]
    predicted = schemas["PredictionAnswer"]["properties"]["predicted_final"]
    assert (predicted["minimum"], predicted["maximum"]) == (low, high)
    assert schemas["Interval"]["properties"]["low"]["type"] == "number"
    assert "actual_final" in schemas["Outcome"]["required"]
    assert "G3" not in str(document)
    assert "0 to 20" not in str(document)


@pytest.mark.parametrize(("grade", "status"), [(3.5, 200), (3.3, 422), (101, 422), ("3", 422)])
def test_outcome_must_be_a_grade_that_exists(
    http: httpx.Client, grade: object, status: int
) -> None:
    outcome = {"prediction_id": "0" * 32, "actual_final": grade}
    response = http.post(
        "/outcomes",
        json={"outcomes": [outcome]},
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
    )
    assert response.status_code == status, response.text
    if grade == 3.3:
        [problem] = response.json()["details"]
        assert problem["type"] == "no_such_grade"
        assert "in steps of 0.5" in problem["msg"]


def test_state_directory_of_another_profile_is_refused_at_start(
    server: Server, tmp_path: Path
) -> None:
    """The shipped profile on the state of another, and a changed profile on its own state."""
    changed = tmp_path / "changed.toml"
    name = next(name for name in SCHOOLS if name in str(server.state_dir))
    changed.write_text(SCHOOLS[name].replace("maximum = 30", "maximum = 40"), "utf-8")
    for path in ("", str(changed)):
        second = Server(server.state_dir, PROFILE_PATH=path)
        second.log = tmp_path / "second.log"
        second.start(wait=False)
        assert second.process is not None
        try:
            assert second.process.wait(START_SECONDS) == 2, second.tail()
        finally:
            second.stop()
        message = second.log.read_text("utf-8")
        assert f"belongs to the profile {name}" in message
        assert "Set STATE_DIR to another folder" in message
        second.log.unlink()
