"""Predictions on held-out pupils, which the evaluation, the audits and the report read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.domain.students import PASS_LEVEL
from training.evaluation.scores import scores
from training.fitting.calibration import Calibrated
from training.fitting.fit import Recipe

CANDIDATE, BASELINE, CHAMPION = "candidate", "baseline", "champion"
WITHOUT = "without_outcomes"
"""The candidate's recipe, fitted without the pupils that were added from the history."""


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
        Predictions by model: `CANDIDATE`, `BASELINE` and, if there is one, `CHAMPION`; `WITHOUT` if
        pupils were added from the history.
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


def by_horizon(held_out: Iterable[HeldOut]) -> dict[str, list[HeldOut]]:
    """Return the folds of each horizon."""
    parts: dict[str, list[HeldOut]] = {}
    for part in held_out:
        parts.setdefault(part.horizon, []).append(part)
    return parts


def leaks(held_out: Iterable[HeldOut]) -> tuple[int, int]:
    """Count predictions by a fit that had seen the pupil, and all predictions checked."""
    parts = list(held_out)
    seen = sum(int(np.isin(part.pupils, part.seen).sum()) for part in parts)
    return seen, sum(len(part.pupils) for part in parts)


def count_pupils(held_out: Sequence[HeldOut]) -> dict[str, dict[str, int]]:
    """Count the held-out pupils who failed and passed, by horizon, each once."""
    counts = {}
    for horizon, parts in by_horizon(held_out).items():
        _, first = np.unique(np.concatenate([part.pupils for part in parts]), return_index=True)
        failed = np.concatenate([part.actual for part in parts])[first] < PASS_LEVEL
        counts[horizon] = {"failed": int(failed.sum()), "passed": int((~failed).sum())}
    return counts


def file_pupils(held_out: Sequence[HeldOut], of_file: int) -> dict[str, Any]:
    """Judge the pupils of the file alone, so that those added from the history can harm no one.

    Parameters
    ----------
    of_file
        Pupils from this position on were added.
    """
    losses: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, dict[str, list[float]]] = {}
    for part in held_out:
        inside = part.pupils < of_file
        for name, calibrated in part.calibrated.items():
            measured = scores(calibrated.where(inside), part.actual[inside])
            for measures, loss in ((losses, "crps"), (errors, "mae")):
                by_name = measures.setdefault(part.horizon, {})
                by_name.setdefault(name, []).append(measured[loss])
    return {
        "losses": losses,
        "mae": {
            horizon: {name: float(np.mean(by_name[name])) for name in (CANDIDATE, WITHOUT)}
            for horizon, by_name in errors.items()
        },
    }
