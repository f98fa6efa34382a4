"""`POST /explain` on a real server."""

from __future__ import annotations

import time

import httpx
import pytest

from student_success.domain.students import EXAMPLE, FEATURES


@pytest.mark.parametrize("unknown", [(), ("G2",), ("G1", "G2")])
def test_explain_contributions_add_up_to_the_prediction(
    http: httpx.Client, unknown: tuple[str, ...]
) -> None:
    pupil = {name: value for name, value in EXAMPLE.items() if name not in unknown}
    said = http.post("/predict", json=pupil).json()
    why = http.post("/explain", json=pupil).json()
    shared = ("predicted_G3", "decision", "pass_probability", "interval", "horizon", "at_risk")
    assert {k: why[k] for k in shared if k in why} == {k: said[k] for k in shared if k in why}
    assert {item["feature"] for item in why["contributions"]} == {f.name for f in FEATURES}
    total = sum(item["share"] for item in why["contributions"])
    assert total == pytest.approx(why["predicted_G3"] - why["baseline_G3"], abs=1e-3)
    assert {item["feature"]: item["value"] for item in why["contributions"]} == {
        feature.name: pupil.get(feature.name) for feature in FEATURES
    }
    assert len(why["reasons"]["fr"]) == len(why["reasons"]["en"]) <= 3
    assert why["model_version"] == said["model_version"]


def test_explain_what_if_equals_predict_on_the_changed_pupil(http: httpx.Client) -> None:
    pupil = {**EXAMPLE, "absences": 30, "studytime": 1, "goout": 5, "G1": None, "G2": None}
    why = http.post("/explain", json=pupil).json()
    assert why["what_if"]
    for item in why["what_if"]:
        said = http.post("/predict", json={**pupil, **item["change"]}).json()
        assert said["predicted_G3"] == item["predicted_G3"] > why["predicted_G3"]
        assert said["pass_probability"] == item["pass_probability"]


def test_explain_stores_no_row(http: httpx.Client) -> None:
    headers = {"X-Session-Id": f"explained-{time.time_ns()}"}
    assert http.post("/explain", json=EXAMPLE, headers=headers).status_code == 200
    assert http.get("/history", headers=headers).json() == []


def test_explain_rejects_invalid_pupil_with_422(http: httpx.Client) -> None:
    response = http.post("/explain", json={**EXAMPLE, "age": 99})
    assert (response.status_code, response.json()["error"]) == (422, "validation_error")
    assert response.json()["details"][0]["loc"] == ["age"]
