"""The rows of a class list, before and after they are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASSES = "reussite"
"""The API's word for a pass."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """One valid row.

    Attributes
    ----------
    line
        Line in the reader's file; the header is line 1.
    reference
        The reader's own code for the pupil, or "".
    features
        Body of ``POST /predict``.
    """

    line: int
    reference: str
    features: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadCell:
    """One thing wrong in a file.

    Attributes
    ----------
    line
        Line in the file; None where the file as a whole is meant.
    value
        What is written there, shortened.
    key, values
        Text that says why, and what fills its placeholders.
    """

    line: int | None
    column: str
    value: str
    key: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A pupil with the answer of the API."""

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

    @staticmethod
    def of(pupil: Pupil, answer: dict[str, Any]) -> Scored:
        """Read one answer of ``POST /predict_batch``."""
        return Scored(
            pupil,
            float(answer["predicted_G3"]),
            int(answer["interval"]["low"]),
            int(answer["interval"]["high"]),
            float(answer["pass_probability"]),
            answer["decision"] == PASSES,
            bool(answer["at_risk"]),
            str(answer["horizon"]),
            str(answer["model_version"]),
            str(answer["prediction_id"]),
        )
