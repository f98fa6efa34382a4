"""The grades really obtained: recorded once for each pupil, and what they say of the model."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text

from student_success.core.clock import now_us
from student_success.domain.schemas.history import Outcome
from student_success.domain.students import EXAMPLE
from student_success.storage import observations
from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from student_success.storage.observations import pupils_with_outcomes, unconfirmed_outcomes
from student_success.storage.outcomes import Outcomes, school_year
from student_success.storage.tables import inference_logs, outcomes

_times = itertools.count(1)
YEAR_US = 366 * 24 * 3600 * 1_000_000


def add(engine: Engine, prediction_id: str, **changed: Any) -> str:
    """Put one prediction into the history."""
    row = {
        "prediction_id": prediction_id,
        "session_id": "class",
        "created_us": next(_times),
        "inputs_json": json.dumps(EXAMPLE),
        "reference": None,
        "predicted_grade": 10.0,
        "decision": "reussite",
        "pass_probability": 0.6,
        "interval_low": 8,
        "interval_high": 12,
        "horizon": "G1+G2",
        "at_risk": False,
        "model_version": "seed",
        **changed,
    }
    with engine.begin() as connection:
        connection.execute(insert(inference_logs).values(**row))
    return prediction_id


def by_id(prediction_id: str, grade: int) -> Outcome:
    return Outcome(prediction_id=prediction_id, actual_G3=grade)


def by_reference(reference: str, grade: int, session_id: str = "class") -> Outcome:
    return Outcome(session_id=session_id, reference=reference, actual_G3=grade)


def recorded(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(select(outcomes.c.prediction_id, outcomes.c.actual_grade))
        return {row[0]: row[1] for row in rows}


def record(engine: Engine, *items: Outcome) -> tuple[int, dict[int, str]]:
    answer = Outcomes(engine).record(items)
    return answer.accepted, {one.index: one.error for one in answer.rejected}


def test_outcome_is_recorded_by_prediction_or_by_reference(engine: Engine) -> None:
    add(engine, "a")
    add(engine, "b", reference="P-1")
    assert record(engine, by_id("a", 11), by_reference("P-1", 0)) == (2, {})
    assert recorded(engine) == {"a": 11, "b": 0}


@pytest.mark.parametrize("named", [by_id("early", 14), by_reference("P-1", 14)], ids=["id", "ref"])
def test_all_predictions_of_a_pupil_get_the_outcome(engine: Engine, named: Outcome) -> None:
    for prediction_id, horizon in (("early", "none"), ("middle", "G1"), ("late", "G1+G2")):
        add(engine, prediction_id, reference="P-1", horizon=horizon)
    add(engine, "other pupil", reference="P-2")
    add(engine, "other class", reference="P-1", session_id="another")
    add(engine, "nobody")
    assert record(engine, named) == (1, {})
    assert recorded(engine) == {"early": 14, "middle": 14, "late": 14}


def test_repeated_outcome_is_refused_and_changes_nothing(engine: Engine) -> None:
    add(engine, "a")
    add(engine, "b", reference="P-1")
    items = by_id("a", 11), by_id("a", 11), by_reference("P-1", 9), by_id("b", 9)
    assert record(engine, *items) == (2, {1: "repeated", 3: "repeated"})
    assert record(engine, *items) == (0, dict.fromkeys(range(4), "repeated"))
    assert recorded(engine) == {"a": 11, "b": 9}


def test_conflicting_outcome_is_refused_and_the_first_stays(engine: Engine) -> None:
    add(engine, "a")
    add(engine, "b", reference="P-1")
    add(engine, "c", reference="P-1", horizon="G1")
    items = by_id("a", 11), by_id("a", 12), by_reference("P-1", 9), by_id("c", 8)
    assert record(engine, *items) == (2, {1: "conflict", 3: "conflict"})
    assert record(engine, by_reference("P-1", 10)) == (0, {0: "conflict"})
    assert recorded(engine) == {"a": 11, "b": 9, "c": 9}


def test_correction_replaces_the_grade_and_keeps_the_old_one_with_the_reason(
    engine: Engine,
) -> None:
    for number in range(2):
        add(engine, f"p{number}", reference="R")
    history = Outcomes(engine)
    history.record([by_reference("R", 11)])

    def corrected(grade: int, reason: str = "typo") -> Outcome:
        return Outcome(prediction_id="p0", actual_G3=grade, correct=True, reason=reason)

    refused = history.record([corrected(13)], recorded_by="api")
    assert [one.error for one in refused.rejected] == ["conflict"]
    assert "administrator" in refused.rejected[0].message
    assert recorded(engine) == {"p0": 11, "p1": 11}
    assert history.record([corrected(13), corrected(14, "another")]).accepted == 2
    assert recorded(engine) == {"p0": 14, "p1": 14}
    for row in History(engine).page(limit=9, with_replaced=True):
        assert [(old["actual_G3"], old["reason"]) for old in row["replaced"]] == [
            (11, "typo"),
            (13, "another"),
        ]
    assert all("replaced" not in row for row in History(engine).page(limit=9))
    assert [one.error for one in history.record([corrected(14)]).rejected] == ["repeated"]


def test_correction_of_a_grade_of_the_same_request_and_of_none(engine: Engine) -> None:
    add(engine, "p0")
    add(engine, "p1")
    corrections = [
        Outcome(prediction_id=name, actual_G3=9, correct=True, reason="typo")
        for name in ("p0", "p1")
    ]
    assert Outcomes(engine).record([by_id("p0", 8), *corrections]).accepted == 3
    assert recorded(engine) == {"p0": 9, "p1": 9}
    history = {r["prediction_id"]: r for r in History(engine).page(limit=9, with_replaced=True)}
    assert [old["actual_G3"] for old in history["p0"]["replaced"]] == [8]
    assert "replaced" not in history["p1"]


def test_later_prediction_of_a_pupil_gets_the_same_grade_or_none(engine: Engine) -> None:
    add(engine, "a", reference="P-1")
    assert record(engine, by_id("a", 11)) == (1, {})
    add(engine, "b", reference="P-1")
    assert record(engine, by_id("b", 12)) == (0, {0: "conflict"})
    assert record(engine, by_id("a", 11)) == (0, {0: "repeated"})
    assert record(engine, by_reference("P-1", 11)) == (1, {})
    assert recorded(engine) == {"a": 11, "b": 11}


def test_pupils_of_one_batch_who_share_a_reference_get_their_own_grades(engine: Engine) -> None:
    for prediction_id in ("a", "b"):
        add(engine, prediction_id, reference="P-1", created_us=7)
    assert record(engine, by_reference("P-1", 12)) == (0, {0: "ambiguous"})
    assert record(engine, by_id("a", 5), by_id("b", 18)) == (2, {})
    assert recorded(engine) == {"a": 5, "b": 18}


def test_reference_is_another_pupil_in_the_next_school_year(engine: Engine) -> None:
    add(engine, "old", reference="P-1", created_us=7)
    assert record(engine, by_reference("P-1", 12)) == (1, {})
    add(engine, "new", reference="P-1", created_us=7 + YEAR_US)
    assert record(engine, by_reference("P-1", 8)) == (1, {})
    assert record(engine, by_id("old", 8)) == (0, {0: "conflict"})
    assert recorded(engine) == {"old": 12, "new": 8}


def test_school_year_begins_on_its_first_day() -> None:
    day_us = 24 * 3600 * 1_000_000
    first = 212 * day_us  # 1 August 1970
    assert [school_year(at, "08-01") for at in (first - 1, first)] == [1969, 1970]


def test_references_are_compared_in_one_form(engine: Engine) -> None:
    add(engine, "a", reference="é-1")
    assert record(engine, by_reference(" e\u0301-1\ufeff", 12)) == (1, {})


def test_unknown_pupil_is_refused_alone(engine: Engine) -> None:
    add(engine, "a")
    add(engine, "b", reference="P-1")
    items = (
        by_id("nothing", 11),
        by_reference("P-2", 11),
        by_reference("P-1", 11, session_id="another"),
        by_reference("a", 11, session_id="a"),
        by_id("a", 11),
    )
    assert record(engine, *items) == (1, dict.fromkeys(range(4), "not_found"))
    assert recorded(engine) == {"a": 11}


def test_thousands_are_recorded_at_once(engine: Engine) -> None:
    for number in range(0, 2400, 2):
        add(engine, f"p{number}", reference=f"R{number}" if number % 4 else None)
    items = [by_id(f"p{n}", n % 21) for n in range(2400) if n % 4 != 2]
    items += [by_reference(f"R{n}", n % 21) for n in range(2400)]
    accepted, rejected = record(engine, *items)
    assert accepted == 1200
    assert set(rejected.values()) == {"not_found"}
    assert recorded(engine) == {f"p{n}": n % 21 for n in range(0, 2400, 2)}


def test_one_of_many_writers_records_a_grade(engine: Engine, database_url: str) -> None:
    add(engine, "a", reference="P-1")
    answers: list[tuple[int, dict[int, str]]] = []

    def write(grade: int) -> None:
        own = connect(database_url)
        answers.append(record(own, by_reference("P-1", grade)))
        own.dispose()

    threads = [threading.Thread(target=write, args=(grade,)) for grade in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=str) == sorted([(1, {})] + [(0, {0: "conflict"})] * 7, key=str)
    assert len(recorded(engine)) == 1


def test_erasing_a_session_erases_its_outcomes(engine: Engine) -> None:
    add(engine, "a", reference="P-1")
    add(engine, "b", session_id="another")
    record(engine, by_id("a", 11), by_id("b", 12))
    history = History(engine)
    assert [row["actual_G3"] for row in history.page(limit=5)] == [12, 11]
    assert history.erase_session("class") == 1
    assert recorded(engine) == {"b": 12}
    assert record(engine, by_reference("P-1", 11)) == (0, {0: "not_found"})


def test_look_up_takes_the_index(engine: Engine) -> None:
    query = (
        "SELECT prediction_id FROM inference_logs "
        "WHERE session_id = 's' AND reference IN ('a', 'b')"
    )
    explain = "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            explain = "EXPLAIN"
            # In an empty table it would not be worth it.
            connection.execute(text("SET enable_seqscan = off"))
        plan = " ".join(str(row) for row in connection.execute(text(f"{explain} {query}")))
    assert "ix_inference_logs_reference" in plan


def figures(engine: Engine, limit: int = 100) -> Mapping[str, tuple[int, float, float]]:
    found = observations.live(engine, limit=limit)
    return {horizon: (one.count, one.mae, one.coverage) for horizon, one in found.items()}


def test_live_figures_are_means_by_horizon(engine: Engine) -> None:
    assert figures(engine) == {}
    add(engine, "a", predicted_grade=10.0)
    add(engine, "b", predicted_grade=12.5)
    add(engine, "c", horizon="none")
    add(engine, "without outcome", predicted_grade=0.0)
    record(engine, by_id("a", 12), by_id("b", 13), by_id("c", 20))
    assert figures(engine) == {"G1+G2": (2, 1.25, 0.5), "none": (1, 10.0, 0.0)}


def test_last_prediction_of_a_pupil_counts(engine: Engine) -> None:
    for number in range(5):
        add(engine, f"try {number}", reference="P-1", predicted_grade=float(number))
    add(engine, "early", reference="P-1", predicted_grade=10.0, horizon="G1")
    record(engine, by_reference("P-1", 10))
    assert figures(engine) == {"G1+G2": (1, 6.0, 1.0), "G1": (1, 0.0, 1.0)}


def test_newest_outcomes_count(engine: Engine) -> None:
    add(engine, "old", predicted_grade=0.0)
    add(engine, "new", predicted_grade=19.0)
    record(engine, by_id("old", 20))
    record(engine, by_id("new", 20))
    assert figures(engine, limit=1) == {"G1+G2": (1, 1.0, 0.0)}


def test_pupils_of_today_are_counted_once(engine: Engine) -> None:
    early = json.dumps({**EXAMPLE, "G2": None})
    add(engine, "a", reference="P-1", inputs_json=early, horizon="G1", predicted_grade=9.0)
    add(engine, "b", reference="P-1")
    add(engine, "c")
    add(engine, "again")
    add(engine, "d", session_id="another", predicted_grade=11.26)
    add(engine, "e", session_id="third", model_version="1")
    seen, rows = observations.current_pupils(engine, limit=1000, model_version="seed")
    assert rows == 6
    assert set(seen.features) == set(EXAMPLE)
    assert seen.features["school"] == {EXAMPLE["school"]: 4}
    assert seen.features["G2"] == {float(EXAMPLE["G2"]): 4}
    assert seen.predictions == {"G1+G2": {10.0: 2, 11.3: 1}, "G1": {9.0: 1}}


def test_window_is_bounded_and_newest_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "_PAGE", 7)
    monkeypatch.setattr(observations, "_PAUSE_SECONDS", 0)
    for number in range(30):
        inputs = json.dumps({**EXAMPLE, "age": 15 + number % 3})
        add(engine, f"p{number}", session_id=f"s{number}", inputs_json=inputs)
    seen, rows = observations.current_pupils(engine, limit=20, model_version="seed")
    assert rows == 20
    assert seen.features["age"] == {15: 6, 16: 7, 17: 7}
    assert observations.current_pupils(engine, limit=1000, model_version="seed")[1] == 30


def test_outcome_of_another_role_is_confirmed_once_by_an_administrator(engine: Engine) -> None:
    def confirmed() -> int:
        return len(pupils_with_outcomes(engine, year_starts="08-01"))

    add(engine, "a", reference="P-1")
    add(engine, "later", reference="P-1")
    item = by_reference("P-1", 12)
    assert Outcomes(engine).record([item], recorded_by="api").accepted == 1
    assert (confirmed(), unconfirmed_outcomes(engine, until_us=now_us())) == (0, 2)
    repeated = Outcomes(engine).record([item], recorded_by="api").rejected
    assert [one.error for one in repeated] == ["repeated"]
    assert Outcomes(engine).record([item]).accepted == 1
    assert (confirmed(), unconfirmed_outcomes(engine, until_us=now_us())) == (1, 0)
    assert recorded(engine) == {"a": 12, "later": 12}
    assert [one.error for one in Outcomes(engine).record([item]).rejected] == ["repeated"]


def test_administrator_corrects_an_outcome_of_another_role_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    add(engine, "a", reference="P-1")
    add(engine, "later", reference="P-1")
    add(engine, "other", reference="P-2")
    wrong, right = by_reference("P-1", 12), by_reference("P-1", 5)
    assert Outcomes(engine).record([wrong, by_id("other", 8)], recorded_by="api").accepted == 2
    again = Outcomes(engine).record([right], recorded_by="api").rejected
    assert [one.error for one in again] == ["conflict"]
    with caplog.at_level("INFO"):
        assert Outcomes(engine).record([right, by_id("other", 8)]).accepted == 2
    assert recorded(engine) == {"a": 5, "later": 5, "other": 8}
    [corrected] = [one for one in caplog.records if one.getMessage() == "outcomes_corrected"]
    assert corrected.__dict__["predictions"] == 2
    kept = {
        row["prediction_id"]: [(old["actual_G3"], old["recorded_by"]) for old in row["replaced"]]
        for row in History(engine).page(limit=9, with_replaced=True)
        if "replaced" in row
    }
    assert kept == {"a": [(12, "api")], "later": [(12, "api")]}
    # What an administrator recorded stays, whoever sends another grade.
    for role in ("api", "admin"):
        refused = Outcomes(engine).record([wrong], recorded_by=role).rejected
        assert [one.error for one in refused] == ["conflict"]
    assert recorded(engine) == {"a": 5, "later": 5, "other": 8}
