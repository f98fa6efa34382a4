"""POST /outcomes: the grades really obtained, over HTTP."""

from __future__ import annotations

from typing import Any

import bentoml
import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.http.conftest import assert_error
from tests.server import ADMIN_TOKEN, Server

UNKNOWN = "f" * 32


def predict(client: httpx.Client, session_id: str, **changed: Any) -> str:
    response = client.post(
        "/predict", json={**EXAMPLE, **changed}, headers={"X-Session-Id": session_id}
    )
    assert response.status_code == 200, response.text
    prediction_id: str = response.json()["prediction_id"]
    return prediction_id


def record(client: httpx.Client, *outcomes: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/outcomes", json={"outcomes": list(outcomes)})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def grades(client: httpx.Client, session_id: str) -> list[int | None]:
    """Return the outcomes of a session, oldest prediction first."""
    rows = client.get("/history", params={"session_id": session_id}).json()
    return [row["actual_G3"] for row in reversed(rows)]


def test_outcome_appears_in_history(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    known = predict(http, session_id)
    predict(http, session_id)
    assert record(admin, {"prediction_id": known, "actual_G3": 11}) == {
        "accepted": 1,
        "rejected": [],
    }
    assert grades(http, session_id) == [11, None]


@pytest.mark.parametrize("place", ["headers", "params"])
def test_outcome_of_another_session_than_the_request_names_is_refused(
    http: httpx.Client, admin: httpx.Client, session_id: str, place: str
) -> None:
    predict(http, session_id, reference="P-1")
    outcome = {"session_id": session_id, "reference": "P-1", "actual_G3": 14}
    name = "X-Session-Id" if place == "headers" else "session_id"
    body: dict[str, Any] = {"outcomes": [outcome]}
    other: dict[str, Any] = {place: {name: f"{session_id}-other"}}
    assert_error(admin.post("/outcomes", json=body, **other), 422, "validation_error")
    assert grades(http, session_id) == [None]
    same: dict[str, Any] = {place: {name: session_id}}
    assert admin.post("/outcomes", json=body, **same).json()["accepted"] == 1


def test_outcome_by_reference_applies_to_every_horizon_of_the_pupil(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    for changed in ({"G1": None, "G2": None}, {"G2": None}, {}):
        predict(http, session_id, reference="P-1", **changed)
    predict(http, session_id, reference="P-2")
    outcome = {"session_id": session_id, "reference": "P-1", "actual_G3": 14.0}
    assert record(admin, outcome)["accepted"] == 1
    assert grades(http, session_id) == [14, 14, 14, None]


def test_outcomes_rejects_repeated_conflicting_and_unknown_ones_individually(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    first, second = predict(http, session_id), predict(http, session_id)
    response = record(
        admin,
        {"prediction_id": first, "actual_G3": 11},
        {"prediction_id": UNKNOWN, "actual_G3": 11},
        {"prediction_id": first, "actual_G3": 11},
        {"prediction_id": second, "actual_G3": 0},
        {"prediction_id": second, "actual_G3": 20},
        {"session_id": session_id, "reference": "nobody", "actual_G3": 11},
    )
    assert response["accepted"] == 2
    assert [(one["index"], one["error"]) for one in response["rejected"]] == [
        (1, "not_found"),
        (2, "repeated"),
        (4, "conflict"),
        (5, "not_found"),
    ]
    assert all(one["message"] for one in response["rejected"])
    assert grades(http, session_id) == [11, 0]


@pytest.mark.parametrize(
    ("changed", "loc"),
    [
        ({"actual_G3": 21}, ["actual_G3"]),
        ({"actual_G3": -1}, ["actual_G3"]),
        ({"actual_G3": 11.5}, ["actual_G3"]),
        ({"actual_G3": "11"}, ["actual_G3"]),
        ({"actual_G3": True}, ["actual_G3"]),
        ({"actual_G3": None}, ["actual_G3"]),
        ({"prediction_id": ""}, ["prediction_id"]),
        ({"prediction_id": 7}, ["prediction_id"]),
        ({"reference": "P-1"}, []),
        ({"prediction_id": None}, []),
        ({"prediction_id": None, "session_id": "s"}, []),
        ({"prediction_id": None, "session_id": "a b", "reference": "P"}, ["session_id"]),
        ({"prediction_id": None, "session_id": "s", "reference": "a\0"}, ["reference"]),
        ({"grade": 11}, ["grade"]),
        ({"correct": True}, []),
        ({"reason": "typo"}, []),
        ({"correct": True, "reason": ""}, ["reason"]),
        ({"correct": "yes", "reason": "typo"}, ["correct"]),
    ],
    ids=str,
)
def test_outcomes_reports_invalid_outcome_and_records_none(
    http: httpx.Client,
    admin: httpx.Client,
    session_id: str,
    changed: dict[str, Any],
    loc: list[str],
) -> None:
    known = predict(http, session_id)
    good = {"prediction_id": known, "actual_G3": 11}
    bad = {"prediction_id": UNKNOWN, "actual_G3": 11} | changed
    response = admin.post("/outcomes", json={"outcomes": [good, bad]})
    [detail] = assert_error(response, 422, "validation_error")["details"]
    assert detail["loc"] == ["outcomes", 1, *loc]
    assert grades(http, session_id) == [None]


@pytest.mark.parametrize("body", [{}, {"outcomes": []}, {"outcomes": {}}, [], None, {"x": 1}])
def test_outcomes_rejects_body_without_outcomes_with_422(admin: httpx.Client, body: Any) -> None:
    assert_error(admin.post("/outcomes", json=body), 422, "validation_error")


def test_outcomes_rejects_repeated_json_key_with_422(admin: httpx.Client) -> None:
    body = f'{{"outcomes": [{{"prediction_id": "{UNKNOWN}", "actual_G3": 1, "actual_G3": 2}}]}}'
    response = admin.post(
        "/outcomes", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert assert_error(response, 422, "validation_error")["details"][0]["type"] == "repeated_key"


def test_outcomes_accepts_10000_and_rejects_10001(admin: httpx.Client) -> None:
    one = {"session_id": "s" * 128, "reference": "r" * 64, "actual_G3": 11}
    response = record(admin, *[one] * 10_000)
    assert response["accepted"] == 0
    assert [part["index"] for part in response["rejected"]] == list(range(10_000))
    assert_error(
        admin.post("/outcomes", json={"outcomes": [one] * 10_001}), 422, "validation_error"
    )


def test_outcomes_reports_every_invalid_outcome(admin: httpx.Client) -> None:
    many = [{"prediction_id": UNKNOWN, "actual_G3": number} for number in range(5000)]
    response = admin.post("/outcomes", json={"outcomes": many})
    named = {
        detail["loc"][1] for detail in assert_error(response, 422, "validation_error")["details"]
    }
    assert named == set(range(21, 5000))


def test_outcomes_needs_token_even_if_predictions_do_not(
    http: httpx.Client, api_client: httpx.Client, guarded_admin: httpx.Client, session_id: str
) -> None:
    body = {"outcomes": [{"prediction_id": UNKNOWN, "actual_G3": 11}]}
    # Predictions are open on that server, grades are not.
    assert_error(http.post("/outcomes", json=body), 401, "unauthenticated")
    for client in (api_client, guarded_admin):
        known = predict(client, session_id)
        assert record(client, {"prediction_id": known, "actual_G3": 11})["accepted"] == 1


def test_erasure_removes_outcomes_of_the_session(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    outcome = {"prediction_id": predict(http, session_id, reference="P-1"), "actual_G3": 11}
    assert record(admin, outcome)["accepted"] == 1
    assert admin.delete("/history", params={"session_id": session_id}).json()["erased"] == 1
    predict(http, session_id, reference="P-1")
    assert grades(http, session_id) == [None]
    assert record(admin, outcome)["rejected"][0]["error"] == "not_found"


# BentoML's client uses things that its own libraries call old.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bentoml_client_records_outcomes(
    server: Server, http: httpx.Client, session_id: str
) -> None:
    known = predict(http, session_id)
    with bentoml.SyncHTTPClient(server.url, token=ADMIN_TOKEN, timeout=60) as client:
        response = client.outcomes({"outcomes": [{"prediction_id": known, "actual_G3": 3}]})
        client._temp_dir.cleanup()
    assert response == {"accepted": 1, "rejected": []}


def test_outcome_recorded_with_the_api_token_is_confirmed_once_by_the_administrator(
    api_client: httpx.Client, guarded_admin: httpx.Client, session_id: str
) -> None:
    """Trainings use confirmed outcomes only."""
    outcome = {"prediction_id": predict(api_client, session_id), "actual_G3": 11}
    assert record(api_client, outcome)["accepted"] == 1
    assert record(api_client, outcome)["rejected"][0]["error"] == "repeated"
    assert record(guarded_admin, outcome)["accepted"] == 1
    assert record(guarded_admin, outcome)["rejected"][0]["error"] == "repeated"


def test_correction_is_shown_to_administrators_alone(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    known = predict(http, session_id)
    record(admin, {"prediction_id": known, "actual_G3": 11})
    correction = {"prediction_id": known, "actual_G3": 12, "correct": True, "reason": "typo"}
    assert record(admin, correction) == {"accepted": 1, "rejected": []}
    params = {"session_id": session_id}
    [row] = http.get("/history", params=params).json()
    assert (row["actual_G3"], "replaced" in row) == (12, False)
    for response in (admin.get("/history", params=params), admin.post("/history", json=params)):
        [row] = response.json()
        [replaced] = row["replaced"]
        assert (replaced["actual_G3"], replaced["reason"]) == (11, "typo")


def test_batch_warns_of_references_that_repeat(http: httpx.Client, session_id: str) -> None:
    names = ["A", "B", "A", None, None, "A"]
    students = [EXAMPLE | ({"reference": name} if name else {}) for name in names]
    response = http.post("/predict_batch", json={"students": students})
    assert [(w["index"], w["code"]) for w in response.json()["warnings"]] == [
        (2, "reference_repeated"),
        (5, "reference_repeated"),
    ]
    assert "warnings" not in http.post("/predict_batch", json={"students": students[:2]}).json()
