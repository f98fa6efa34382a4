"""POST /predict: every field, what is refused, sessions, repeats."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.http.conftest import assert_error

FIELDS = {
    "prediction_id": str,
    "session_id": str,
    "predicted_G3": float,
    "decision": str,
    "threshold": float,
    "pass_probability": float,
    "interval": dict,
    "horizon": str,
    "at_risk": bool,
    "model_version": str,
    "mlflow_model_version": str,
    "timestamp": str,
}


def predict(client: httpx.Client, body: Any = None, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict", json=EXAMPLE if body is None else body, headers=sent)


def rows(client: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    response = client.get("/history", params={"session_id": session_id, "limit": 1000})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


def test_predict_returns_every_field_of_the_contract(http: httpx.Client, session_id: str) -> None:
    before = datetime.now(UTC)
    response = predict(http, X_Session_Id=session_id)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert {name: type(value) for name, value in found.items()} == FIELDS
    assert re.fullmatch("[0-9a-f]{32}", found["prediction_id"])
    assert found["session_id"] == session_id
    assert 0 <= found["predicted_G3"] <= 20
    whole = int(found["predicted_G3"] + 0.5)
    assert found["decision"] == ("reussite" if whole >= found["threshold"] == 10.0 else "echec")
    assert 0 <= found["pass_probability"] <= 1
    interval = found["interval"]
    assert set(interval) == {"low", "high", "level"}
    assert interval["level"] == 0.9
    assert 0 <= interval["low"] <= whole <= interval["high"] <= 20
    assert found["horizon"] == "G1+G2"
    assert found["model_version"] == found["mlflow_model_version"] == "seed"
    assert found["timestamp"].endswith("Z")
    moment = datetime.fromisoformat(found["timestamp"])
    assert before.timestamp() - 1 <= moment.timestamp() <= datetime.now(UTC).timestamp() + 1


def test_sessions_of_the_service_are_unique_and_sort_by_time(http: httpx.Client) -> None:
    """Random ones would make each commit write a page of the index for each of its rows."""
    sessions = []
    for _ in range(20):
        sessions.append(predict(http).json()["session_id"])
        time.sleep(0.002)
    assert sessions == sorted(set(sessions))


@pytest.mark.parametrize(
    ("changed", "horizon"),
    [
        ({"G1": None, "G2": None}, "none"),
        ({"G2": None}, "G1"),
        ({"G1": 10.5, "G2": 9.5}, "G1+G2"),
        ({"G1": 0, "G2": 0}, "G1+G2"),
        ({"G1": 20, "G2": 20}, "G1+G2"),
    ],
)
def test_predict_horizon_names_known_grades(
    http: httpx.Client, changed: dict[str, Any], horizon: str
) -> None:
    assert predict(http, {**EXAMPLE, **changed}).json()["horizon"] == horizon
    absent = {k: v for k, v in {**EXAMPLE, **changed}.items() if v is not None}
    assert predict(http, absent).json()["horizon"] == horizon


def test_predict_accepts_integer_written_with_decimal_point(
    http: httpx.Client, session_id: str
) -> None:
    body = json.dumps(EXAMPLE).replace('"age": 17', '"age": 17.0')
    assert "17.0" in body
    headers = {"Content-Type": "application/json", "X-Session-Id": session_id}
    assert http.post("/predict", content=body, headers=headers).status_code == 200
    [row] = rows(http, session_id)
    assert row["inputs_json"] == EXAMPLE
    assert isinstance(row["inputs_json"]["age"], int)


@pytest.mark.parametrize(
    ("changed", "loc"),
    [
        ({"age": "17"}, ["age"]),
        ({"age": True}, ["age"]),
        ({"age": 17.5}, ["age"]),
        ({"age": 14}, ["age"]),
        ({"absences": 366}, ["absences"]),
        ({"G1": 20.5}, ["G1"]),
        ({"G1": -1}, ["G1"]),
        ({"G1": "10"}, ["G1"]),
        ({"G1": None}, []),
        ({"school": "XX"}, ["school"]),
        ({"school": None}, ["school"]),
        ({"sex": "F"}, ["sex"]),
        ({"reference": "x" * 65}, ["reference"]),
        ({"reference": "\0"}, ["reference"]),
        ({"reference": {"a": 1}}, ["reference"]),
    ],
    ids=str,
)
def test_predict_reports_invalid_field_without_its_value(
    http: httpx.Client, session_id: str, changed: dict[str, Any], loc: list[str]
) -> None:
    response = predict(http, {**EXAMPLE, **changed}, X_Session_Id=session_id)
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert set(detail) == {"loc", "msg", "type"}
    assert detail["loc"] == loc
    assert rows(http, session_id) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        json.dumps(EXAMPLE).encode()[:-1] + b', "age": 18}',
        json.dumps({**EXAMPLE, "G1": float("nan")}).encode(),
        json.dumps({**EXAMPLE, "G1": float("inf")}).encode(),
        json.dumps(EXAMPLE).encode().replace(b"17", b"1" + b"0" * 5000),
        json.dumps({**EXAMPLE, "reference": "\ud800"}).encode(),
        b"\xef\xbb\xbf" * 2 + json.dumps(EXAMPLE).encode(),
        json.dumps(EXAMPLE).encode("utf-16"),
        json.dumps(EXAMPLE).encode()[:-1] + b', "reference": "\xff"}',
        b'{"x":' * 100 + b"1" + b"}" * 100,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda body: repr(body[:12] + b".." + body[-12:]),
)
def test_predict_rejects_malformed_body_with_422_and_stores_no_row(
    http: httpx.Client, session_id: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/json", "X-Session-Id": session_id}
    assert_error(http.post("/predict", content=body, headers=headers), 422, "validation_error")
    assert rows(http, session_id) == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "application/json; charset=latin-1",
        "application/json, text/plain",
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/history", "/health"])
def test_post_returns_415_if_content_type_is_not_json(
    http: httpx.Client, path: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = http.post(path, content=json.dumps(EXAMPLE).encode(), headers=headers)
    assert_error(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=UTF8",
        "application/json; charset=utf_8;",
        'application/json; profile="a;b"; charset=utf-8; q=1',
        "application/json;",
    ],
)
def test_predict_accepts_content_type_with_utf8_charset(
    http: httpx.Client, content_type: str
) -> None:
    response = http.post(
        "/predict", content=json.dumps(EXAMPLE).encode(), headers={"Content-Type": content_type}
    )
    assert response.status_code == 200


def test_predict_names_charset_when_it_is_not_utf8(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-16"}
    response = http.post("/predict", content=json.dumps(EXAMPLE).encode("utf-16"), headers=headers)
    assert "UTF-8" in assert_error(response, 415, "unsupported_media_type")["message"]


@pytest.mark.parametrize(("path", "body"), [("/predict", EXAMPLE), ("/explain", EXAMPLE)])
def test_post_ignores_byte_order_mark(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    content = b"\xef\xbb\xbf" + json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    response = http.post(path, content=content, headers=headers)
    assert response.status_code == 200, response.text


def test_predict_takes_session_from_query(http: httpx.Client, session_id: str) -> None:
    response = http.post("/predict", params={"session_id": session_id}, json=EXAMPLE)
    assert response.json()["session_id"] == session_id


def test_predict_accepts_the_same_session_in_header_and_query(
    http: httpx.Client, session_id: str
) -> None:
    response = http.post(
        "/predict",
        params={"session_id": session_id},
        json=EXAMPLE,
        headers={"X-Session-Id": session_id},
    )
    assert response.json()["session_id"] == session_id


def test_predict_makes_new_session_if_none_is_named(http: httpx.Client) -> None:
    made = {predict(http).json()["session_id"] for _ in range(5)}
    assert len(made) == 5
    for session in made:
        assert len(rows(http, session)) == 1


@pytest.mark.parametrize("name", ["", " ", "a b", "é", "x" * 129, "tab\there", "nul\x00"])
def test_predict_rejects_session_with_invalid_characters(http: httpx.Client, name: str) -> None:
    response = http.post("/predict", params={"session_id": name}, json=EXAMPLE)
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert detail["loc"] == ["session_id"]


def test_predict_rejects_repeated_query_parameter(http: httpx.Client) -> None:
    assert_error(
        http.post("/predict?session_id=a&session_id=b", json=EXAMPLE), 422, "validation_error"
    )


def test_predict_stores_reference_separately_from_features(
    http: httpx.Client, session_id: str
) -> None:
    response = predict(http, {**EXAMPLE, "reference": "élève:7"}, X_Session_Id=session_id)
    assert response.status_code == 200
    [row] = rows(http, session_id)
    assert row["reference"] == "élève:7"
    assert row["inputs_json"] == EXAMPLE


def test_predict_with_the_same_idempotency_key_returns_same_response_and_stores_one_row(
    http: httpx.Client, session_id: str
) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    first, second = (predict(http, **headers) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert len(rows(http, session_id)) == 1


def test_concurrent_predicts_with_the_same_idempotency_key_store_one_row(
    http: httpx.Client, session_id: str
) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: predict(http, **headers), range(48)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert len(rows(http, session_id)) == 1


def test_idempotency_key_with_another_body_returns_409(http: httpx.Client, session_id: str) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    assert predict(http, **headers).status_code == 200
    assert_error(predict(http, {**EXAMPLE, "age": 18}, **headers), 409, "conflict")
    assert len(rows(http, session_id)) == 1


def test_idempotency_key_counts_once_for_all_roles_and_for_each_session(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    others = {**headers, "X_Session_Id": f"{session_id}-other"}
    responses = [predict(http, **headers), predict(http, **others), predict(admin, **headers)]
    assert [response.status_code for response in responses] == [200, 200, 200]
    assert responses[2].content == responses[0].content
    assert responses[1].json()["prediction_id"] != responses[0].json()["prediction_id"]
    assert predict(http, **headers).content == responses[0].content
    assert len(rows(http, session_id)) == 1


def test_values_far_from_the_training_data_are_named_and_counted(http: httpx.Client) -> None:
    far = {**EXAMPLE, "age": 22, "absences": 365, "G1": 0, "G2": 20}
    expected = ["absences", "G1", "G2"]
    assert "unusual" not in predict(http).json()
    assert predict(http, far).json()["unusual"] == expected
    batch = http.post("/predict_batch", json={"students": [EXAMPLE, far]}).json()["predictions"]
    assert [answer.get("unusual") for answer in batch] == [None, expected]
    end = time.monotonic() + 20
    while (
        'student_success_unusual_values_total{feature="absences"}' not in http.get("/metrics").text
    ):
        assert time.monotonic() < end, "the values are not counted"
        time.sleep(0.2)


def test_rejected_request_does_not_use_its_idempotency_key(
    http: httpx.Client, session_id: str
) -> None:
    headers = {"X_Session_Id": session_id, "Idempotency_Key": f"key of {session_id}"}
    assert_error(predict(http, {**EXAMPLE, "age": 1}, **headers), 422, "validation_error")
    assert predict(http, **headers).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_idempotency_key_with_invalid_characters_is_rejected(http: httpx.Client, key: str) -> None:
    response = http.post(
        "/predict", json=EXAMPLE, headers=[("Idempotency-Key", key.encode("latin-1"))]
    )
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert detail["loc"] == ["Idempotency-Key"]
