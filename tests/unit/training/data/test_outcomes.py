"""Pupils of the history whose grade is known join the training data."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from student_success.core.clock import now_us
from student_success.core.configuration.settings import Settings
from student_success.domain.schemas.history import Outcome
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, TARGET
from student_success.storage import observations
from student_success.storage.observations import PupilWithOutcome
from student_success.storage.outcomes import Outcomes
from tests.unit.storage.test_outcomes import add as predict
from training.data import outcomes
from training.data.dataset import SAMPLE, Dataset, load, read


@pytest.fixture(scope="module")
def data() -> Dataset:
    return read(SAMPLE)


def pupil(grade: int = 12, **changed: Any) -> PupilWithOutcome:
    return PupilWithOutcome(json.dumps({**EXAMPLE, **changed}), grade)


def test_pupils_are_added_as_the_file_has_them(data: Dataset) -> None:
    found = outcomes.add(
        data, [pupil(12), pupil(3, G2=None), pupil(4, G1=None, G2=None)], until_us=5
    )
    assert found.rows == len(found.frame) == len(found.audit) == data.rows + 3
    assert found.frame.dtypes.to_dict() == data.frame.dtypes.to_dict()
    pd.testing.assert_frame_equal(found.frame.head(data.rows), data.frame)
    assert found.frame[TARGET].tail(3).tolist() == [12, 3, 4]
    assert found.frame["G2"].tail(3).isna().tolist() == [False, True, True]
    assert found.frame[list(FEATURE_NAMES)].iloc[-3].to_dict() == EXAMPLE


def test_name_hash_and_size_say_so(data: Dataset) -> None:
    found = outcomes.add(data, [pupil(12)], until_us=5)
    said = found.describe()
    assert said["name"] == "sample.csv + outcomes"
    assert said["rows"] == data.rows + 1
    assert said["synthetic"] is True
    assert said["outcomes"] == {
        "rows": 1,
        "share": 0.001,
        "known": 1,
        "until": "1970-01-01T00:00:00.000005Z",
        "until_us": 5,
        "file_sha256": data.sha256,
    }
    others = [outcomes.add(data, pupils, until_us=5) for pupils in ([], [pupil(13)], [pupil(12)])]
    assert len({data.sha256, found.sha256, *(other.sha256 for other in others[:2])}) == 4
    assert others[2].sha256 == found.sha256
    assert "outcomes" not in data.describe()


@pytest.mark.parametrize("hidden", [(), ("G2",), ("G1", "G2")], ids=str)
def test_pupil_of_the_file_is_not_added_again(data: Dataset, hidden: tuple[str, ...]) -> None:
    row = data.frame.iloc[7]
    inputs = {name: row[name] for name in FEATURE_NAMES} | dict.fromkeys(hidden)
    text = json.dumps(inputs, default=lambda value: value.item())
    assert (
        outcomes.add(data, [PupilWithOutcome(text, int(row[TARGET]))], until_us=5).rows == data.rows
    )
    other = (int(row[TARGET]) + 1) % 21
    if not hidden:
        assert outcomes.add(data, [PupilWithOutcome(text, other)], until_us=5).rows == data.rows + 1


def test_pupil_accepted_under_other_bounds_is_left_out(data: Dataset) -> None:
    found = outcomes.add(data, [pupil(12, age=23), pupil(12, extra=1), pupil(13)], until_us=5)
    assert found.rows == data.rows + 1
    assert found.outcomes is not None
    assert (found.outcomes["rows"], found.outcomes["known"]) == (1, 3)


def test_pupil_counts_once_with_what_was_known_last(engine: Engine) -> None:
    known = json.dumps({**EXAMPLE, "absences": 7})
    early = json.dumps({**EXAMPLE, "G1": None, "G2": None})
    predict(engine, "late", reference="P-1", inputs_json=known)
    predict(engine, "later, knowing less", reference="P-1", inputs_json=early, horizon="none")
    predict(engine, "nobody's")
    predict(engine, "nobody's again")
    predict(engine, "without a grade", reference="P-3")
    items = [
        Outcome(session_id="class", reference="P-1", actual_G3=12),
        Outcome(prediction_id="nobody's", actual_G3=9),
        Outcome(prediction_id="nobody's again", actual_G3=9),
    ]
    assert Outcomes(engine).record(items).accepted == 3
    found = observations.pupils_with_outcomes(engine, year_starts="08-01")
    assert found == [PupilWithOutcome(known, 12), PupilWithOutcome(json.dumps(EXAMPLE), 9)]
    assert observations.pupils_with_outcomes(engine, until_us=1, year_starts="08-01") == []
    now = now_us()
    assert observations.pupils_with_outcomes(engine, since_us=now, year_starts="08-01") == []


def test_same_data_is_found_again_after_more_outcomes(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, state_dir=tmp_path, data_path=SAMPLE)
    predict(engine, "a")
    Outcomes(engine).record([Outcome(prediction_id="a", actual_G3=12)])
    first = outcomes.load_with_outcomes(settings)
    predict(engine, "b", session_id="another", inputs_json=json.dumps({**EXAMPLE, "age": 15}))
    Outcomes(engine).record([Outcome(prediction_id="b", actual_G3=12)])
    assert outcomes.load_again(settings, first.describe()).sha256 == first.sha256
    assert outcomes.load_with_outcomes(settings).rows == first.rows + 1
    assert outcomes.load_again(settings, load(settings).describe()).sha256 == load(settings).sha256


def test_same_data_is_found_again_after_corrections(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, state_dir=tmp_path, data_path=SAMPLE)
    predict(engine, "a")
    predict(engine, "b", inputs_json=json.dumps({**EXAMPLE, "age": 15}))

    def correct(name: str, grade: int) -> None:
        body = {"prediction_id": name, "actual_G3": grade, "correct": True, "reason": "typo"}
        assert Outcomes(engine).record([Outcome.model_validate(body)]).accepted == 1

    Outcomes(engine).record([Outcome(prediction_id="a", actual_G3=12)])
    described = [outcomes.load_with_outcomes(settings).describe()]
    for name, grade in (("a", 13), ("b", 9), ("a", 14), ("b", 10)):
        correct(name, grade)
        described.append(outcomes.load_with_outcomes(settings).describe())
    assert len({found["sha256"] for found in described}) == len(described)
    for found in described:
        assert outcomes.load_again(settings, found).sha256 == found["sha256"]


def test_corrected_outcome_is_as_old_as_the_first_that_an_administrator_recorded(
    engine: Engine,
) -> None:
    def since(at: int) -> list[float]:
        found = observations.pupils_with_outcomes(engine, since_us=at, year_starts="08-01")
        return [pupil.actual_grade for pupil in found]

    history = Outcomes(engine)
    for name in ("a", "b"):
        predict(engine, name, reference=name)
    history.record([Outcome(prediction_id="a", actual_G3=12)])
    history.record([Outcome(prediction_id="b", actual_G3=12)], recorded_by="api")
    trained = now_us()
    for grade in (13, 14):
        history.record(
            [
                Outcome(prediction_id=name, actual_G3=grade, correct=True, reason="typo")
                for name in ("a", "b")
            ]
        )
    # No training used the grade of another role.
    assert (since(trained), since(0), since(now_us())) == ([14], [14, 14], [])


def test_empty_history_adds_nobody_and_says_so(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, database_url=None, data_path=SAMPLE)
    found = outcomes.load_with_outcomes(settings)
    assert found.rows == read(SAMPLE).rows
    assert found.outcomes is not None
    assert found.outcomes["rows"] == 0


def test_equal_pupils_of_the_history_count_once(data: Dataset) -> None:
    found = outcomes.add(data, [pupil(12)] * 5 + [pupil(13)], until_us=5)
    assert found.rows == data.rows + 2
    assert found.describe()["copies_left_out"] == 4


def test_reference_counts_once_a_school_year(engine: Engine) -> None:
    """In July and August of one year, the pupil is in two school years."""
    for number, at in enumerate(("2026-03-01", "2026-07-31", "2026-08-02")):
        created = int(datetime.fromisoformat(f"{at}T00:00:00+00:00").timestamp() * 1e6)
        predict(engine, f"p{number}", reference="P-1", created_us=created)
        Outcomes(engine).record([Outcome(prediction_id=f"p{number}", actual_G3=12)])
    assert len(observations.pupils_with_outcomes(engine, year_starts="08-01")) == 2
    assert len(observations.pupils_with_outcomes(engine, year_starts="09-01")) == 1


def test_outcomes_that_no_administrator_recorded_are_left_out_and_counted(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=database_url, state_dir=tmp_path, data_path=SAMPLE)
    predict(engine, "a")
    predict(engine, "b", inputs_json=json.dumps({**EXAMPLE, "age": 15}))
    Outcomes(engine).record([Outcome(prediction_id="a", actual_G3=12)], recorded_by="api")
    Outcomes(engine).record([Outcome(prediction_id="b", actual_G3=12)])
    found = outcomes.load_with_outcomes(settings)
    assert found.added == 1
    assert "no administrator recorded them: 1. Check" in found.remarks[-1]
