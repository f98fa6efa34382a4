"""POST /outcomes: the grades really obtained, over HTTP."""

from __future__ import annotations

from typing import Any

import bentoml
import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.http.conftest import said
from tests.server import ADMIN_TOKEN, Server

UNKNOWN = "f" * 32


def predict(client: httpx.Client, session_id: str, **changed: Any) -> str:
    answer = client.post(
        "/predict", json={**EXAMPLE, **changed}, headers={"X-Session-Id": session_id}
    )
    assert answer.status_code == 200, answer.text
    prediction_id: str = answer.json()["prediction_id"]
    return prediction_id


def record(client: httpx.Client, *outcomes: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/outcomes", json={"outcomes": list(outcomes)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def grades(client: httpx.Client, session_id: str) -> list[int | None]:
    """Return the outcomes of a session, oldest prediction first."""
    rows = client.get("/history", params={"session_id": session_id}).json()
    return [row["actual_G3"] for row in reversed(rows)]


def test_outcome_is_shown_in_the_history(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    known = predict(http, session_id)
    predict(http, session_id)
    assert record(admin, {"prediction_id": known, "actual_G3": 11}) == {
        "accepted": 1,
        "rejected": [],
    }
    assert grades(http, session_id) == [11, None]


def test_every_moment_of_a_pupils_year_gets_the_outcome(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    for changed in ({"G1": None, "G2": None}, {"G2": None}, {}):
        predict(http, session_id, reference="P-1", **changed)
    predict(http, session_id, reference="P-2")
    outcome = {"session_id": session_id, "reference": "P-1", "actual_G3": 14.0}
    assert record(admin, outcome)["accepted"] == 1
    assert grades(http, session_id) == [14, 14, 14, None]


def test_repeated_conflicting_and_unknown_ones_are_refused_one_by_one(
    http: httpx.Client, admin: httpx.Client, session_id: str
) -> None:
    first, second = predict(http, session_id), predict(http, session_id)
    answer = record(
        admin,
        {"prediction_id": first, "actual_G3": 11},
        {"prediction_id": UNKNOWN, "actual_G3": 11},
        {"prediction_id": first, "actual_G3": 11},
        {"prediction_id": second, "actual_G3": 0},
        {"prediction_id": second, "actual_G3": 20},
        {"session_id": session_id, "reference": "nobody", "actual_G3": 11},
    )
    assert answer["accepted"] == 2
    assert [(one["index"], one["error"]) for one in answer["rejected"]] == [
        (1, "not_found"),
        (2, "repeated"),
        (4, "conflict"),
        (5, "not_found"),
    ]
    assert all(one["message"] for one in answer["rejected"])
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
    ],
    ids=str,
)
def test_malformed_outcome_is_named_and_nothing_is_recorded(
    http: httpx.Client,
    admin: httpx.Client,
    session_id: str,
    changed: dict[str, Any],
    loc: list[str],
) -> None:
    known = predict(http, session_id)
    good = {"prediction_id": known, "actual_G3": 11}
    bad = {"prediction_id": UNKNOWN, "actual_G3": 11} | changed
    answer = admin.post("/outcomes", json={"outcomes": [good, bad]})
    [detail] = said(answer, 422, "validation_error")["details"]
    assert detail["loc"] == ["outcomes", 1, *loc]
    assert grades(http, session_id) == [None]


@pytest.mark.parametrize("body", [{}, {"outcomes": []}, {"outcomes": {}}, [], None, {"x": 1}])
def test_body_without_outcomes_is_a_422(admin: httpx.Client, body: Any) -> None:
    said(admin.post("/outcomes", json=body), 422, "validation_error")


def test_repeated_key_is_a_422(admin: httpx.Client) -> None:
    body = f'{{"outcomes": [{{"prediction_id": "{UNKNOWN}", "actual_G3": 1, "actual_G3": 2}}]}}'
    answer = admin.post(
        "/outcomes", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert said(answer, 422, "validation_error")["details"][0]["type"] == "repeated_key"


def test_ten_thousand_are_taken_and_one_more_is_not(admin: httpx.Client) -> None:
    one = {"session_id": "s" * 128, "reference": "r" * 64, "actual_G3": 11}
    answer = record(admin, *[one] * 10_000)
    assert answer["accepted"] == 0
    assert [part["index"] for part in answer["rejected"]] == list(range(10_000))
    said(admin.post("/outcomes", json={"outcomes": [one] * 10_001}), 422, "validation_error")


def test_every_malformed_outcome_of_many_is_named(admin: httpx.Client) -> None:
    many = [{"prediction_id": UNKNOWN, "actual_G3": number} for number in range(5000)]
    answer = admin.post("/outcomes", json={"outcomes": many})
    named = {detail["loc"][1] for detail in said(answer, 422, "validation_error")["details"]}
    assert named == set(range(21, 5000))


def test_nobody_records_grades_without_a_token(
    http: httpx.Client, holder: httpx.Client, guarded_admin: httpx.Client, session_id: str
) -> None:
    body = {"outcomes": [{"prediction_id": UNKNOWN, "actual_G3": 11}]}
    # Predictions are open on that server, grades are not.
    said(http.post("/outcomes", json=body), 401, "unauthenticated")
    for client in (holder, guarded_admin):
        known = predict(client, session_id)
        assert record(client, {"prediction_id": known, "actual_G3": 11})["accepted"] == 1


def test_erased_session_takes_its_outcomes_with_it(
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
def test_bentomls_own_client_records(server: Server, http: httpx.Client, session_id: str) -> None:
    known = predict(http, session_id)
    with bentoml.SyncHTTPClient(server.url, token=ADMIN_TOKEN, timeout=60) as client:
        answer = client.outcomes({"outcomes": [{"prediction_id": known, "actual_G3": 3}]})
        client._temp_dir.cleanup()
    assert answer == {"accepted": 1, "rejected": []}
