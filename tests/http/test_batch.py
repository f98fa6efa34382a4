"""POST /predict_batch: all or none, in order, up to ten thousand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.http.conftest import assert_error

PUPILS: list[dict[str, Any]] = [
    {**EXAMPLE, "G1": grade / 2, "G2": (grade + 1) / 2, "age": 15 + grade % 8}
    for grade in range(40)
] + [{**EXAMPLE, "G2": None}, {**EXAMPLE, "G1": None, "G2": None}]


def batch(client: httpx.Client, pupils: list[Any], **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict_batch", json={"students": pupils}, headers=sent)


def test_predict_batch_returns_predictions_in_order_equal_to_single_ones(
    http: httpx.Client, session_id: str
) -> None:
    response = batch(http, PUPILS, X_Session_Id=session_id)
    assert response.status_code == 200
    predictions = response.json()["predictions"]
    assert set(response.json()) == {"predictions"}
    of_its_own = {"prediction_id", "timestamp", "session_id"}
    for pupil, prediction in zip(PUPILS, predictions, strict=True):
        single = http.post("/predict", json=pupil).json()
        assert set(single) == set(prediction)
        for name in set(single) - of_its_own:
            assert prediction[name] == single[name]
    assert {prediction["session_id"] for prediction in predictions} == {session_id}
    ids = [prediction["prediction_id"] for prediction in predictions]
    assert len(set(ids)) == len(ids)
    rows = http.get("/history", params={"session_id": session_id, "limit": 1000}).json()
    assert [row["prediction_id"] for row in reversed(rows)] == ids
    assert [row["inputs_json"] for row in reversed(rows)] == [
        {**pupil, "G1": pupil["G1"], "G2": pupil["G2"]} for pupil in PUPILS
    ]


def test_predict_batch_accepts_10000_pupils(http: httpx.Client, session_id: str) -> None:
    response = batch(http, [EXAMPLE] * 10_000, X_Session_Id=session_id)
    assert response.status_code == 200
    assert len(response.json()["predictions"]) == 10_000
    page = http.get("/history", params={"session_id": session_id, "limit": 1000}).json()
    assert len(page) == 1000


@pytest.mark.parametrize("pupils", [[], [EXAMPLE] * 10_001], ids=["none", "10001"])
def test_predict_batch_rejects_empty_or_too_long_list(
    http: httpx.Client, session_id: str, pupils: list[Any]
) -> None:
    body = assert_error(batch(http, pupils, X_Session_Id=session_id), 422, "validation_error")
    assert body["details"][0]["loc"] == ["students"]
    assert http.get("/history", params={"session_id": session_id}).json() == []


def test_predict_batch_reports_every_invalid_row_and_stores_none(
    http: httpx.Client, session_id: str
) -> None:
    bad = {3: {**EXAMPLE, "age": 99}, 17: {**EXAMPLE, "x": 1}, 4000: {}, 9999: "pupil"}
    pupils = [bad.get(number, EXAMPLE) for number in range(10_000)]
    body = assert_error(batch(http, pupils, X_Session_Id=session_id), 422, "validation_error")
    assert {detail["loc"][1] for detail in body["details"]} == set(bad)
    assert http.get("/history", params={"session_id": session_id}).json() == []


def test_predict_batch_reports_10000_invalid_rows(http: httpx.Client) -> None:
    body = assert_error(batch(http, [{**EXAMPLE, "age": 0}] * 10_000), 422, "validation_error")
    assert [detail["loc"] for detail in body["details"]] == [
        ["students", number, "age"] for number in range(10_000)
    ]


def test_predict_batch_with_the_same_idempotency_key_stores_rows_once(
    http: httpx.Client, session_id: str
) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    first, second = (batch(http, PUPILS[:3], **headers) for _ in range(2))
    assert first.content == second.content
    assert len(http.get("/history", params={"session_id": session_id}).json()) == 3
    # A key of one route is none of another's.
    assert (
        http.post(
            "/predict",
            json=EXAMPLE,
            headers={"X-Session-Id": session_id, "Idempotency-Key": f"key of {session_id}"},
        ).status_code
        == 200
    )
