"""Bodies of ``/history`` and ``/outcomes``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, FailFast, Field, model_validator

from student_success.domain.decision import Decision
from student_success.domain.references import MAX_LENGTH, require_reference
from student_success.domain.schemas.base import (
    BATCH_LIMIT,
    MAX_ID,
    GivenGrade,
    GradeNumber,
    RequestBody,
    ResponseBody,
    SessionId,
    Timestamp,
    named_by_profile,
)
from student_success.domain.schemas.prediction import Interval
from student_success.domain.students import ACTUAL, PASS_LEVEL, SCALE, WITHOUT_NUL, Horizon

HISTORY_LIMIT = 1000
"""Largest number of predictions in one response."""
_PASSED = SCALE.grade(min(PASS_LEVEL + 1, SCALE.highest))
_FAILED = SCALE.grade(PASS_LEVEL - 1)


class HistoryQuery(RequestBody):
    """Which predictions to show."""

    limit: int = Field(50, ge=1, le=HISTORY_LIMIT)
    session_id: SessionId | None = None
    before_id: int | None = Field(None, ge=1, le=MAX_ID)


@named_by_profile
class ReplacedGrade(ResponseBody):
    """A grade that was recorded and has been corrected."""

    actual: GradeNumber
    recorded_by: str | None = Field(description="Role that recorded it.")
    replaced_at: Timestamp
    reason: str | None


@named_by_profile
class HistoryRow(ResponseBody):
    """One prediction as it was made, and the grade really obtained once it is known."""

    id: int
    prediction_id: str
    session_id: str
    timestamp: Timestamp
    inputs_json: dict[str, Any]
    reference: str | None
    grade: float
    decision: Decision
    pass_probability: float
    interval: Interval
    horizon: Horizon
    at_risk: bool
    model_version: str
    actual: GradeNumber | None
    replaced: list[ReplacedGrade] = Field(
        [],
        exclude_if=lambda replaced: not replaced,
        description="For an administrator: grades that were replaced, oldest first.",
    )


class ErasureAnswer(ResponseBody):
    """How much of a session was erased."""

    session_id: str
    erased: int


class _OfPupil(RequestBody):
    prediction_id: (
        Annotated[str, Field(min_length=1, max_length=64, pattern=WITHOUT_NUL)] | None
    ) = None
    session_id: SessionId | None = None
    reference: (
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_LENGTH, pattern=WITHOUT_NUL),
            AfterValidator(require_reference),
        ]
        | None
    ) = None

    correct: bool = Field(
        False, description="Replace a grade that is recorded already (administrator)."
    )
    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=WITHOUT_NUL)] | None = Field(
        None, description="Why it is corrected; kept with the grade that is replaced."
    )

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if self.correct != (self.reason is not None):
            raise ValueError("a correction needs correct: true and a reason, and nothing else does")
        return self

    @model_validator(mode="after")
    def _one_pupil(self) -> Self:
        named = [
            value is not None for value in (self.prediction_id, self.session_id, self.reference)
        ]
        if named not in ([True, False, False], [False, True, True]):
            raise ValueError("name the prediction_id, or both session_id and reference")
        return self

    @property
    def obtained(self) -> float:
        """The grade obtained, a whole number where all grades are."""
        grade: float = getattr(self, ACTUAL)
        return grade


@named_by_profile
class Outcome(_OfPupil):
    """The grade that a pupil really obtained; the pupil by a prediction, or as the caller does."""

    actual: GivenGrade


class OutcomesRequest(RequestBody):
    """Up to 10,000 outcomes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcomes": [
                        {"session_id": "class-3b", "reference": "P-0007", ACTUAL: _PASSED},
                        {"prediction_id": "0190b0e2f4c17d3a9c5e8f6b2a4d1c07", ACTUAL: _FAILED},
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
    error: Literal["not_found", "repeated", "conflict", "ambiguous"]
    message: str


class OutcomesAnswer(ResponseBody):
    """What became of the outcomes."""

    accepted: int
    rejected: list[RejectedOutcome]
