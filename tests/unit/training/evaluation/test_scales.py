"""Figures on other scales: errors are in grades, whichever end is the better one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from student_success.core.paths import ROOT
from tests.schools import write_profile
from training.evaluation.fairness import FEATURE_GROUPS, merged

_MEASURE = """
import json, sys
import numpy as np, pandas as pd
from student_success.domain.students import FEATURE_NAMES, SCALE, PERIODS
from training.fitting.families import last_known, levels_of
from training.evaluation.fairness import FEATURE_GROUPS
from training.evaluation.scores import scores
from training.fitting.calibration import Calibrated

grades = np.array(json.loads(sys.argv[1]))
predicted = levels_of(np.array(json.loads(sys.argv[2])))
actual = levels_of(grades)
steps = np.arange(SCALE.highest)
cdf = (predicted[:, None] <= steps[None, :]).astype(float)
said = Calibrated(predicted, np.full(len(grades), 0.5), predicted - 1, predicted + 1, cdf)
rows = pd.DataFrame({name: [np.nan] * 2 for name in FEATURE_NAMES})
for name, value in zip(PERIODS, (3.0, 2.0)):
    rows.loc[0, name] = value
print(json.dumps({
    "levels": actual.tolist(), "scores": scores(said, actual), "groups": FEATURE_GROUPS,
    "thumb": last_known(rows, base=7.0).tolist(),
}))
"""


def measure(folder: Path, name: str, grades: list[float], predicted: list[float]) -> dict[str, Any]:
    """Compare grades with predictions in a process that works with a made-up school."""
    write_profile(folder / "school.toml", name)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, json.dumps(grades), json.dumps(predicted)],
        cwd=ROOT,
        env=dict(os.environ, PROFILE_PATH=str(folder / "school.toml")),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_errors_are_in_grades_where_lower_is_better(tmp_path: Path) -> None:
    found = measure(tmp_path, "lower-is-better", [1, 4, 4.5, 6], [1.5, 4, 3.5, 6])
    assert found["levels"] == [10, 4, 3, 0]
    scores = found["scores"]
    assert scores["mae"] == pytest.approx((0.5 + 1) / 4)
    assert scores["rmse"] == pytest.approx(((0.25 + 1) / 4) ** 0.5)
    # The distribution is the predicted grade, so its score is the absolute error.
    assert scores["crps"] == pytest.approx(scores["mae"])
    assert scores["width"] == 1
    assert scores["coverage"] == 0.75
    # 3.5 is a pass, 4.5 is none.
    assert scores["accuracy"] == 0.75
    assert scores["recall_failing"] == 0.5
    # The last grade that is known: 2 of 1 to 6 in halves is level 8.
    assert found["thumb"] == [8, 7]


def test_errors_are_in_grades_where_steps_are_small(tmp_path: Path) -> None:
    found = measure(tmp_path, "wide", [0, 10.3, 20], [0.1, 10.3, 19])
    assert found["levels"] == [0, 103, 200]
    assert found["scores"]["mae"] == pytest.approx(1.1 / 3)
    # The period has a scale of its own, so it is no rule of thumb.
    assert found["thumb"] == [7, 7]


def test_groups_of_a_school_feature_are_audited(tmp_path: Path) -> None:
    assert FEATURE_GROUPS == ("school",)
    assert measure(tmp_path, "many-schools", [3, 5], [3, 5])["groups"] == ["school"]


def test_column_of_many_numbers_is_divided_in_two_groups() -> None:
    education = pd.Series(["0", "1", "2", "3", "4", "", "2", "4"])
    assert merged(education).tolist() == ["0-2", "0-2", "0-2", "3-4", "3-4", "", "0-2", "3-4"]
    for labels in (["F", "M"], ["1", "2", "3"], ["0", "1", "2", "3", "many"]):
        assert merged(pd.Series(labels)).tolist() == labels
