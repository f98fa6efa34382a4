"""The model, in scikit-learn's own parts: last known grade plus the change that trees expect.

`StackingRegressor` over frozen parts adds the two up, so whoever loads the artefact with
scikit-learn gets the grade itself. One model answers at all three moments of the year: `hide`
shows it each training pupil three times, with both period grades, with G1 alone and with neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor, StackingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)

from student_success.students import CATEGORICAL, FEATURE_NAMES, FEATURES, NUMERIC, Horizon

Floats = NDArray[np.float64]

GRADES = ("G1", "G2")
LOGGED = ("absences",)
PLAIN = tuple(name for name in NUMERIC if name not in LOGGED)
FILL = -1.0
"""Stands for a grade that is not known: below every grade, so one cut of a tree tells it apart."""


def hide(frame: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.str_]]:
    """Show each pupil as at each horizon that the known grades allow.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.

    Returns
    -------
    rows, pupils, horizons
        The copies, the position in `frame` that each was made from, and its horizon. In the order
        none, G1, G1+G2; a pupil without the grade has no copy there.
    """
    parts, pupils, horizons = [], [], []
    position = np.arange(len(frame))
    known = {
        Horizon.NONE: np.ones(len(frame), dtype=bool),
        Horizon.G1: frame["G1"].notna().to_numpy(),
        Horizon.G1_G2: frame["G2"].notna().to_numpy(),
    }
    hidden: dict[Horizon, tuple[str, ...]] = {
        Horizon.NONE: GRADES,
        Horizon.G1: ("G2",),
        Horizon.G1_G2: (),
    }
    for horizon, has in known.items():
        part = frame.loc[has, list(FEATURE_NAMES)].copy()
        part[list(GRADES)] = part[list(GRADES)].astype(np.float64)
        part[list(hidden[horizon])] = np.nan
        parts.append(part)
        pupils.append(position[has])
        horizons.append(np.full(int(has.sum()), str(horizon)))
    return (
        pd.concat(parts, ignore_index=True),
        np.concatenate(pupils),
        np.concatenate(horizons),
    )


def last_known(rows: pd.DataFrame, *, base: float) -> Floats:
    """Return G2, else G1, else `base`, of each row."""
    filled = rows["G2"].fillna(rows["G1"]).fillna(base)
    return filled.to_numpy(dtype=np.float64)


def preprocessor() -> ColumnTransformer:
    """Scale numbers (absences through log1p first), one column a category."""
    return ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value=FILL), StandardScaler()
                ),
                list(PLAIN),
            ),
            (
                "logged",
                make_pipeline(FunctionTransformer(np.log1p), StandardScaler()),
                list(LOGGED),
            ),
            (
                "categories",
                OneHotEncoder(
                    categories=[list(f.categories) for f in FEATURES if f.kind == "category"],
                    handle_unknown="ignore",
                    sparse_output=False,
                ),
                list(CATEGORICAL),
            ),
        ]
    )


def change_pipeline(family: str, params: Mapping[str, Any], *, seed: int) -> Pipeline:
    """Build the regressor of the change since the last known grade."""
    regressors = {"random_forest": RandomForestRegressor}
    return Pipeline(
        [
            ("columns", preprocessor()),
            ("trees", regressors[family](random_state=seed, n_jobs=1, **params)),
        ]
    )


def last_grade_pipeline(rows: pd.DataFrame, *, base: float) -> Pipeline:
    """Build the part that answers with the last known grade, exactly.

    G1 counts where G2 is missing: a product, which is what polynomial features are for.
    """
    columns = ColumnTransformer(
        [
            (
                "grades",
                SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True),
                ["G1", "G2"],
            )
        ]
    )
    last = make_pipeline(columns, PolynomialFeatures(2, interaction_only=True), LinearRegression())
    last.fit(rows, last_known(rows, base=base))
    # Least squares finds these up to rounding; exactly is better.
    names = last[:-1].get_feature_names_out()
    weight = {
        "grades__G2": 1.0,
        "grades__G1 grades__missingindicator_G2": 1.0,
        "grades__missingindicator_G1": base,
    }
    linear = last[-1]
    linear.coef_ = np.array([weight.get(name, 0.0) for name in names])
    linear.intercept_ = 0.0
    return last


def grade_estimator(last: Pipeline, change: Pipeline, rows: pd.DataFrame) -> RegressorMixin:
    """Add the two fitted parts up to one scikit-learn estimator that answers with the grade."""
    stack = StackingRegressor(
        [("last_grade", FrozenEstimator(last)), ("change", FrozenEstimator(change))],
        final_estimator=LinearRegression(),
        cv="prefit",
    )
    stack.fit(rows, last.predict(rows))
    stack.final_estimator_.coef_ = np.ones(2)
    stack.final_estimator_.intercept_ = 0.0
    return stack
