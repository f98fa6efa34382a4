"""The rows of a class list, before and after their prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASSES = "reussite"
"""The value of `decision` for a pass."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """A valid row.

    Attributes
    ----------
    line
        Line in the file; the header is line 1.
    reference
        The reader's own code for the pupil, or "".
    features
        Body of ``POST /predict``.
    """

    line: int
    reference: str
    features: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InvalidCell:
    """A problem in a file.

    Attributes
    ----------
    line
        Line in the file; None if the problem concerns the whole column.
    value
        Content of the cell, shortened.
    key, values
        Key of the text that explains the problem, and the values of its placeholders.
    """

    line: int | None
    column: str
    value: str
    key: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredPupil:
    """A pupil with the prediction of the API."""

    pupil: Pupil
    grade: float
    low: int
    high: int
    probability: float
    passes: bool
    at_risk: bool
    horizon: str
    version: str
    prediction_id: str

    @classmethod
    def from_prediction(cls, pupil: Pupil, prediction: dict[str, Any]) -> ScoredPupil:
        """Read one prediction of ``POST /predict_batch``."""
        return cls(
            pupil,
            float(prediction["predicted_G3"]),
            int(prediction["interval"]["low"]),
            int(prediction["interval"]["high"]),
            float(prediction["pass_probability"]),
            prediction["decision"] == PASSES,
            bool(prediction["at_risk"]),
            str(prediction["horizon"]),
            str(prediction["model_version"]),
            str(prediction["prediction_id"]),
        )
