"""Compare two versions, as they are served, on final grades that neither was trained on.

The pupils are those whose grade was recorded after both versions were made: the candidate's file
does not choose them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from student_success.domain.students import PERIODS, SCALE, StudentFeatures
from student_success.lifecycle.comparison import Condition
from student_success.model.predictor import Predictor
from student_success.storage.observations import PupilWithOutcome

MINIMUM_PUPILS = 30
"""With fewer, the difference of two mean errors is chance."""
NAME = "recorded_outcomes"


def condition(
    candidate: Path, champion: Path, pupils: Sequence[PupilWithOutcome], *, significance: float
) -> Condition:
    """Refuse a candidate whose error on these pupils is larger than the served version's.

    Parameters
    ----------
    candidate, champion
        Serving folders.
    pupils
        With outcomes recorded after both were made.

    Returns
    -------
    Condition
        Its value is the one-sided p that the candidate's error is no larger; None, and passed, of
        fewer than `MINIMUM_PUPILS` pupils.
    """
    known = [
        (StudentFeatures.model_validate_json(pupil.inputs_json), SCALE.level(pupil.actual_grade))
        for pupil in pupils
    ]
    if len(known) < MINIMUM_PUPILS:
        detail = f"{len(known)} final grades recorded since both were made; {MINIMUM_PUPILS} needed"
        return Condition(NAME, True, None, significance, detail, "at_least")
    errors = [_errors(folder, known) for folder in (candidate, champion)]
    difference = errors[0] - errors[1]
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    mean = float(difference.mean())
    p = 0.5 * math.erfc(mean / error / math.sqrt(2)) if error > 0 else float(mean <= 0)
    means = [float(each.mean()) * SCALE.step for each in errors]
    detail = (
        f"{len(known)} final grades recorded since both were made: mean error {means[0]:.3f}, of "
        f"the served version {means[1]:.3f}; p that it is no larger, at least the limit"
    )
    return Condition(NAME, p >= significance, p, significance, detail, "at_least")


def _errors(folder: Path, known: Sequence[tuple[StudentFeatures, float]]) -> np.ndarray:
    """Return each pupil's mean absolute error, in levels, over the times of the year known."""
    predictor = Predictor.load(folder, version="compared")
    errors = np.zeros((len(PERIODS) + 1, len(known)))
    errors[:] = np.nan
    for count in range(len(PERIODS) + 1):
        rows = [
            number
            for number, (student, _) in enumerate(known)
            if all(getattr(student, name) is not None for name in PERIODS[:count])
        ]
        hidden = dict.fromkeys(PERIODS[count:])
        students = [known[row][0].model_copy(update=hidden) for row in rows]
        actual = np.array([known[row][1] for row in rows])
        if rows:
            errors[count, rows] = np.abs(predictor.estimate(students) - actual)
    means: np.ndarray = np.nanmean(errors, axis=0)
    return means
