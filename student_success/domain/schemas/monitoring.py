"""Bodies of ``/drift`` and ``/health``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from student_success.domain.schemas.base import ResponseBody, Timestamp


class DriftEntry(ResponseBody):
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


class DriftAnswer(ResponseBody):
    """How the pupils of today differ from those the served model was trained on."""

    computed_at: Timestamp
    model_version: str
    verdict: Literal["insufficient_data", "stable", "drift"]
    rows: int = Field(description="Predictions looked at, the newest ones.")
    minimum_count: int
    minimum_distance: float
    significance: float
    features: dict[str, DriftEntry]
    predictions: PredictionsDriftEntry


class HealthAnswer(ResponseBody):
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
    ui_ok: bool | None = Field(
        None,
        exclude_if=lambda answers: answers is None,
        description="Whether the web interface answers; absent if `serve` did not start one, and "
        "while it may still be starting.",
    )
    uptime_seconds: float
    problems: list[str] = Field(
        description="Why the status is not `ok`, one sentence each; for people, not for programs."
    )
    synthetic_data: bool | None = Field(
        description="Whether the served model was trained on the synthetic sample."
    )
