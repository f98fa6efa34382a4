"""The estimator: what it leaves out to be sooner fitted changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import grade_models
from student_success.domain.students import FEATURE_NAMES, TARGET
from training.data.dataset import SAMPLE, read
from training.fitting import families

pytestmark = pytest.mark.model


class EveryInput(grade_models.GradeModel):
    """Fit the trees with every input, also those that no leaf can be divided by."""

    rare_ = property(lambda self: np.zeros(len(self.input_names_), dtype=bool), lambda *_: None)


def test_rare_values_are_left_out_without_changing_a_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = read(SAMPLE).frame
    table = frame[list(FEATURE_NAMES)].copy()
    # With their copies, 9 rows are too few for a leaf of 20, 30 are not.
    table["reason"] = "course"
    table.loc[table.index[:9], "reason"] = "other"
    table.loc[table.index[9:39], "reason"] = "home"
    grades = frame[TARGET].to_numpy(dtype=np.float64)
    params: dict[str, Any] = {"max_iter": 20, "min_samples_leaf": 20}
    model = families.build("boosting", params, seed=0).fit(table, grades)
    monkeypatch.setattr(families, "GradeModel", EveryInput)
    whole = families.build("boosting", params, seed=0).fit(table, grades)
    seen = [model.input_names_[at] for at in model.columns(0, leaving=False)]
    assert "reason=home" in seen
    assert "reason=other" not in seen
    assert len(seen) < len(whole.columns(0, leaving=False))
    for ours, theirs in zip(model.parts(table), whole.parts(table), strict=True):
        assert np.array_equal(ours, theirs)
