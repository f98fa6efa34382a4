"""GET, POST and DELETE /history: pages, whose they are, erasure."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests import databases
from tests.http.conftest import assert_error
from tests.server import Server

FIELDS = {
    "id": int,
    "prediction_id": str,
    "session_id": str,
    "timestamp": str,
    "inputs_json": dict,
    "reference": type(None),
    "predicted_G3": float,
    "decision": str,
    "pass_probability": float,
    "interval": dict,
    "horizon": str,
    "at_risk": bool,
    "model_version": str,
    "actual_G3": type(None),
}


def fill(client: httpx.Client, session_id: str, number: int) -> list[str]:
    """Make predictions in a session; return their ids, oldest first."""
    response = client.post(
        "/predict_batch",
        json={"students": [EXAMPLE] * number},
        headers={"X-Session-Id": session_id},
    )
    return [item["prediction_id"] for item in response.json()["predictions"]]


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [row["prediction_id"] for row in response.json()]


def test_history_row_has_every_field_and_equals_the_response(
    http: httpx.Client, session_id: str
) -> None:
    answered = http.post("/predict", json=EXAMPLE, headers={"X-Session-Id": session_id}).json()
    response = http.get("/history", params={"session_id": session_id})
    assert response.headers["content-type"] == "application/json"
    [row] = response.json()
    assert {name: type(value) for name, value in row.items()} == FIELDS
    for name in set(row) & set(answered):
        assert row[name] == answered[name]
    assert row["inputs_json"] == EXAMPLE


def test_history_pages_cover_all_rows_newest_first(http: httpx.Client, session_id: str) -> None:
    made = fill(http, session_id, 25)
    seen: list[dict[str, Any]] = []
    params: dict[str, Any] = {"session_id": session_id, "limit": 10}
    while page := http.get("/history", params=params).json():
        assert len(page) <= 10
        seen += page
        params["before_id"] = page[-1]["id"]
    assert [row["prediction_id"] for row in seen] == made[::-1]
    numbers = [row["id"] for row in seen]
    assert numbers == sorted(numbers, reverse=True)


def test_history_returns_50_rows_by_default(http: httpx.Client, session_id: str) -> None:
    made = fill(http, session_id, 60)
    assert ids(http.get("/history", params={"session_id": session_id})) == made[:-51:-1]
    assert ids(http.post("/history", json={"session_id": session_id})) == made[:-51:-1]


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"before_id": "0"}, "before_id"),
        ({"before_id": str(2**63)}, "before_id"),
        ({"before_id": "9" * 5000}, "before_id"),
        ({"offset": "1"}, "offset"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_history_reports_invalid_parameter(
    http: httpx.Client, session_id: str, params: dict[str, str], loc: str
) -> None:
    response = http.get("/history", params={"session_id": session_id, **params})
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert detail["loc"] == [loc]


@pytest.mark.parametrize(
    "query", ["session_id=%FF", "session_id=a&session_id=b", "&".join(["a=1"] * 30), "limit=%zz"]
)
def test_history_rejects_malformed_query_string_with_422(http: httpx.Client, query: str) -> None:
    response = http.get(f"/history?{query}", headers={"X-Session-Id": "x"})
    assert_error(response, 422, "validation_error")


@pytest.mark.parametrize(
    "body", [{"limit": "5"}, {"limit": 0}, {"limit": True}, {"session_id": ""}, {"other": 1}]
)
def test_history_reports_invalid_field_of_the_body(
    admin: httpx.Client, body: dict[str, Any]
) -> None:
    [detail] = assert_error(admin.post("/history", json=body), 422, "validation_error")["details"]
    assert detail["loc"] == list(body)


def test_history_of_all_sessions_needs_admin_token(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    made = fill(http, session_id, 2)
    for asked in (
        lambda client: client.get("/history"),
        lambda client: client.get("/history?limit=5"),
        lambda client: client.post("/history"),
        lambda client: client.post("/history", json={"limit": 5}),
    ):
        assert_error(asked(http), 401, "unauthenticated")
        assert set(made) <= set(ids(asked(admin)))


@pytest.mark.parametrize("way", ["query", "header", "body", "query of POST", "header of POST"])
def test_history_returns_only_the_session_named_in_query_header_or_body(
    http: httpx.Client, session_id: str, way: str
) -> None:
    made = fill(http, session_id, 2)
    fill(http, f"{session_id}-other", 2)
    header = {"X-Session-Id": session_id}
    response = {
        "query": lambda: http.get("/history", params={"session_id": session_id}),
        "header": lambda: http.get("/history", headers=header),
        "body": lambda: http.post("/history", json={"session_id": session_id}),
        "query of POST": lambda: http.post("/history", params={"session_id": session_id}),
        "header of POST": lambda: http.post("/history", json={"limit": 50}, headers=header),
    }[way]()
    assert ids(response) == made[::-1]


@pytest.mark.parametrize(
    "name", ["' OR '1'='1", "x' --", "%", "_", "*", "x'/**/OR/**/1=1/**/--", "session-%"]
)
def test_history_does_not_interpret_session_as_pattern_or_sql(
    http: httpx.Client, name: str
) -> None:
    response = http.get("/history", params={"session_id": name})
    if " " in name:
        assert_error(response, 422, "validation_error")
    else:
        assert response.json() == []


def test_erasure_removes_one_session_and_no_other(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    fill(http, session_id, 3)
    other = fill(http, f"{session_id}-other", 1)
    response = admin.delete("/history", params={"session_id": session_id})
    assert response.status_code == 200
    assert response.json() == {"session_id": session_id, "erased": 3}
    assert ids(http.get("/history", params={"session_id": session_id})) == []
    assert ids(http.get("/history", params={"session_id": f"{session_id}-other"})) == other
    again = admin.delete("/history", params={"session_id": session_id})
    assert again.json()["erased"] == 0


def test_erasure_leaves_no_byte_of_the_session_on_disk(
    server: Server, http: httpx.Client, admin: httpx.Client
) -> None:
    if databases.SERVER is not None:
        pytest.skip("a database server writes over erased rows in its own time")
    mark = "marked-0f9a8b7c"
    response = http.post(
        "/predict",
        json={**EXAMPLE, "reference": f"pupil-{mark}"},
        headers={"X-Session-Id": f"session-{mark}", "Idempotency-Key": f"key-{mark}"},
    )
    prediction_id = response.json()["prediction_id"]
    files = [path for path in server.state_dir.rglob("*") if path.is_file()]

    def found(needle: str) -> list[str]:
        return [path.name for path in files if needle.encode() in path.read_bytes()]

    assert found(mark)
    assert found(prediction_id)
    assert admin.delete("/history", params={"session_id": f"session-{mark}"}).json()["erased"] == 1
    # Where another connection was reading, the log is written over a second later.
    end = time.monotonic() + 5
    while found(mark) + found(prediction_id) and time.monotonic() < end:
        time.sleep(0.1)
    assert found(mark) == []
    assert found(prediction_id) == []


def test_erasure_needs_session_in_query_or_header(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    [detail] = assert_error(admin.delete("/history"), 422, "validation_error")["details"]
    assert detail["loc"] == ["session_id"]
    fill(http, session_id, 1)
    response = admin.delete("/history", headers={"X-Session-Id": session_id})
    assert response.json() == {"session_id": session_id, "erased": 1}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/predict", EXAMPLE),
        ("POST", "/predict_batch", {"students": [EXAMPLE]}),
        ("POST", "/explain", EXAMPLE),
        ("POST", "/outcomes", {"outcomes": [{"prediction_id": "none", "actual_G3": 10}]}),
        ("GET", "/history", None),
        ("POST", "/history", {}),
        ("DELETE", "/history", None),
        ("GET", "/health", None),
    ],
)
def test_every_route_rejects_two_different_sessions_and_changes_nothing(
    http: httpx.Client, admin: httpx.Client, session_id: str, method: str, path: str, body: Any
) -> None:
    other = f"{session_id}-other"
    fill(http, session_id, 1)
    fill(http, other, 1)
    options: dict[str, Any] = {} if body is None else {"json": body}
    response = admin.request(
        method,
        path,
        params={"session_id": session_id},
        headers={"X-Session-Id": other},
        **options,
    )
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert detail["loc"] == ["session_id"]
    for session in (session_id, other):
        assert len(ids(http.get("/history", params={"session_id": session}))) == 1


def test_post_history_rejects_another_session_in_the_body(
    http: httpx.Client, session_id: str
) -> None:
    fill(http, session_id, 1)
    body = {"session_id": session_id}
    for options in ({"headers": {"X-Session-Id": "other"}}, {"params": {"session_id": "other"}}):
        response = http.post("/history", json=body, **options)  # type: ignore[arg-type]
        [detail] = assert_error(response, 422, "validation_error")["details"]
        assert detail["loc"] == ["session_id"]
    response = http.post(
        "/history",
        json=body,
        headers={"X-Session-Id": session_id},
        params={"session_id": session_id},
    )
    assert len(ids(response)) == 1


def test_history_ids_are_not_reused_after_erasure(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    fill(http, session_id, 1)
    newest = admin.get("/history?limit=1").json()[0]["id"]
    admin.delete("/history", params={"session_id": session_id})
    fill(http, f"{session_id}-again", 1)
    assert admin.get("/history?limit=1").json()[0]["id"] > newest
