"""Bodies of ``/predict``, ``/predict_batch`` and ``/explain``, other than the pupil itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, FailFast, Field

from student_success.domain.decision import Decision
from student_success.domain.schemas.base import (
    BATCH_LIMIT,
    GradeNumber,
    RequestBody,
    ResponseBody,
    Timestamp,
    named_by_profile,
)
from student_success.domain.students import (
    BASELINE,
    EXAMPLE,
    GRADE_MAX,
    GRADE_MIN,
    PREDICTED,
    SCALE,
    Horizon,
    StudentFeatures,
)


class Students(RequestBody):
    """Up to 10,000 pupils, scored together."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"students": [dict(EXAMPLE)]}]})

    # Stop at the first invalid row: the API looks for the others row by row.
    students: Annotated[list[StudentFeatures], FailFast()] = Field(
        min_length=1, max_length=BATCH_LIMIT
    )


class Interval(ResponseBody):
    """Whole grades between which the final grade lies with probability `level`."""

    model_config = ConfigDict(
        json_schema_extra=None
        if SCALE.is_whole
        else {"description": "Grades that exist; the final grade lies between with `level`."}
    )

    low: GradeNumber = Field(ge=GradeNumber(GRADE_MIN), le=GradeNumber(GRADE_MAX))
    high: GradeNumber = Field(ge=GradeNumber(GRADE_MIN), le=GradeNumber(GRADE_MAX))
    level: float


@named_by_profile
class PredictionAnswer(ResponseBody):
    """One prediction, committed to the history."""

    prediction_id: str
    session_id: str
    grade: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    decision: Decision
    threshold: float
    pass_probability: float = Field(ge=0, le=1)
    interval: Interval
    horizon: Horizon
    at_risk: bool
    model_version: str
    mlflow_model_version: str
    timestamp: Timestamp
    synthetic_model: bool = Field(
        False,
        exclude_if=lambda synthetic: not synthetic,
        description="True if the model was trained on made-up data; absent otherwise.",
    )
    unusual: list[str] = Field(
        [],
        exclude_if=lambda unusual: not unusual,
        description="Features whose values lie far from the training data, each alone or together "
        "with another one: the prediction is a guess for them. Absent if there are none.",
    )


class ContributionAnswer(ResponseBody):
    """What one feature adds to the prediction, in grades, against the average pupil."""

    feature: str
    value: str | int | float | None
    share: float


class ReasonsAnswer(ResponseBody):
    """Sentences in the two languages."""

    fr: list[str]
    en: list[str]


class NoteAnswer(ResponseBody):
    """One sentence in the two languages."""

    fr: str
    en: str


@named_by_profile
class WhatIfAnswer(ResponseBody):
    """What the model would say if a few things were different."""

    change: dict[str, str | int | float]
    grade: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    pass_probability: float = Field(ge=0, le=1)


@named_by_profile
class ExplainAnswer(ResponseBody):
    """Why a pupil's prediction is what it is; nothing of it is kept."""

    grade: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    decision: Decision
    pass_probability: float = Field(ge=0, le=1)
    interval: Interval
    horizon: Horizon
    at_risk: bool = Field(description="The alarm, as in the answer of `/predict`.")
    not_finished_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        exclude_if=lambda chance: chance is None,
        description="The chance that the pupil does not finish, which is part of the distribution. "
        "Absent if the profile has no grade for it, or the version does not tell it apart.",
    )
    baseline: float = Field(
        description="Of the average pupil of whom as many period grades are known."
    )
    contributions: list[ContributionAnswer] = Field(
        description=f"The strongest first; they add up to {PREDICTED} minus {BASELINE}."
    )
    reasons: ReasonsAnswer
    what_if: list[WhatIfAnswer]
    note: NoteAnswer = Field(description="How to read what_if.")
    model_version: str


class BatchWarning(ResponseBody):
    """A warning about one pupil of a batch. The pupil is predicted."""

    index: int = Field(description="Its place in the request, from 0.")
    code: Literal["reference_repeated"]
    message: str


class BatchAnswer(ResponseBody):
    """The predictions, in the order of the pupils sent."""

    predictions: list[PredictionAnswer]
    warnings: list[BatchWarning] = Field(
        [],
        exclude_if=lambda warnings: not warnings,
        description="Pupils who share a reference with an earlier one; absent if there are none.",
    )
