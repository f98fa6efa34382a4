"""The compiled model answers as the scikit-learn estimator it was made from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from student_success.core.paths import ROOT
from student_success.domain.decision import Decision
from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    HORIZONS,
    PERIODS,
    TARGET,
    Feature,
    StudentFeatures,
)
from student_success.model.grading import GRADES, SHOWN
from student_success.model.prediction import Prediction, Predictions
from student_success.model.predictor import Predictor
from training.data.dataset import SAMPLE, read
from training.export.artefact import random_students, write_artefact
from training.export.compile import frame_of
from training.fitting.families import FAMILIES, hide
from training.fitting.fit import Fitted, Recipe, fit

pytestmark = pytest.mark.model
SEED = ROOT / "student_success" / "seed"


def students_of(frame: pd.DataFrame) -> list[StudentFeatures]:
    records = frame[list(FEATURE_NAMES)].to_dict("records")
    return [
        StudentFeatures.model_validate({k: None if v != v else v for k, v in record.items()})
        for record in records
    ]


def write(fitted: Fitted, frame: pd.DataFrame, folder: Path) -> Predictor:
    write_artefact(
        folder, fitted, frame, recipe={"data": {}}, evidence={}, card=({}, ""), drift_reference={}
    )
    return Predictor.load(folder, version="1")


@pytest.fixture(scope="module", params=list(FAMILIES))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, Predictor]:
    """Return a small model of each family, fitted on the sample, and its compiled form."""
    frame = read(SAMPLE).frame
    family = FAMILIES[request.param]
    params = dict(family.default)
    params |= {"max_iter": 20}
    fitted = fit(
        frame[list(FEATURE_NAMES)], frame[TARGET].to_numpy(), Recipe(request.param, params, 3)
    )
    return fitted, write(fitted, frame, tmp_path_factory.mktemp(request.param))


def test_answers_equal_scikit_learn_on_random_pupils(made: tuple[Fitted, Predictor]) -> None:
    fitted, predictor = made
    students = random_students(10_000, seed=3)
    said = predictor.estimate([StudentFeatures.model_validate(s) for s in students])
    np.testing.assert_allclose(said, fitted.model.predict(frame_of(students)), atol=1e-5)


def test_answers_equal_scikit_learn_on_every_row_and_horizon(
    made: tuple[Fitted, Predictor],
) -> None:
    fitted, predictor = made
    rows, _, _ = hide(read(SAMPLE).frame)
    said = predictor.estimate(students_of(rows))
    np.testing.assert_allclose(said, fitted.model.predict(rows), atol=1e-5)


def test_many_answers_are_the_single_answers(made: tuple[Fitted, Predictor]) -> None:
    _, predictor = made
    students = [StudentFeatures.model_validate(s) for s in random_students(3_000, seed=4)]
    assert predictor.predict_many(students) == [predictor.predict(s) for s in students]
    assert predictor.predict_many([]) == []


def as_columns(students: list[StudentFeatures]) -> dict[str, np.ndarray[Any, Any]]:
    columns = {}
    for feature in FEATURES:
        values = [getattr(student, feature.name) for student in students]
        if feature.kind == "category":
            places: dict[Any, Any] = {value: at for at, value in enumerate(feature.categories)}
            values = [places.get(value) for value in values]
        columns[feature.name] = np.array(values, dtype=np.float64)
    return columns


def singly(told: Predictions) -> list[Prediction]:
    return [
        Prediction(
            SHOWN[hundredths],
            Decision.PASS if passes else Decision.FAIL,
            probability,
            GRADES[low],
            GRADES[high],
            HORIZONS[known],
            at_risk,
        )
        for hundredths, passes, probability, low, high, known, at_risk in zip(
            *(column.tolist() for column in told), strict=True
        )
    ]


def test_columns_are_answered_as_single_pupils(made: tuple[Fitted, Predictor]) -> None:
    _, predictor = made
    rows, _, _ = hide(read(SAMPLE).frame)
    students = students_of(rows)
    students += [StudentFeatures.model_validate(s) for s in random_students(3_000, seed=5)]
    told = predictor.predict_columns(as_columns(students))
    assert singly(told) == [predictor.predict(s) for s in students]


def test_answers_equal_scikit_learn_on_the_real_pupils(real_data_dir: Path, tmp_path: Path) -> None:
    frame = read(real_data_dir / "final.csv").frame
    params = FAMILIES["boosting"].default
    fitted = fit(
        frame[list(FEATURE_NAMES)], frame[TARGET].to_numpy(), Recipe("boosting", params, 3)
    )
    rows, _, _ = hide(frame)
    said = write(fitted, frame, tmp_path).estimate(students_of(rows))
    np.testing.assert_allclose(said, fitted.model.predict(rows), atol=1e-5)


def test_target_is_no_feature() -> None:
    assert TARGET not in FEATURE_NAMES


def values_of(feature: Feature) -> list[float]:
    """Return values across the bounds of a feature, the worst for the grade first."""
    assert feature.low is not None
    assert feature.high is not None
    step = 0.5 if feature.is_period else 1
    count = int((feature.high - feature.low) / step)
    values = [feature.low + number * step for number in range(count + 1)]
    whole = values if feature.kind == "number" else [int(value) for value in values]
    return whole if feature.monotone == "raises" else whole[::-1]


DECLARED = [feature for feature in FEATURES if feature.monotone is not None]


@pytest.mark.parametrize("feature", DECLARED, ids=lambda feature: feature.name)
def test_declared_direction_holds_for_every_pupil(
    made: tuple[Fitted, Predictor], feature: Feature
) -> None:
    """Everything else equal, at every horizon, with values known and unknown."""
    for predictor in (made[1], Predictor.load(SEED, version="seed")):
        students = random_students(150, seed=7)
        students += [{**s, **dict.fromkeys(PERIODS)} for s in random_students(50, seed=8)]
        if feature.is_period:
            students = [s for s in students if s[feature.name] is not None]
        rows = [
            [StudentFeatures.model_validate({**student, feature.name: v}) for student in students]
            for v in values_of(feature)
        ]
        said = [predictor.predict_many(row) for row in rows]
        for worse, better in pairwise(said):
            assert all(a.grade <= b.grade for a, b in zip(worse, better, strict=True))
            assert all(
                a.pass_probability <= b.pass_probability + 1e-6
                for a, b in zip(worse, better, strict=True)
            )
