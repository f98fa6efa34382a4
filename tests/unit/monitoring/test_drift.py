"""Whether the pupils of today look like those of the training data."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import FEATURE_NAMES
from student_success.monitoring.drift import DriftLimits, DriftVerdict, compare
from student_success.storage.observations import CurrentPupils
from training.data.dataset import SAMPLE, read
from training.export.artefact import drift_reference

LIMITS = DriftLimits(minimum_count=50, distance=0.1)
HORIZONS = ("none", "G1", "G1+G2")


@pytest.fixture(scope="module")
def pupils() -> pd.DataFrame:
    return read(SAMPLE).frame


@pytest.fixture(scope="module")
def reference(pupils: pd.DataFrame) -> dict[str, Any]:
    grades = pupils["G3"].to_numpy(dtype=np.float64)
    found = drift_reference(pupils[list(FEATURE_NAMES)], dict.fromkeys(HORIZONS, grades))
    made: dict[str, Any] = json.loads(json.dumps(found))
    return made


def seen(pupils: pd.DataFrame, horizon: str = "G1+G2") -> CurrentPupils:
    return CurrentPupils(
        {name: Counter(pupils[name].dropna().tolist()) for name in FEATURE_NAMES},
        {horizon: Counter(pupils["G3"].tolist())},
    )


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {name: str(entry["verdict"]) for name, entry in found["features"].items()}


def test_pupils_of_the_training_data_are_stable(
    pupils: pd.DataFrame, reference: dict[str, Any]
) -> None:
    found = compare(reference, seen(pupils), LIMITS)
    assert set(found["features"]) == set(FEATURE_NAMES)
    assert set(verdicts(found).values()) == {"stable"}
    for entry in found["features"].values():
        assert entry["statistic"] == pytest.approx(0, abs=1e-9)
        assert entry["p_adjusted"] == pytest.approx(1, abs=1e-9)
        assert entry["count"] == entry["reference_count"] == len(pupils)
    assert found["predictions"]["verdict"] == "stable"
    assert found["predictions"]["horizons"]["none"]["verdict"] == "insufficient_data"
    assert found["features"]["school"]["test"] == "chi-square"
    assert found["features"]["G1"]["test"] == found["features"]["age"]["test"] == "ks"


def test_random_halves_are_seldom_called_drift(pupils: pd.DataFrame) -> None:
    alarms = 0
    for seed in range(40):
        half = pupils.sample(frac=0.5, random_state=seed)
        rest = pupils.drop(half.index)
        known = drift_reference(half[list(FEATURE_NAMES)], {"G1+G2": half["G3"].to_numpy()})
        found = compare(json.loads(json.dumps(known)), seen(rest), DriftLimits(50, distance=0.0))
        alarms += DriftVerdict.DRIFT in verdicts(found).values()
    # Holm keeps it within 5 % of the time; grades have ties, which makes it less.
    assert alarms <= 5


def test_changed_feature_is_found_and_no_other(
    pupils: pd.DataFrame, reference: dict[str, Any]
) -> None:
    moved = pupils.assign(
        absences=pupils["absences"] + 6, reason="home", G3=(pupils["G3"] - 3).clip(0)
    )
    found = compare(reference, seen(moved), LIMITS)
    drifted = {name for name, verdict in verdicts(found).items() if verdict == "drift"}
    assert drifted == {"absences", "reason"}
    assert found["features"]["absences"]["p_adjusted"] < 1e-6
    assert found["features"]["absences"]["p_adjusted"] >= found["features"]["absences"]["p"]
    assert found["predictions"]["verdict"] == "drift"
    assert found["predictions"]["distance"] == found["predictions"]["statistic"] > 0.1


def test_significant_trifle_is_no_drift(pupils: pd.DataFrame, reference: dict[str, Any]) -> None:
    many = {"no": 5_700_000, "yes": 4_300_000}
    known = {**reference, "predictions": {}}
    known["features"] = {
        "paid": {"kind": "counts", "n": 10**7, "counts": {"no": 6 * 10**6, "yes": 4 * 10**6}}
    }
    entry = compare(known, CurrentPupils({"paid": many}), LIMITS)["features"]["paid"]
    assert entry["p_adjusted"] < 1e-12
    assert entry["distance"] == pytest.approx(0.03)
    assert entry["verdict"] == "stable"


@pytest.mark.parametrize("count", [0, 49])
def test_too_few_pupils_are_not_compared(
    pupils: pd.DataFrame, reference: dict[str, Any], count: int
) -> None:
    found = compare(reference, seen(pupils.head(count)), LIMITS)
    assert set(verdicts(found).values()) == {"insufficient_data"}
    for entry in (*found["features"].values(), found["predictions"]):
        assert entry["count"] == count
        assert entry["statistic"] is entry["p_adjusted"] is entry["distance"] is None
    assert compare(reference, seen(pupils.head(50)), LIMITS)["features"]["age"]["p"] is not None


def test_unknown_grades_are_not_counted(pupils: pd.DataFrame, reference: dict[str, Any]) -> None:
    early = pupils.assign(G2=math.nan)
    found = compare(reference, seen(early, "G1"), LIMITS)["features"]
    assert found["G2"]["verdict"] == "insufficient_data"
    assert found["G2"]["count"] == 0
    assert found["G1"]["verdict"] == "stable"


def test_model_without_a_reference_has_no_verdicts(pupils: pd.DataFrame) -> None:
    found = compare({}, seen(pupils), LIMITS)
    assert set(verdicts(found).values()) == {"insufficient_data"}
    assert found["predictions"]["verdict"] == "insufficient_data"
    json.dumps(found, allow_nan=False)


def test_seeds_reference_is_readable(pupils: pd.DataFrame) -> None:
    path = ROOT / "student_success" / "seed" / "drift_reference.json"
    found = compare(json.loads(path.read_text()), seen(pupils), LIMITS)
    assert all(entry["p"] is not None for entry in found["features"].values())
    # The sample is made to be near to the real pupils that the seed was trained on.
    assert "drift" not in verdicts(found).values()
