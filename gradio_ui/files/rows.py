"""The rows of a class list after their prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from student_success.domain.decision import Decision
from student_success.domain.students import PREDICTED, SCALE
from student_success.domain.tables.pupils import Pupil


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier estimate.

    Attributes
    ----------
    known
        The horizon, or the words of a saved file for the grades known then.
    """

    grade: float
    known: str


@dataclass(frozen=True, slots=True)
class ScoredPupil:
    """A pupil with the prediction of the API, and an earlier one to compare it with."""

    pupil: Pupil
    grade: float
    low: float
    high: float
    probability: float
    passes: bool
    at_risk: bool
    horizon: str
    version: str
    prediction_id: str
    session_id: str
    earlier: Earlier | None = None

    @property
    def change(self) -> float:
        """By how many steps of the scale the estimate is better than the earlier one; 0 if none."""
        return (
            0.0
            if self.earlier is None
            else SCALE.level(self.grade) - SCALE.level(self.earlier.grade)
        )

    @classmethod
    def from_prediction(cls, pupil: Pupil, prediction: dict[str, Any]) -> ScoredPupil:
        """Read one prediction of ``POST /predict_batch``."""
        return cls(
            pupil,
            float(prediction[PREDICTED]),
            float(prediction["interval"]["low"]),
            float(prediction["interval"]["high"]),
            float(prediction["pass_probability"]),
            prediction["decision"] == Decision.PASS,
            bool(prediction["at_risk"]),
            str(prediction["horizon"]),
            str(prediction["model_version"]),
            str(prediction["prediction_id"]),
            str(prediction["session_id"]),
        )
