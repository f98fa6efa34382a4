"""The table of routes: what each one requires of a request, and what OpenAPI says about it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field

from student_success.api.auth import Role
from student_success.domain.schemas import base, history, lifecycle, monitoring, prediction
from student_success.domain.students import StudentFeatures


class ErasureQuery(base.RequestBody):
    """Query of `DELETE /history`."""

    session_id: base.SessionId


class JobQuery(base.RequestBody):
    """Query of `GET /train`; the newest job if `job_id` is absent."""

    job_id: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")


class EvidenceQuery(base.RequestBody):
    """Query of `GET /evidence`."""

    version: int = Field(ge=1, le=base.MAX_ID)


class DeploymentsQuery(base.RequestBody):
    """Query of `GET /deployments`."""

    evidence: bool = Field(True, description="Whether each row has its evidence, about 15 KB.")


class EmptyRequest(base.RequestBody):
    """An empty JSON object, or no body."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route.

    Attributes
    ----------
    summary
        One line for OpenAPI.
    role
        Lowest role that may call it.
    body
        Model of the JSON body; None if the route reads no body.
    body_optional
        Whether an empty body stands for the model's defaults.
    large_body
        Whether the limit is `MAX_BATCH_BODY_BYTES` in place of `MAX_BODY_BYTES`.
    session_or_admin
        Whether the caller must name a session unless it is an administrator.
    token_required
        Whether `Role.API` needs a token even while `API_TOKEN` is not set.
    query
        Model of the query parameters.
    response
        Model of the JSON response; a tuple of one model for a list of it; None if not JSON.
    errors
        Possible status codes of errors, besides 400, 401, 403, 413, 415, 421, 422, 429 and 500.
    accepts_session
        Whether the header ``X-Session-Id`` or the query ``session_id`` names a session.
    """

    method: str
    path: str
    summary: str
    role: Role = Role.ANYONE
    body: type[BaseModel] | None = None
    body_optional: bool = False
    large_body: bool = False
    session_or_admin: bool = False
    token_required: bool = False
    query: type[BaseModel] | None = None
    response: type[BaseModel] | tuple[type[BaseModel]] | None = None
    errors: tuple[int, ...] = (503,)
    accepts_session: bool = False


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/predict",
        "Predict one pupil's final grade",
        role=Role.API,
        body=StudentFeatures,
        response=prediction.PredictionAnswer,
        errors=(409, 503),
        accepts_session=True,
    ),
    Endpoint(
        "POST",
        "/predict_batch",
        "Predict the grades of up to 10,000 pupils, all or none",
        role=Role.API,
        body=prediction.Students,
        large_body=True,
        response=prediction.BatchAnswer,
        errors=(409, 503),
        accepts_session=True,
    ),
    Endpoint(
        "POST",
        "/explain",
        "Explain a prediction and what would change it; nothing is stored",
        role=Role.API,
        body=StudentFeatures,
        response=prediction.ExplainAnswer,
    ),
    Endpoint(
        "GET",
        "/history",
        "List a session's predictions, newest first; all sessions for an administrator",
        role=Role.API,
        session_or_admin=True,
        query=history.HistoryQuery,
        response=(history.HistoryRow,),
        accepts_session=True,
    ),
    Endpoint(
        "POST",
        "/history",
        "The same, with the query in the body",
        role=Role.API,
        body=history.HistoryQuery,
        body_optional=True,
        session_or_admin=True,
        response=(history.HistoryRow,),
    ),
    Endpoint(
        "DELETE",
        "/history",
        "Erase a session's predictions and outcomes permanently",
        role=Role.ADMIN,
        query=ErasureQuery,
        response=history.ErasureAnswer,
    ),
    Endpoint(
        "POST",
        "/outcomes",
        "Record final grades; repeated and conflicting ones are rejected individually",
        # Outcomes are training data, so recording them always needs a token.
        role=Role.API,
        body=history.OutcomesRequest,
        large_body=True,
        token_required=True,
        response=history.OutcomesAnswer,
    ),
    Endpoint(
        "GET",
        "/drift",
        "Compare recent pupils with the training data",
        response=monitoring.DriftAnswer,
    ),
    Endpoint(
        "POST",
        "/train",
        "Train a candidate version; the served version does not change",
        role=Role.ADMIN,
        body=lifecycle.TrainRequest,
        body_optional=True,
        response=lifecycle.TrainAnswer,
        errors=(409, 503),
    ),
    Endpoint(
        "GET",
        "/train",
        "Show the state and progress of a training job",
        role=Role.ADMIN,
        query=JobQuery,
        response=lifecycle.JobAnswer,
        errors=(404, 503),
    ),
    Endpoint(
        "POST",
        "/promote",
        "Promote a version if it passes the gate",
        role=Role.ADMIN,
        body=lifecycle.PromoteRequest,
        response=lifecycle.PromoteAnswer,
        errors=(404, 409, 503),
    ),
    Endpoint(
        "POST",
        "/rollback",
        "Roll back to the version served before",
        role=Role.ADMIN,
        body=lifecycle.RollbackRequest,
        response=lifecycle.RollbackAnswer,
        errors=(409, 503),
    ),
    Endpoint(
        "GET",
        "/deployments",
        "List promotions and rollbacks, newest first",
        role=Role.ADMIN,
        query=DeploymentsQuery,
        response=(lifecycle.DeploymentRow,),
    ),
    Endpoint(
        "GET",
        "/versions",
        "List the registered versions with their metrics, newest first",
        role=Role.ADMIN,
        response=(lifecycle.VersionAnswer,),
    ),
    Endpoint(
        "GET",
        "/evidence",
        "Check a version against the gate without promoting it",
        role=Role.ADMIN,
        query=EvidenceQuery,
        response=lifecycle.EvidenceAnswer,
        errors=(404, 409, 503),
    ),
    Endpoint(
        "GET", "/model", "Describe the served version", response=lifecycle.ModelAnswer, errors=()
    ),
    Endpoint(
        "GET",
        "/health",
        "Report the state of the service; always 200",
        response=monitoring.HealthAnswer,
        errors=(),
    ),
    Endpoint(
        "POST",
        "/health",
        "The same",
        body=EmptyRequest,
        body_optional=True,
        response=monitoring.HealthAnswer,
        errors=(),
    ),
    Endpoint("GET", "/livez", "Answer 200 while the process is alive", errors=()),
    Endpoint("GET", "/readyz", "Answer 200 while predictions are possible"),
    Endpoint("GET", "/metrics", "Prometheus metrics", errors=()),
    Endpoint("GET", "/docs", "This page", errors=()),
    Endpoint("GET", "/docs/start.js", "The script of this page", errors=()),
    Endpoint("GET", "/openapi.json", "This description, for programs", errors=()),
    Endpoint("GET", "/", "Redirect a browser to the web interface", errors=()),
    Endpoint("GET", "/ui", "Redirect a browser to the web interface", errors=()),
    Endpoint("GET", "/schema.json", "BentoML's description, for its own client", errors=()),
)

STATIC_FILES = "/static_content/"
"""Where BentoML serves the files of Swagger UI, which our documentation page uses."""
