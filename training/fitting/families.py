"""The model families that a training tries, and the rows that each horizon adds.

One model predicts at all three moments of the year: `hide` gives it each training pupil three
times, with both period grades, with G1 alone and with neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import HuberRegressor

from grade_models import GRADES, GradeForest, GradeRegressor
from student_success.domain.students import FEATURE_NAMES, HORIZONS, Horizon

Floats = NDArray[np.float64]
Model = GradeForest | GradeRegressor


@dataclass(frozen=True, slots=True)
class Family:
    """One type of model and its search space.

    Attributes
    ----------
    fixed
        Parameters that are not searched.
    default
        The first candidate of a search.
    space
        Values from which the other candidates are drawn.
    """

    fixed: Mapping[str, Any]
    default: Mapping[str, Any]
    space: Mapping[str, tuple[Any, ...]]


_FOREST_SPACE = {
    "min_samples_leaf": (2, 3, 5),
    "max_features": (0.35, 0.45, 0.55),
    "max_samples": (0.5, 0.7, 0.9),
    "power": (0.5, 0.6, 0.7, 1.0),
    "late_weight": (2.0, 3.0, 4.0),
    "median_share": (0.6, 0.7, 0.8),
}
_FOREST = {
    "min_samples_leaf": 2,
    "max_features": 0.45,
    "max_samples": 0.7,
    "power": 0.5,
    "late_weight": 3.0,
    "median_share": 0.7,
}
FAMILIES: Mapping[str, Family] = {
    "random_forest": Family({"n_estimators": 100}, _FOREST, _FOREST_SPACE),
    # Splits by absolute error cost ten times as much to find, so these forests are smaller.
    "random_forest_absolute": Family(
        {"n_estimators": 40, "criterion": "absolute_error"},
        _FOREST | {"min_samples_leaf": 5, "power": 1.0},
        _FOREST_SPACE | {"min_samples_leaf": (3, 5, 8), "power": (1.0,)},
    ),
    "extra_trees": Family(
        {"n_estimators": 100, "splitter": "random"},
        _FOREST | {"max_features": 0.8},
        _FOREST_SPACE | {"max_features": (0.6, 0.8, 1.0)},
    ),
    "hist_gradient_boosting": Family(
        {"loss": "absolute_error"},
        {"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 31, "min_samples_leaf": 15},
        {
            "learning_rate": (0.05, 0.08, 0.1, 0.15),
            "max_iter": (80, 100, 150),
            "max_leaf_nodes": (15, 31, 48),
            "min_samples_leaf": (8, 15, 25),
        },
    ),
    "linear": Family(
        {"max_iter": 1000},
        {"alpha": 1.0, "epsilon": 1.35},
        {"alpha": (0.01, 0.1, 1.0, 10.0), "epsilon": (1.01, 1.35, 2.0)},
    ),
}


def build(family: str, params: Mapping[str, Any], *, seed: int) -> Model:
    """Return an unfitted model of a family.

    Raises
    ------
    KeyError
        If there is no such family.
    """
    chosen = {**FAMILIES[family].fixed, **params}
    if family == "hist_gradient_boosting":
        return GradeRegressor(HistGradientBoostingRegressor(random_state=seed, **chosen))
    if family == "linear":
        return GradeRegressor(HuberRegressor(**chosen))
    return GradeForest(random_state=seed, **chosen)


def hide(frame: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.str_]]:
    """Copy each pupil once for each horizon that the known grades allow, hiding later grades.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.

    Returns
    -------
    rows, pupils, horizons
        The copies, the position in `frame` of the original, and the horizon. In the order none,
        G1, G1+G2; a pupil without the grade has no copy for that horizon.
    """
    parts, pupils, horizons = [], [], []
    position = np.arange(len(frame))
    known = {
        HORIZONS[0]: np.ones(len(frame), dtype=bool),
        HORIZONS[1]: frame["G1"].notna().to_numpy(),
        HORIZONS[2]: frame["G2"].notna().to_numpy(),
    }
    hidden: dict[Horizon, tuple[str, ...]] = {
        HORIZONS[0]: GRADES,
        HORIZONS[1]: ("G2",),
        HORIZONS[2]: (),
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
    """Return G2, else G1, else `base`, of each row: the rule of thumb."""
    filled = rows["G2"].fillna(rows["G1"]).fillna(base)
    return filled.to_numpy(dtype=np.float64)
