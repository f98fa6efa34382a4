"""Bodies of ``/history`` and ``/outcomes``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, FailFast, Field, model_validator

from student_success.domain.decision import Decision
from student_success.domain.schemas.base import (
    BATCH_LIMIT,
    MAX_ID,
    RequestBody,
    ResponseBody,
    SessionId,
)
from student_success.domain.schemas.prediction import Interval
from student_success.domain.students import GRADE_MAX, GRADE_MIN, WITHOUT_NUL, Horizon, Whole

HISTORY_LIMIT = 1000
"""Largest number of predictions in one response."""


class HistoryQuery(RequestBody):
    """Which predictions to show."""

    limit: int = Field(50, ge=1, le=HISTORY_LIMIT)
    session_id: SessionId | None = None
    before_id: int | None = Field(None, ge=1, le=MAX_ID)


class HistoryRow(ResponseBody):
    """One prediction as it was made, and the grade really obtained once it is known."""

    id: int
    prediction_id: str
    session_id: str
    timestamp: str
    inputs_json: dict[str, Any]
    reference: str | None
    predicted_G3: float
    decision: Decision
    pass_probability: float
    interval: Interval
    horizon: Horizon
    at_risk: bool
    model_version: str
    actual_G3: int | None


class ErasureAnswer(ResponseBody):
    """How much of a session was erased."""

    session_id: str
    erased: int


class Outcome(RequestBody):
    """The grade that a pupil really obtained; the pupil by a prediction, or as the caller does."""

    prediction_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    session_id: SessionId | None = None
    reference: Annotated[str, Field(min_length=1, max_length=64, pattern=WITHOUT_NUL)] | None = None
    actual_G3: Annotated[int, Field(ge=GRADE_MIN, le=GRADE_MAX), Whole]

    @model_validator(mode="after")
    def _one_pupil(self) -> Self:
        named = [
            value is not None for value in (self.prediction_id, self.session_id, self.reference)
        ]
        if named not in ([True, False, False], [False, True, True]):
            raise ValueError("name the prediction_id, or both session_id and reference")
        return self


class OutcomesRequest(RequestBody):
    """Up to 10,000 outcomes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcomes": [
                        {"session_id": "class-3b", "reference": "P-0007", "actual_G3": 11},
                        {"prediction_id": "0190b0e2f4c17d3a9c5e8f6b2a4d1c07", "actual_G3": 9},
                    ]
                }
            ]
        }
    )

    # Stop at the first invalid row: the API looks for the others row by row.
    outcomes: Annotated[list[Outcome], FailFast()] = Field(min_length=1, max_length=BATCH_LIMIT)


class RejectedOutcome(ResponseBody):
    """One outcome that was not recorded, and why."""

    index: int = Field(description="Its place in the request, from 0.")
    error: Literal["not_found", "repeated", "conflict"]
    message: str


class OutcomesAnswer(ResponseBody):
    """What became of the outcomes."""

    accepted: int
    rejected: list[RejectedOutcome]
