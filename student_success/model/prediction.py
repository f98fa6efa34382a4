"""What the model predicts about one pupil, or about many as columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from student_success.domain.decision import Decision
from student_success.domain.students import HORIZONS, SCALE, Horizon
from student_success.model.grading import GRADES, SHOWN


class Prediction(NamedTuple):
    """What is predicted about one pupil's final grade.

    Attributes
    ----------
    grade
        On the scale of the profile, two decimals; `decision` is derived from it.
    pass_probability
        0 to 1, calibrated; at least 0.5 exactly when the decision is to pass.
    low, high
        Grades that exist; the prediction interval, which contains the one nearest to `grade`.
    at_risk
        The alarm for counsellors, see the setting `alarm_recall`.
    """

    grade: float
    decision: Decision
    pass_probability: float
    low: float
    high: float
    horizon: Horizon
    at_risk: bool


class Predictions(NamedTuple):
    """`Prediction` of many pupils, as columns.

    Attributes
    ----------
    hundredths
        The predicted grade in hundredths above the worst one, see `Scale.displayed`.
    low, high
        Levels.
    passes
        Whether the decision is to pass.
    known
        How many period grades are known: the position of the horizon in `HORIZONS`.
    """

    hundredths: NDArray[np.int64]
    passes: NDArray[np.bool_]
    pass_probability: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    known: NDArray[np.int64]
    at_risk: NDArray[np.bool_]

    def rows(self) -> list[Prediction]:
        """Return one `Prediction` for each pupil."""
        decisions = (Decision.FAIL, Decision.PASS)
        # A lower level may be a higher grade.
        lows, highs = (map(GRADES.__getitem__, levels.tolist()) for levels in (self.low, self.high))
        if SCALE.sign < 0:
            lows, highs = highs, lows
        return list(
            map(
                Prediction,
                map(SHOWN.__getitem__, self.hundredths.tolist()),
                [decisions[passes] for passes in self.passes.tolist()],
                self.pass_probability.tolist(),
                lows,
                highs,
                [HORIZONS[number] for number in self.known.tolist()],
                self.at_risk.tolist(),
            )
        )
