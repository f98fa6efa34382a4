"""Values far from the training data of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES, StudentFeatures
from student_success.model.artefact import Artefact
from student_success.model.unusual import TrainingRange
from training.export.artefact import drift_reference, random_students

REFERENCE = Artefact(ROOT / "student_success" / "seed").drift_reference
SEED = TrainingRange(REFERENCE)


def unusual(found: TrainingRange, **values: Any) -> list[str]:
    return found.unusual(StudentFeatures.model_validate(EXAMPLE | values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"absences": None, "G1": None, "G2": None}, []),
        ({"age": 22, "absences": 365}, ["absences"]),
        ({"G1": 0, "G2": 20}, ["G1", "G2"]),
        ({"G1": 19, "G2": 0}, ["G1", "G2"]),
        ({"G1": 1, "G2": 20, "absences": 120}, ["absences", "G1", "G2"]),
        # Pupils who leave have a second grade of 0: the model knows them.
        ({"G1": 10, "G2": 0}, []),
        ({"G1": 19, "G2": 20}, []),
        ({"failures": 4}, ["failures"]),
    ],
)
def test_unusual_names_values_and_pairs_far_from_the_training_data(
    values: dict[str, Any], expected: list[str]
) -> None:
    assert unusual(SEED, **values) == expected


def test_unusual_names_no_pupil_of_the_training_data() -> None:
    folder = os.environ.get("STUDENT_DATA_DIR")
    if not folder:
        pytest.skip("STUDENT_DATA_DIR does not name the folder of the real data")
    data = pd.read_csv(Path(folder) / "final.csv", sep=None, engine="python")
    pupils = data[list(FEATURE_NAMES)].to_dict("records")
    assert len(pupils) == 662
    assert [found for pupil in pupils if (found := unusual(SEED, **pupil))] == []


def test_unusual_is_the_same_for_columns_as_for_each_pupil() -> None:
    students = random_students(2000, seed=7)
    pupils = pd.DataFrame(students)[list(FEATURE_NAMES)]
    reference = drift_reference(pupils.query("school == 'MS' and age < 20"), {})
    for known in (SEED, TrainingRange(reference)):
        expected = [unusual(known, **student) for student in students]
        columns = {
            f.name: np.array(
                [
                    np.nan
                    if student[f.name] is None
                    else f.categories.index(student[f.name])
                    if f.kind == "category"
                    else float(student[f.name])
                    for student in students
                ]
            )
            for f in FEATURES
        }
        masks = known.unusual_columns(columns)
        assert [[n for n, far in masks.items() if far[i]] for i in range(2000)] == expected
        assert any(expected)
        assert not all(expected)


def test_unusual_names_a_category_that_no_training_pupil_has() -> None:
    pupils = pd.DataFrame(random_students(200, seed=3))[list(FEATURE_NAMES)]
    pupils["reason"] = "home"
    known = TrainingRange(drift_reference(pupils, {}))
    assert "reason" in unusual(known, reason="course")
    assert "reason" not in unusual(known, reason="home")
    assert "reason" not in unusual(known, reason=None)


def test_unusual_looks_at_single_values_if_a_version_records_no_related_numbers() -> None:
    earlier = TrainingRange({"features": REFERENCE["features"]})
    assert unusual(earlier, absences=365) == ["absences"]
    assert unusual(earlier, G1=6, G2=20) == []
    assert unusual(TrainingRange({}), absences=365, G1=0, G2=20) == []
