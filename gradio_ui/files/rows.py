"""The rows of a class list after their prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from student_success.domain.students import PREDICTED
from student_success.domain.tables.pupils import Pupil

PASSES = "reussite"
"""The value of `decision` for a pass."""


@dataclass(frozen=True, slots=True)
class ScoredPupil:
    """A pupil with the prediction of the API."""

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

    @classmethod
    def from_prediction(cls, pupil: Pupil, prediction: dict[str, Any]) -> ScoredPupil:
        """Read one prediction of ``POST /predict_batch``."""
        return cls(
            pupil,
            float(prediction[PREDICTED]),
            float(prediction["interval"]["low"]),
            float(prediction["interval"]["high"]),
            float(prediction["pass_probability"]),
            prediction["decision"] == PASSES,
            bool(prediction["at_risk"]),
            str(prediction["horizon"]),
            str(prediction["model_version"]),
            str(prediction["prediction_id"]),
            str(prediction["session_id"]),
        )
