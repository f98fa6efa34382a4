"""Predictions on held-out pupils, which the evaluation, the audits and the report read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.fitting.calibration import Calibrated
from training.fitting.fit import Recipe

CANDIDATE, BASELINE, CHAMPION = "candidate", "baseline", "champion"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What each model predicts for the held-out pupils of one fold in one horizon.

    Attributes
    ----------
    seen
        Pupils that the candidate was fitted on, as the fit recorded them.
    pupils
        The held-out pupils, one for each entry of `calibrated`.
    actual
        Their final grades as levels of the scale, as all grades of `calibrated`.
    calibrated
        Predictions by model: `CANDIDATE`, `BASELINE` and, if there is one, `CHAMPION`.
    alarm
        Whether the candidate raises the alarm.
    recipe
        The candidate's, which may be chosen anew in each fold.
    """

    fold: int
    horizon: str
    seen: NDArray[np.int64]
    pupils: NDArray[np.int64]
    actual: NDArray[np.float64]
    calibrated: Mapping[str, Calibrated]
    alarm: NDArray[np.bool_]
    recipe: Recipe


def leaks(held_out: Iterable[HeldOut]) -> tuple[int, int]:
    """Count predictions by a fit that had seen the pupil, and all predictions checked."""
    parts = list(held_out)
    seen = sum(int(np.isin(part.pupils, part.seen).sum()) for part in parts)
    return seen, sum(len(part.pupils) for part in parts)
