"""What the model predicts about one pupil, or about many as columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, Horizon
from student_success.model.grading import CENTS


class Prediction(NamedTuple):
    """What is predicted about one pupil's final grade.

    Attributes
    ----------
    grade
        0 to 20, two decimals; `decision` is derived from it.
    pass_probability
        0 to 1, calibrated; at least 0.5 exactly when the decision is to pass.
    low, high
        Whole grades; the prediction interval, which contains `grade` rounded half up.
    at_risk
        The alarm for counsellors, see the setting `alarm_recall`.
    """

    grade: float
    decision: Decision
    pass_probability: float
    low: int
    high: int
    horizon: Horizon
    at_risk: bool


class Predictions(NamedTuple):
    """`Prediction` of many pupils, as columns.

    Attributes
    ----------
    cents
        The predicted grade in hundredths: divided by `CENTS` it is `grade`.
    passes
        Whether the decision is to pass.
    known
        How many period grades are known: the position of the horizon in `HORIZONS`.
    """

    cents: NDArray[np.int64]
    passes: NDArray[np.bool_]
    pass_probability: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    known: NDArray[np.int64]
    at_risk: NDArray[np.bool_]

    def rows(self) -> list[Prediction]:
        """Return one `Prediction` for each pupil."""
        decisions = (Decision.FAIL, Decision.PASS)
        return list(
            map(
                Prediction,
                (self.cents / CENTS).tolist(),
                [decisions[passes] for passes in self.passes.tolist()],
                self.pass_probability.tolist(),
                self.low.tolist(),
                self.high.tolist(),
                [HORIZONS[number] for number in self.known.tolist()],
                self.at_risk.tolist(),
            )
        )
