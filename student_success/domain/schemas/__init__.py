"""The request and response bodies of the contract, other than the pupil itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, FailFast, Field, model_validator

from student_success.domain.decision import Decision
from student_success.domain.students import (
    EXAMPLE,
    GRADE_MAX,
    GRADE_MIN,
    WITHOUT_NUL,
    Horizon,
    StudentFeatures,
    Whole,
)

BATCH_LIMIT = 10_000
HISTORY_LIMIT = 1000
MAX_ID = 2**63 - 1
"""Row ids and versions are signed 64-bit integers in every database behind us."""

SessionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=WITHOUT_NUL)]


class _Request(BaseModel):
    """A request body: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class _Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Students(_Request):
    """Up to 10,000 pupils, scored together."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"students": [dict(EXAMPLE)]}]})

    # Pydantic may stop at the first bad row: who reads a batch looks for the others row by row.
    students: Annotated[list[StudentFeatures], FailFast()] = Field(
        min_length=1, max_length=BATCH_LIMIT
    )


class Interval(_Answer):
    """Whole grades between which the final grade lies with probability `level`."""

    low: int = Field(ge=0, le=20)
    high: int = Field(ge=0, le=20)
    level: float


class PredictionAnswer(_Answer):
    """One prediction, committed to the history."""

    prediction_id: str
    session_id: str
    predicted_G3: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    decision: Decision
    threshold: float
    pass_probability: float = Field(ge=0, le=1)
    interval: Interval
    horizon: Horizon
    at_risk: bool
    model_version: str
    mlflow_model_version: str
    timestamp: str


class ContributionAnswer(_Answer):
    """What one feature adds to the prediction, in grades, against the average pupil."""

    feature: str
    value: str | int | float | None
    share: float


class ReasonsAnswer(_Answer):
    """Sentences in the two languages."""

    fr: list[str]
    en: list[str]


class NoteAnswer(_Answer):
    """One sentence in the two languages."""

    fr: str
    en: str


class WhatIfAnswer(_Answer):
    """What the model would say if a few things were different."""

    change: dict[str, str | int]
    predicted_G3: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    pass_probability: float = Field(ge=0, le=1)


class ExplainAnswer(_Answer):
    """Why a pupil's prediction is what it is; nothing of it is kept."""

    predicted_G3: float = Field(ge=GRADE_MIN, le=GRADE_MAX)
    decision: Decision
    pass_probability: float = Field(ge=0, le=1)
    interval: Interval
    horizon: Horizon
    baseline_G3: float = Field(
        description="Of the average pupil of whom as many period grades are known."
    )
    contributions: list[ContributionAnswer] = Field(
        description="The strongest first; they add up to predicted_G3 minus baseline_G3."
    )
    reasons: ReasonsAnswer
    what_if: list[WhatIfAnswer]
    note: NoteAnswer = Field(description="How to read what_if.")
    model_version: str


class BatchAnswer(_Answer):
    """The predictions, in the order of the pupils sent."""

    predictions: list[PredictionAnswer]


class HistoryQuery(_Request):
    """Which predictions to show."""

    limit: int = Field(50, ge=1, le=HISTORY_LIMIT)
    session_id: SessionId | None = None
    before_id: int | None = Field(None, ge=1, le=MAX_ID)


class HistoryRow(_Answer):
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


class ErasureAnswer(_Answer):
    """How much of a session was erased."""

    session_id: str
    erased: int


class Outcome(_Request):
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


class OutcomesRequest(_Request):
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

    # As with pupils: whoever reads the rows looks for the other bad ones.
    outcomes: Annotated[list[Outcome], FailFast()] = Field(min_length=1, max_length=BATCH_LIMIT)


class RejectedOutcome(_Answer):
    """One outcome that was not recorded, and why."""

    index: int = Field(description="Its place in the request, from 0.")
    error: Literal["not_found", "repeated", "conflict"]
    message: str


class OutcomesAnswer(_Answer):
    """What became of the outcomes."""

    accepted: int
    rejected: list[RejectedOutcome]


class DriftEntry(_Answer):
    """One feature, or the predictions, beside the training data of the served model."""

    test: Literal["ks", "chi-square"]
    statistic: float | None
    p: float | None
    p_adjusted: float | None = Field(description="By Holm's method over all tests made.")
    distance: float | None = Field(
        description="0 to 1: the largest difference of the distribution functions, or the share "
        "of pupils that would have to change category."
    )
    count: int
    reference_count: int
    verdict: Literal["insufficient_data", "stable", "drift"]


class PredictionsDriftEntry(DriftEntry):
    """The horizon that differs most stands for all of them."""

    horizons: dict[str, DriftEntry]


class DriftAnswer(_Answer):
    """How the pupils of today differ from those the served model was trained on."""

    computed_at: str
    model_version: str
    verdict: Literal["insufficient_data", "stable", "drift"]
    rows: int = Field(description="Predictions looked at, the newest ones.")
    minimum_count: int
    minimum_distance: float
    significance: float
    features: dict[str, DriftEntry]
    predictions: PredictionsDriftEntry


class TrainRequest(_Request):
    """How to train; every field is optional."""

    wait: bool = True
    family: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] | None = None
    budget_seconds: (
        Annotated[
            float,
            Field(gt=0, le=86_400, allow_inf_nan=False),
        ]
        | None
    ) = Field(None, validation_alias=AliasChoices("budget_seconds", "budget"))


class TrainAnswer(_Answer):
    """A candidate, registered and not promoted."""

    status: Literal["ok"] = "ok"
    job_id: str
    best_model: str
    best_params: dict[str, Any]
    test_mae: float
    test_r2: float
    run_id: str
    model_name: str
    version: int
    duration_seconds: float
    dataset: dict[str, Any]


class JobAnswer(_Answer):
    """The state of a training."""

    job_id: str
    state: Literal["running", "done", "failed"]
    created_at: str
    finished_at: str | None
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None


class PromoteRequest(_Request):
    """Which version to promote; limits can only be tightened."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"version": 2, "alias": "meilleur", "max_mae": 1.0, "min_r2": 0.85}]
        }
    )

    version: int = Field(ge=1, le=MAX_ID)
    alias: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    max_mae: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    min_r2: Annotated[float, Field(le=1, allow_inf_nan=False)] | None = None
    reason: Reason | None = None
    fairness_override: Reason | None = Field(
        None, description="Why a fairness gap is accepted; recorded with the promotion."
    )


class PromoteAnswer(_Answer):
    """The version now served by every worker."""

    status: Literal["promoted"] = "promoted"
    model: str
    alias: str
    version: int
    previous_version: str | None
    mae: float
    r2: float
    evidence: dict[str, Any]
    workers_behind: int | None = Field(
        description="Workers of this machine that did not serve it within 2 s; null if unknown."
    )


class VersionAnswer(_Answer):
    """One registered version, served or not."""

    version: int
    created_at: str
    run_id: str | None
    best_model: str | None
    metrics: dict[str, float]
    dataset: dict[str, Any]
    alias: bool = Field(description="Whether MLflow's alias points to it.")
    served: bool


class EvidenceAnswer(_Answer):
    """What the gate would say of a version now."""

    version: int
    passed: bool
    mae: float
    r2: float
    conditions: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]


class RollbackRequest(_Request):
    """Why to go back."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "Too many false alarms in class 3B"}]}
    )

    reason: Reason


class RollbackAnswer(_Answer):
    """The version served again."""

    status: Literal["rolled_back"] = "rolled_back"
    version: str
    previous_version: str


class DeploymentRow(_Answer):
    """One promotion or rollback."""

    id: int
    at: str
    action: Literal["promote", "rollback", "adopt"]
    actor: str
    reason: str | None
    from_version: str | None
    to_version: str
    evidence: dict[str, Any]
    hash: str


class HealthAnswer(_Answer):
    """The state of the service; the HTTP status is 200 whatever it is."""

    status: Literal["ok", "degraded", "unavailable"]
    db_ok: bool
    model_loaded: bool
    model_version: str | None
    model_source: Literal["mlflow", "bento-store", "seed"] | None
    registry_ok: bool
    workers_behind: int | None = Field(
        description="Workers of this machine that do not serve the newest deployment; null while "
        "the database does not say which that is."
    )
    uptime_seconds: float
    synthetic_data: bool | None = Field(
        description="Whether the served model was trained on the synthetic sample."
    )


class ModelAnswer(_Answer):
    """The served version: what it expects, how good it is, what it was made from."""

    model_loaded: bool
    model_version: str | None
    model_source: str | None
    model_name: str
    alias: str
    expected_features: list[str]
    features: dict[str, Any]
    metrics: dict[str, Any]
    dataset: dict[str, Any]
    model_card: dict[str, Any]


class ErrorDetail(_Answer):
    """One particular of an error; validation problems carry `loc`, `msg` and `type`."""

    model_config = ConfigDict(extra="allow")


class ErrorAnswer(_Answer):
    """The one envelope of every error."""

    error: str
    message: str
    request_id: str
    details: list[ErrorDetail]
