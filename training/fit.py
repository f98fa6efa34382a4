"""Fit one recipe: the model, and from inner folds of the same pupils its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.pipeline import Pipeline

from student_success.predictor import HORIZONS
from training.calibration import Table, alarm_levels, calibrate, say
from training.folds import folds
from training.pipeline import (
    change_pipeline,
    grade_estimator,
    hide,
    last_grade_pipeline,
    last_known,
)

Floats = NDArray[np.float64]
INNER_SPLITS = 5


@dataclass(frozen=True, slots=True)
class Recipe:
    """All it takes to fit the same kind of model on any pupils."""

    family: str
    params: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model with its calibration.

    Attributes
    ----------
    base
        Stands for the last known grade where none is known.
    tables, alarms
        By horizon.
    """

    recipe: Recipe
    base: float
    last: Pipeline
    change: Pipeline
    tables: Mapping[str, Table]
    alarms: Mapping[str, Mapping[str, Any]]

    def points(self, rows: pd.DataFrame) -> Floats:
        """Predict the grade, before it is cut to 0–20 and rounded."""
        change: Floats = self.change.predict(rows)
        return change + last_known(rows, base=self.base)

    def estimator(self, frame: pd.DataFrame) -> RegressorMixin:
        """Return the scikit-learn estimator of the grade; `frame` gives it its column names."""
        rows, _, _ = hide(frame)
        return grade_estimator(self.last, self.change, rows)


def _fit_change(
    frame: pd.DataFrame, target: Floats, recipe: Recipe, base: float
) -> tuple[Pipeline, pd.DataFrame]:
    rows, pupils, _ = hide(frame)
    change = target[pupils] - last_known(rows, base=base)
    pipeline = change_pipeline(recipe.family, recipe.params, seed=recipe.seed)
    return pipeline.fit(rows, change), rows


def _held_out(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe,
    base: float,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> tuple[Floats, NDArray[np.int64], NDArray[np.str_]]:
    pipeline, _ = _fit_change(frame.iloc[train], target[train], recipe, base)
    rows, pupils, horizons = hide(frame.iloc[test])
    return pipeline.predict(rows) + last_known(rows, base=base), test[pupils], horizons


def fit(frame: pd.DataFrame, target: Floats, recipe: Recipe, *, jobs: int = 1) -> Fitted:
    """Fit the model on all of the pupils given and calibrate it by folds among them.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.
    target
        Final grades, 0 to 20.
    jobs
        Processes for the inner folds.
    """
    base = float(np.median(target))
    parts = Parallel(n_jobs=jobs)(
        delayed(_held_out)(frame, target, recipe, base, train, test)
        for train, test in folds(target, splits=INNER_SPLITS, seed=recipe.seed)
    )
    points = np.concatenate([part[0] for part in parts])
    actual = target[np.concatenate([part[1] for part in parts])]
    horizons = np.concatenate([part[2] for part in parts])
    tables, alarms = {}, {}
    for horizon in HORIZONS:
        here = horizons == horizon
        tables[str(horizon)] = table = calibrate(points[here], actual[here])
        alarms[str(horizon)] = alarm_levels(say(points[here], table).probability, actual[here])
    pipeline, rows = _fit_change(frame, target, recipe, base)
    return Fitted(recipe, base, last_grade_pipeline(rows, base=base), pipeline, tables, alarms)
