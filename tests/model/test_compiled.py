"""The compiled model answers as the scikit-learn estimator it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from student_success.predictor import Predictor
from student_success.settings import Settings
from student_success.students import FEATURE_NAMES, TARGET, StudentFeatures
from training.artefact import random_students
from training.compile import frame_of
from training.dataset import read
from training.pipeline import hide
from training.train import Candidate, run

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def real(real_data_dir: Path) -> pd.DataFrame:
    return read(real_data_dir / "final.csv").frame


@pytest.fixture(scope="module")
def trained(real_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return run(
        Settings(_env_file=None),
        budget_seconds=1,
        folder=tmp_path_factory.mktemp("serving"),
        dataset=read(real_data_dir / "final.csv"),
    )


def students_of(frame: pd.DataFrame) -> list[StudentFeatures]:
    records = frame[list(FEATURE_NAMES)].to_dict("records")
    return [
        StudentFeatures.model_validate({k: None if v != v else v for k, v in record.items()})
        for record in records
    ]


def shown(points: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(points, 0, 20) * 100 + 0.5) / 100


def test_answers_equal_scikit_learn_on_every_row_and_horizon(
    trained: Candidate, real: pd.DataFrame
) -> None:
    rows, _, _ = hide(real)
    predictor = Predictor.load(trained.serving, version="1")
    said = [answer.predicted_G3 for answer in map(predictor.predict, students_of(rows))]
    np.testing.assert_allclose(said, shown(trained.pipeline.predict(rows)), atol=1e-5)


def test_answers_equal_scikit_learn_on_random_pupils(trained: Candidate) -> None:
    students = random_students(10_000, seed=3)
    predictor = Predictor.load(trained.serving, version="1")
    said = predictor.predict_many([StudentFeatures.model_validate(s) for s in students])
    expected = shown(trained.pipeline.predict(frame_of(students)))
    np.testing.assert_allclose([a.predicted_G3 for a in said], expected, atol=1e-5)


def test_many_answers_are_the_single_answers(trained: Candidate) -> None:
    students = [StudentFeatures.model_validate(s) for s in random_students(5_000, seed=4)]
    predictor = Predictor.load(trained.serving, version="1")
    assert predictor.predict_many(students) == [predictor.predict(s) for s in students]
    assert predictor.predict_many([]) == []


def test_target_is_no_feature() -> None:
    assert TARGET not in FEATURE_NAMES
