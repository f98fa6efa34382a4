"""Bodies of the routes that train, compare, promote and roll back model versions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from student_success.domain.schemas.base import MAX_ID, Reason, RequestBody, ResponseBody, Timestamp


class TrainRequest(RequestBody):
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


class TrainAnswer(ResponseBody):
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


class TrainAccepted(ResponseBody):
    """A training that was started and runs on."""

    status: Literal["accepted"] = "accepted"
    job_id: str = Field(description="Ask `GET /train` for its state.")


class JobAnswer(ResponseBody):
    """The state of a training."""

    job_id: str
    state: Literal["running", "done", "failed"]
    created_at: Timestamp
    finished_at: Timestamp | None
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    error_code: str | None


class PromoteRequest(RequestBody):
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
    population_override: Reason | None = Field(
        None,
        description="Why pupils unlike those of the served version are accepted; recorded.",
    )
    allow_synthetic: bool = Field(
        False, description="Let a model of made-up data replace one of real pupils."
    )


class PromoteAnswer(ResponseBody):
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


class VersionAnswer(ResponseBody):
    """One registered version, served or not."""

    version: int
    created_at: Timestamp
    run_id: str | None
    best_model: str | None
    metrics: dict[str, float]
    dataset: dict[str, Any]
    alias: bool = Field(description="Whether MLflow's alias points to it.")
    served: bool


class GateCondition(ResponseBody):
    """One condition of the gate."""

    name: str = Field(description="What is measured, and where: a horizon, or a group.")
    passed: bool = Field(description="Whether the condition is met.")
    value: float | None = Field(description="The measured value; null if it was not measured.")
    limit: float | None = Field(description="The limit; null if the value has none.")
    compared: Literal["at_most", "at_least"] | None = Field(
        None,
        description="How `value` must lie to `limit`; null without a limit, where a test or a "
        "recorded reason decides, and for promotions recorded before this field existed.",
    )
    detail: str = Field(description="The condition in words.")


class GateComparison(ResponseBody):
    """One test of a version against another model on the same held-out pupils."""

    against: str = Field(description="The other model.")
    horizon: str = Field(description="Which period grades were known; `mean` of all of them.")
    skill: float | None = Field(description="1 - loss / loss of the other; above 0 is better.")
    t: float | None = Field(description="Corrected t statistic.")
    p_better: float | None = Field(description="p that it is no better than the other.")
    p_worse: float | None = Field(description="p that it is no worse than the other.")


class EvidenceAnswer(ResponseBody):
    """What the gate would say of a version now."""

    version: int
    passed: bool
    mae: float | None = Field(description="null if it could not be measured.")
    r2: float | None = Field(description="null if it could not be measured.")
    conditions: list[GateCondition]
    comparisons: list[GateComparison]


class RollbackRequest(RequestBody):
    """Why to go back."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "Too many false alarms in class 3B"}]}
    )

    reason: Reason


class RollbackAnswer(ResponseBody):
    """The version served again."""

    status: Literal["rolled_back"] = "rolled_back"
    version: str
    previous_version: str
    warnings: list[str] = Field(
        [],
        exclude_if=lambda warnings: not warnings,
        description="Why its figures may be too good: a feature that gives the outcome away, or no "
        "search for one. Absent if there is nothing to say.",
    )


class DeploymentRow(ResponseBody):
    """One promotion or rollback."""

    id: int
    at: Timestamp
    action: Literal["promote", "rollback", "adopt"]
    actor: str
    reason: str | None
    from_version: str | None
    to_version: str
    evidence: dict[str, Any] | None = Field(
        description="Conditions and figures of the decision; null with `evidence=false`."
    )
    hash: str


class ModelAnswer(ResponseBody):
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
    profile: dict[str, Any] = Field(
        description="Name, title, grade and periods of the school's profile; texts by language."
    )
