"""Measures of the quality of predictions, for one fold and horizon.

Predictions and final grades are counted in levels of the scale, see `student_success.domain.scale`;
errors are reported in grades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from student_success.domain.students import PASS_LEVEL, SCALE
from training.fitting.calibration import Calibrated

Floats = NDArray[np.float64]

CALIBRATION_BINS = 5
_BELOW_BEST = np.arange(SCALE.highest)


def crps(cdf: Floats, actual: Floats) -> Floats:
    """Return the continuous ranked probability score of each pupil, in grades; lower is better.

    Parameters
    ----------
    cdf
        ``(pupils, levels - 1)``; probability that the final level is at most 0, 1, …
    actual
        Final levels.

    Notes
    -----
    Gneiting and Raftery, Strictly proper scoring rules (2007); exact here, as levels are whole.
    """
    happened = actual[:, None] <= _BELOW_BEST[None, :]
    score: Floats = ((cdf - happened) ** 2).sum(axis=1)
    return score * SCALE.step


def scores(predictions: Calibrated, actual: Floats) -> dict[str, float]:
    """Compare calibrated predictions with the final grades, both as levels.

    NaN stands for a figure that these pupils do not have: R² if all grades are equal, recall if
    nobody fails.
    """
    error = (predictions.grade - actual) * SCALE.step
    rounded = (np.floor(predictions.grade + 0.5) - actual) * SCALE.step
    passed = actual >= PASS_LEVEL
    expected_pass = predictions.passes
    spread = float(((actual - actual.mean()) ** 2).mean()) * SCALE.step**2
    rate = passed.mean()
    return {
        "mae": float(np.abs(error).mean()),
        "mae_rounded": float(np.abs(rounded).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": float(1 - (error**2).mean() / spread) if spread > 0 else float("nan"),
        "accuracy": float((expected_pass == passed).mean()),
        "recall_failing": float((~expected_pass[~passed]).mean()) if (~passed).any() else math.nan,
        "brier": float(((predictions.probability - passed) ** 2).mean()),
        "brier_base_rate": float(rate * (1 - rate)),
        "crps": float(crps(predictions.cdf, actual).mean()),
        "coverage": float(((predictions.low <= actual) & (actual <= predictions.high)).mean()),
        "width": float((predictions.high - predictions.low).mean()) * SCALE.step,
    }


def half_interval(values: Sequence[float], *, n_train: float, n_test: float) -> float:
    """Return half the 95 % interval of a mean over repeated folds; NaN of fewer than two.

    The folds share training pupils, so the variance of the mean is (1/n + n_test/n_train) s²
    (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003).
    """
    count = len(values)
    if count < 2:
        return math.nan
    error = math.sqrt((1 / count + n_test / n_train) * float(np.var(values, ddof=1)))
    return float(t.ppf(0.975, count - 1)) * error


def calibration_bins(probability: Floats, passed: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Compare predicted and observed pass rates in `CALIBRATION_BINS` bins of equal size."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "probability": float(probability[part].mean()),
            "passed": float(passed[part].mean()),
            "n": len(part),
        }
        for part in np.array_split(order, CALIBRATION_BINS)
        if len(part)
    ]


def expected_calibration_error(probability: Floats, passed: NDArray[np.bool_]) -> float:
    """Return the mean gap between predicted and observed pass rates over the bins, 0 to 1."""
    bins = calibration_bins(probability, passed)
    return sum(b["n"] * abs(b["probability"] - b["passed"]) for b in bins) / len(probability)
