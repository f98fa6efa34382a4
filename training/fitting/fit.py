"""Fit one recipe: the model, and from inner folds of the same pupils its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from grade_models import GradeModel
from student_success.domain.students import HORIZONS
from training.fitting.calibration import (
    Calibrated,
    Predicted,
    Table,
    alarm_levels,
    apply_table,
    calibrate,
)
from training.fitting.families import build, hide, levels_of
from training.fitting.folds import folds
from training.fitting.parallel import task

Floats = NDArray[np.float64]
INNER_SPLITS = 5


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything needed to fit the same model on other pupils."""

    family: str
    params: Mapping[str, Any]
    seed: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Read a recipe from the content of recipe.json."""
        return cls(content["family"], dict(content["params"]), int(content["seed"]))


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model with its calibration; `tables` and `alarms` by horizon.

    Attributes
    ----------
    seen
        Index labels of every pupil that the model or its calibration was fitted on.
    """

    model: GradeModel
    seen: NDArray[np.int64]
    tables: Mapping[str, Table]
    alarms: Mapping[str, Mapping[str, Any]]

    def predict(self, rows: pd.DataFrame, horizon: str) -> Calibrated:
        """Return the calibrated predictions of pupils at one horizon."""
        return apply_table(predict(self.model, rows), self.tables[horizon])


def fit_model(frame: pd.DataFrame, target: Floats, recipe: Recipe) -> GradeModel:
    """Fit the model alone, for every horizon."""
    # The folds run in parallel already: threads inside a fit would compete with them.
    with threadpool_limits(limits=1):
        return build(recipe.family, recipe.params, seed=recipe.seed).fit(frame, target)


def predict(model: GradeModel, rows: pd.DataFrame) -> Predicted:
    """Return the raw predictions of a model."""
    with threadpool_limits(limits=1):
        return Predicted(*model.parts(rows), model.unknown(rows))


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Predictions on copies of pupils, each by a fit without that pupil.

    Attributes
    ----------
    bare
        With every value unknown that may be.
    """

    predicted: Predicted
    bare: Predicted
    pupils: NDArray[np.int64]
    horizons: NDArray[np.str_]


def out_of_fold(
    frame: pd.DataFrame, target: Floats, recipe: Recipe, *, splits: int, seed: int, jobs: int = 1
) -> OutOfFold:
    """Predict the pupils of the folds, at every horizon, with a fit on the other folds."""
    parts = Parallel(n_jobs=jobs)(
        task(_held_out, frame, target, recipe, train, test)
        for train, test in folds(target, splits=splits, seed=seed)
    )
    return OutOfFold(
        Predicted.concatenated([part.predicted for part in parts]),
        Predicted.concatenated([part.bare for part in parts]),
        np.concatenate([part.pupils for part in parts]),
        np.concatenate([part.horizons for part in parts]),
    )


def _held_out(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> OutOfFold:
    model = fit_model(frame.iloc[train], target[train], recipe)
    rows, pupils, horizons = hide(frame.iloc[test])
    bare = predict(model, model.hide(rows, 1.0))
    return OutOfFold(predict(model, rows), bare, test[pupils], horizons)


def fit(frame: pd.DataFrame, target: Floats, recipe: Recipe, *, jobs: int = 1) -> Fitted:
    """Fit the model on all of the pupils given and calibrate it by folds among them.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`; its index identifies the pupils.
    target
        Final grades.
    jobs
        Processes for the inner folds.
    """
    held = out_of_fold(frame, target, recipe, splits=INNER_SPLITS, seed=recipe.seed, jobs=jobs)
    levels = levels_of(target)
    tables, alarms = {}, {}
    for horizon in map(str, HORIZONS):
        rows = held.horizons == horizon
        # Without period grades in the data, use the calibration of the horizon without grades.
        rows = rows if rows.any() else held.horizons == str(HORIZONS[0])
        predicted, actual = held.predicted.where(rows), levels[held.pupils[rows]]
        tables[horizon] = table = calibrate(predicted, actual, bare=held.bare.where(rows))
        alarms[horizon] = alarm_levels(apply_table(predicted, table).probability, actual)
    seen = frame.index.to_numpy(dtype=np.int64)
    model = fit_model(frame, target, recipe)
    model.residuals_ = [list(tables[str(horizon)].residuals) for horizon in HORIZONS]
    model.widening_ = [tables[str(horizon)].widening for horizon in HORIZONS]
    return Fitted(model, seen, tables, alarms)
