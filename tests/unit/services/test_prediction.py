"""The response and the row of a prediction."""

from __future__ import annotations

import json

from student_success.core import metrics
from student_success.core.metrics_buffer import metrics_buffer
from student_success.core.paths import ROOT
from student_success.domain.schemas.prediction import PredictionAnswer
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import _count, make_answer


def test_answer_takes_interval_level_and_threshold_from_the_predictor() -> None:
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="7")
    student = StudentFeatures.model_validate(EXAMPLE)
    prediction = predictor.predict(student)
    levels = []
    for level in (0.9, 0.8):
        predictor.interval_level, predictor.threshold = level, 20 * level
        answer, _ = make_answer(student, prediction, predictor, session_id="s", now=0)
        levels.append((answer.interval.level, answer.threshold, answer.model_version))
    assert levels == [(0.9, 18.0, "7"), (0.8, 16.0, "7")]


def test_answer_names_a_synthetic_model_only_if_it_is_one() -> None:
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="7")
    student = StudentFeatures.model_validate(EXAMPLE)
    prediction = predictor.predict(student)
    real, _ = make_answer(student, prediction, predictor, session_id="s", now=0)
    predictor.synthetic = True
    synthetic, _ = make_answer(student, prediction, predictor, session_id="s", now=0)
    assert b"synthetic_model" not in real.__pydantic_serializer__.to_json(real)
    assert "synthetic_model" not in json.loads(
        PredictionAnswer.model_validate(json.loads(real.model_dump_json())).model_dump_json()
    )
    assert json.loads(synthetic.model_dump_json())["synthetic_model"] is True
    assert synthetic.model_dump_json().endswith(',"synthetic_model":true}')


def test_answer_names_unusual_values_only_if_there_are_any() -> None:
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="7")
    bodies = []
    for values in ({}, {"absences": 365}):
        student = StudentFeatures.model_validate(EXAMPLE | values)
        prediction = predictor.predict(student)
        answer, _ = make_answer(student, prediction, predictor, session_id="s", now=0)
        bodies.append(answer.__pydantic_serializer__.to_json(answer))
    assert b"unusual" not in bodies[0]
    assert (
        b"unusual" not in PredictionAnswer.model_validate_json(bodies[0]).model_dump_json().encode()
    )
    assert bodies[1].endswith(b',"unusual":["absences"]}')
    series = metrics.unusual_values_total.labels("absences")
    metrics_buffer.flush()
    before = series._value.get()
    _count(answer)
    metrics_buffer.flush()  # an earlier test's event loop may have ended with a flush still to come
    assert series._value.get() == before + 1
    assert PredictionAnswer.model_json_schema()["properties"]["unusual"]["type"] == "array"
