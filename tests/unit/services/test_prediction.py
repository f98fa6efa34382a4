"""The response and the row of a prediction."""

from __future__ import annotations

from student_success.core.settings import ROOT
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import make_answer


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
