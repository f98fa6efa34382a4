"""Every route of the contract, once: what the edge asks of it and what the docs say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from student_success.api.auth import Role
from student_success.api.middleware import Rule
from student_success.domain.schemas import (
    MAX_ID,
    BatchAnswer,
    DeploymentRow,
    DriftAnswer,
    ErasureAnswer,
    EvidenceAnswer,
    ExplainAnswer,
    HealthAnswer,
    HistoryQuery,
    HistoryRow,
    JobAnswer,
    ModelAnswer,
    OutcomesAnswer,
    OutcomesRequest,
    PredictionAnswer,
    PromoteAnswer,
    PromoteRequest,
    RollbackAnswer,
    RollbackRequest,
    SessionId,
    Students,
    TrainAnswer,
    TrainRequest,
    VersionAnswer,
    _Request,
)
from student_success.domain.students import StudentFeatures


class ErasureQuery(_Request):
    """Whose predictions to erase."""

    session_id: SessionId


class JobQuery(_Request):
    """Which training to look at; the newest if none is named."""

    job_id: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")


class EvidenceQuery(_Request):
    """Which version to judge."""

    version: int = Field(ge=1, le=MAX_ID)


class NothingAsked(_Request):
    """An empty object, or no body at all."""


ANYONE = Rule()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route.

    Attributes
    ----------
    query
        Model of the query parameters.
    answer
        Model of the answer; a tuple of one stands for a list of it; None for no JSON.
    errors
        Status codes of the envelope that can come, besides 401, 403, 413, 415, 422, 429 and 500.
    sessions
        Whether ``X-Session-Id`` (or ``?session_id=``) means something here.
    """

    method: str
    path: str
    summary: str
    rule: Rule = ANYONE
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | tuple[type[BaseModel]] | None = None
    errors: tuple[int, ...] = ()
    sessions: bool = False
    example: Any = None


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/predict",
        "Predict one pupil's final grade",
        Rule(Role.API, StudentFeatures),
        answer=PredictionAnswer,
        errors=(409, 503),
        sessions=True,
    ),
    Endpoint(
        "POST",
        "/predict_batch",
        "Predict the grades of up to 10,000 pupils, all or none",
        Rule(Role.API, Students, batch=True),
        answer=BatchAnswer,
        errors=(409, 503),
        sessions=True,
    ),
    Endpoint(
        "POST",
        "/explain",
        "Say why a prediction is what it is, and what would change it; nothing is kept",
        Rule(Role.API, StudentFeatures),
        answer=ExplainAnswer,
        errors=(503,),
    ),
    Endpoint(
        "GET",
        "/history",
        "Show a session's predictions, newest first; every session's to an administrator",
        Rule(Role.API, one_session=True),
        query=HistoryQuery,
        answer=(HistoryRow,),
        errors=(503,),
        sessions=True,
    ),
    Endpoint(
        "POST",
        "/history",
        "The same, asked for in the body",
        Rule(Role.API, HistoryQuery, optional_body=True, one_session=True),
        answer=(HistoryRow,),
        errors=(503,),
    ),
    Endpoint(
        "DELETE",
        "/history",
        "Erase a session's predictions and outcomes for good",
        Rule(Role.ADMIN),
        query=ErasureQuery,
        answer=ErasureAnswer,
        errors=(503,),
    ),
    Endpoint(
        "POST",
        "/outcomes",
        "Record the grades really obtained; repeated and conflicting ones are refused one by one",
        # Grades steer the next training: nobody records them without a token.
        Rule(Role.API, OutcomesRequest, batch=True, token=True),
        answer=OutcomesAnswer,
        errors=(503,),
    ),
    Endpoint(
        "GET",
        "/drift",
        "Tell how the pupils of today differ from those the model was trained on",
        answer=DriftAnswer,
        errors=(503,),
    ),
    Endpoint(
        "POST",
        "/train",
        "Train a candidate; the version served does not change",
        Rule(Role.ADMIN, TrainRequest, optional_body=True),
        answer=TrainAnswer,
        errors=(409, 503),
    ),
    Endpoint(
        "GET",
        "/train",
        "Tell how a training goes",
        Rule(Role.ADMIN),
        query=JobQuery,
        answer=JobAnswer,
        errors=(404, 503),
    ),
    Endpoint(
        "POST",
        "/promote",
        "Promote a version through the gate",
        Rule(Role.ADMIN, PromoteRequest),
        answer=PromoteAnswer,
        errors=(404, 409, 503),
    ),
    Endpoint(
        "POST",
        "/rollback",
        "Go back to the version served before",
        Rule(Role.ADMIN, RollbackRequest),
        answer=RollbackAnswer,
        errors=(409, 503),
    ),
    Endpoint(
        "GET",
        "/deployments",
        "Show promotions and rollbacks, newest first",
        Rule(Role.ADMIN),
        answer=(DeploymentRow,),
        errors=(503,),
    ),
    Endpoint(
        "GET",
        "/versions",
        "List the registered versions with their figures, newest first",
        Rule(Role.ADMIN),
        answer=(VersionAnswer,),
        errors=(503,),
    ),
    Endpoint(
        "GET",
        "/evidence",
        "Say what the gate would say of a version now; nothing changes",
        Rule(Role.ADMIN),
        query=EvidenceQuery,
        answer=EvidenceAnswer,
        errors=(404, 409, 503),
    ),
    Endpoint("GET", "/model", "Describe the version served", answer=ModelAnswer),
    Endpoint("GET", "/health", "Say how the service is, whatever the state", answer=HealthAnswer),
    Endpoint(
        "POST",
        "/health",
        "The same",
        Rule(body=NothingAsked, optional_body=True),
        answer=HealthAnswer,
    ),
    Endpoint("GET", "/livez", "Answer while the process lives"),
    Endpoint("GET", "/readyz", "Answer 200 while predictions can be answered", errors=(503,)),
    Endpoint("GET", "/metrics", "Prometheus metrics"),
    Endpoint("GET", "/docs", "This page"),
    Endpoint("GET", "/docs/start.js", "The script of this page"),
    Endpoint("GET", "/openapi.json", "This description, for programs"),
    Endpoint("GET", "/", "Send a browser to the web interface"),
    Endpoint("GET", "/ui", "Send a browser to the web interface"),
    Endpoint("GET", "/schema.json", "BentoML's description, for its own client"),
)

RULES: dict[tuple[str, str], Rule] = {
    (endpoint.method, endpoint.path): endpoint.rule for endpoint in ENDPOINTS
}

ASSETS = "/static_content/"
"""Where BentoML serves the files of its documentation page; ours uses them too."""
