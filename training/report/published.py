"""Repeat the protocol of the study that published the data, with our type of trees.

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
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from student_success.domain.students import GRADE, HORIZONS, PERIODS, TARGET, Horizon
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
        Share of pupils put on the right side of the pass mark, by the rounded prediction.
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
    known = HORIZONS.index(horizon)
    numbers = table.drop(columns=[TARGET, *PERIODS[known:]])
    inputs = pd.get_dummies(numbers, dtype=float)
    actual = table[TARGET].to_numpy(dtype=np.float64)
    last = inputs[PERIODS[known - 1]].to_numpy() if known else np.full(len(table), actual.mean())
    predicted = np.empty(len(table))
    for train, test in KFold(SPLITS, shuffle=True, random_state=number).split(inputs):
        # The study measures squared error, so the trees minimise it.
        boosting = HistGradientBoostingRegressor(
            max_iter=100, learning_rate=0.06, max_leaf_nodes=8, random_state=number
        )
        with threadpool_limits(limits=1):
            boosting.fit(inputs.iloc[train], actual[train] - last[train])
            predicted[test] = last[test] + boosting.predict(inputs.iloc[test])
    rmse = float(np.sqrt(((predicted - actual) ** 2).mean()))
    passed = actual >= GRADE.pass_mark
    return rmse, float(((predicted >= GRADE.pass_mark - 0.5) == passed).mean())
