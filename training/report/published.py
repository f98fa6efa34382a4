"""Repeat the protocol of the study that published the data, with our type of model.

Cortez and Silva (2008) evaluated each subject by 20 runs of 10-fold cross-validation with all
inputs, in three set-ups: with both period grades, with the first alone, with neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from grade_models import GradeForest, grade_of
from student_success.domain.students import HORIZONS, Horizon
from training.data.prepare import MATHEMATICS, PORTUGUESE

Floats = NDArray[np.float64]

SPLITS = 10
PUBLISHED_RMSE: dict[str, dict[Horizon, float]] = {
    MATHEMATICS: {HORIZONS[2]: 1.75, HORIZONS[1]: 2.46, HORIZONS[0]: 3.90},
    PORTUGUESE: {HORIZONS[2]: 1.32, HORIZONS[1]: 1.78, HORIZONS[0]: 2.67},
}
"""RMSE of their best model, in grades."""


@dataclass(frozen=True, slots=True)
class Published:
    """One cell of their table next to ours: RMSE in grades, mean over the runs and half a 95 % CI.

    Attributes
    ----------
    pass_accuracy
        Share of pupils put on the right side of the pass mark, by the blend that the service uses.
    """

    subject: str
    horizon: Horizon
    theirs: float
    ours: float
    half: float
    pass_accuracy: float


def follow(folder: Path, *, runs: int, jobs: int) -> list[Published]:
    """Run their protocol on the two files as published.

    Parameters
    ----------
    folder
        Where the two UCI files are.
    runs
        How often the ten folds are drawn; the study drew them 20 times.
    """
    cells = []
    for subject, horizons in PUBLISHED_RMSE.items():
        table = pd.read_csv(folder / subject, sep=";")
        for horizon, theirs in horizons.items():
            results = Parallel(n_jobs=jobs)(
                delayed(_run)(table, horizon, number) for number in range(runs)
            )
            rmse = np.array([result[0] for result in results])
            half = 1.96 * rmse.std(ddof=1) / math.sqrt(runs) if runs > 1 else math.nan
            accuracy = float(np.mean([result[1] for result in results]))
            cells.append(
                Published(subject, horizon, theirs, float(rmse.mean()), float(half), accuracy)
            )
    return cells


def _run(table: pd.DataFrame, horizon: Horizon, number: int) -> tuple[float, float]:
    """Return RMSE and pass/fail accuracy of one run of ten folds."""
    inputs = table.drop(columns="G3").astype({"G1": np.float64, "G2": np.float64})
    if horizon is not HORIZONS[2]:
        inputs["G2"] = np.nan
    if horizon is HORIZONS[0]:
        inputs["G1"] = np.nan
    actual = table["G3"].to_numpy(dtype=np.float64)
    mean, blend = np.empty(len(table)), np.empty(len(table))
    for train, test in KFold(SPLITS, shuffle=True, random_state=number).split(inputs):
        # The study measures squared error, so trees minimise it and predict the mean.
        forest = GradeForest(
            power=1.0, late_weight=1.0, min_samples_leaf=1, max_features=0.5, random_state=number
        )
        with threadpool_limits(limits=1):
            cdf = forest.fit(inputs.iloc[train], actual[train]).predict_cdf(inputs.iloc[test])
        mean[test] = (1.0 - cdf).sum(axis=1)
        blend[test] = grade_of(cdf, forest.median_share)
    rmse = float(np.sqrt(((mean - actual) ** 2).mean()))
    return rmse, float(((blend >= 9.5) == (actual >= 10)).mean())
