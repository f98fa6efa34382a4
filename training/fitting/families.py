"""The families of models that a training tries, and pupils as each horizon shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grade_models import GradeModel
from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    GRADE,
    HORIZONS,
    PERIODS,
    PROFILE,
    SCALE,
)

Floats = NDArray[np.float64]

SAME_SCALE = tuple(f.name for f in FEATURES if f.is_period and f.monotone)
"""Periods whose grades are on the scale of the final grade: only they have a direction."""
_DIRECTIONS = {"raises": 1, "lowers": -1, None: 0}


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


_DEFAULT = {
    "learning_rate": 0.06,
    "max_iter": 100,
    "max_leaf_nodes": 4,
    "min_samples_leaf": 20,
    "l2_regularization": 20.0,
}
_SPACE = {
    "learning_rate": (0.04, 0.06, 0.1),
    "max_iter": (60, 100, 200),
    "max_leaf_nodes": (4, 6, 10, 16),
    "min_samples_leaf": (10, 20, 40),
    "l2_regularization": (5.0, 20.0, 40.0),
}
FAMILIES: Mapping[str, Family] = {
    "boosting": Family({"loss": "absolute_error"}, _DEFAULT, _SPACE),
    "boosting_squared": Family({"loss": "squared_error"}, _DEFAULT, _SPACE),
    "boosting_grade": Family({"loss": "absolute_error", "learns": "grade"}, _DEFAULT, _SPACE),
}


def build(family: str, params: Mapping[str, Any], *, seed: int) -> GradeModel:
    """Return an unfitted model of a family.

    Raises
    ------
    KeyError
        If there is no such family.
    """
    unrecorded = PROFILE.training.unrecorded_when_not_finished
    features = {
        feature.name: {
            "categories": list(feature.categories) or None,
            "nullable": feature.nullable,
            "monotone": _DIRECTIONS[feature.monotone],
            "unrecorded": feature.name in unrecorded,
        }
        for feature in FEATURES
        if not feature.is_period
    }
    scale = {
        "minimum": SCALE.minimum,
        "maximum": SCALE.maximum,
        "step": SCALE.step,
        "better": SCALE.better,
        "not_finished": GRADE.not_finished is not None,
    }
    periods = {name: {"same_scale": name in SAME_SCALE} for name in PERIODS}
    return GradeModel(
        features=features,
        periods=periods,
        scale=scale,
        random_state=seed,
        **{**FAMILIES[family].fixed, **params},
    )


def hide(frame: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.str_]]:
    """Copy each pupil once for each horizon that the known grades allow, hiding later grades.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.

    Returns
    -------
    rows, pupils, horizons
        The copies, the position in `frame` of the original, and the horizon. In the order of
        `HORIZONS`; a pupil without the grade has no copy for that horizon.
    """
    parts, pupils, horizons = [], [], []
    for known, horizon in enumerate(HORIZONS):
        has = frame[list(PERIODS[:known])].notna().all(axis=1).to_numpy()
        part = frame.loc[has, list(FEATURE_NAMES)].copy()
        for name in PERIODS:
            grades = part[name].astype(np.float64)
            part[name] = grades if name in PERIODS[:known] else np.nan
        parts.append(part)
        pupils.append(np.flatnonzero(has))
        horizons.append(np.full(int(has.sum()), str(horizon)))
    return (
        pd.concat(parts, ignore_index=True),
        np.concatenate(pupils),
        np.concatenate(horizons),
    )


def last_known(rows: pd.DataFrame, *, base: float) -> Floats:
    """Return the level of the last known grade, else `base`, of each row: the rule of thumb."""
    last = np.full(len(rows), base)
    for name in SAME_SCALE:
        grades = rows[name].to_numpy(dtype=np.float64)
        last = np.where(np.isnan(grades), last, levels_of(grades))
    return last


def levels_of(grades: Floats) -> Floats:
    """Return the level of each grade, also of one between two that exist."""
    # Steps such as 0.1 are no binary fractions.
    levels: Floats = SCALE.level(grades).round(6)
    return levels
