"""The Bento service: the composition root, and one short method for each API."""

from __future__ import annotations

import logging
from typing import Any

import bentoml
from starlette.responses import JSONResponse, Response

from student_success.api.endpoints import ASSETS, RULES, NothingAsked
from student_success.api.get_routes import routes
from student_success.api.middleware import Call, Edge, answering, current_call
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.logging import configure
from student_success.core.metrics_buffer import tally
from student_success.core.settings import Settings
from student_success.core.subprocesses import die_with_parent
from student_success.domain import schemas
from student_success.domain.students import StudentFeatures
from student_success.server.bentoml_app import (
    Prepared,
    bound_host,
    freeze_heap,
    lean,
    listening_socket,
    stop_server,
    worker_index,
)
from student_success.server.graceful_shutdown import Drain
from student_success.server.supervisor import service_options
from student_success.services.lazy_application import LateApplication

logger = logging.getLogger("student_success.service")
settings = Settings()
application = LateApplication(settings)
drain = Drain(settings.drain_seconds)


class PredictInput(Prepared, StudentFeatures):
    """One pupil."""


class ExplainInput(Prepared, StudentFeatures):
    """One pupil."""


class BatchInput(Prepared, schemas.Students):
    """Up to 10,000 pupils."""


class HistoryInput(Prepared, schemas.HistoryQuery):
    """Which predictions to show."""


class OutcomesInput(Prepared, schemas.OutcomesRequest):
    """Grades really obtained."""


class TrainInput(Prepared, schemas.TrainRequest):
    """How to train."""


class PromoteInput(Prepared, schemas.PromoteRequest):
    """Which version to promote."""


class RollbackInput(Prepared, schemas.RollbackRequest):
    """Why to go back."""


class HealthInput(Prepared, NothingAsked):
    """Nothing."""


async def _predict(call: Call) -> bytes:
    assert isinstance(call.model, StudentFeatures)
    body, call.model_version = await application().inference.predict(
        call.model, session_id=call.session_id, idempotency=call.idempotency
    )
    return body


async def _predict_batch(call: Call) -> bytes:
    assert isinstance(call.model, schemas.Students)
    body, call.model_version = await application().inference.predict_batch(
        call.model.students, session_id=call.session_id, idempotency=call.idempotency
    )
    return body


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


@lean
@bentoml.service(**service_options(settings))
class StudentSuccess:
    """Predict a pupil's final grade, and keep the model's life under control."""

    def __init__(self) -> None:
        die_with_parent()
        configure(settings)

    @bentoml.on_startup
    async def open(self) -> None:
        """Open the database, load the served version, start following."""
        try:
            settings.check_exposure(bound_host(settings.host))
        except ConfigurationError as error:
            logger.critical(error.message)
            stop_server()
            raise
        application.open(leader=worker_index() == 1)
        drain.attend(listening_socket())
        freeze_heap()

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Commit what waits."""
        await application().close()
        tally.flush()

    async def __is_ready__(self) -> bool:
        try:
            drain.check()
            await application().check_ready()
        except UnavailableError as error:
            current_call().fault = error
            return False
        return True

    @bentoml.api(output_spec=schemas.PredictionAnswer)
    @answering
    async def predict(self, student: PredictInput, /) -> Any:
        """Predict one pupil's final grade."""
        return _json(await _predict(current_call()))

    @bentoml.api(output_spec=schemas.BatchAnswer)
    @answering
    async def predict_batch(self, students: BatchInput, /) -> Any:
        """Predict the grades of up to 10,000 pupils, all or none."""
        return _json(await _predict_batch(current_call()))

    @bentoml.api(output_spec=schemas.ExplainAnswer)
    @answering
    async def explain(self, student: ExplainInput, /) -> Any:
        """Say why a prediction is what it is, and what would change it."""
        return await application().explanations.explain(student)

    @bentoml.api
    @answering
    async def history(self, query: HistoryInput, /) -> list[dict[str, Any]]:
        """Show predictions, newest first."""
        # The edge let the caller in for the session it named, wherever it named it.
        return await application().history_page(
            query, session_id=query.session_id or current_call().asked_session
        )

    @bentoml.api(output_spec=schemas.OutcomesAnswer)
    @answering
    async def outcomes(self, request: OutcomesInput, /) -> Any:
        """Record the grades really obtained."""
        return await application().record_outcomes(request.outcomes)

    @bentoml.api(output_spec=schemas.TrainAnswer)
    @answering
    async def train(self, request: TrainInput, /) -> Any:
        """Train a candidate; the version served does not change."""
        status, answer = await application().train(request)
        return JSONResponse(answer, status_code=status)

    @bentoml.api(output_spec=schemas.PromoteAnswer)
    @answering
    async def promote(self, request: PromoteInput, /) -> Any:
        """Promote a version through the gate."""
        return await application().promote(request, actor=current_call().actor)

    @bentoml.api(output_spec=schemas.RollbackAnswer)
    @answering
    async def rollback(self, request: RollbackInput, /) -> Any:
        """Go back to the version served before."""
        return await application().rollback(request, actor=current_call().actor)

    @bentoml.api(output_spec=schemas.HealthAnswer)
    @answering
    async def health(self, nothing: HealthInput, /) -> Any:
        """Say how the service is, whatever the state."""
        return await application().health()


StudentSuccess.mount_asgi_app(routes(application), path="/")
StudentSuccess.add_asgi_middleware(
    Edge,
    settings=settings,
    closing=lambda: drain.begun,
    rules=RULES,
    prefixes=(ASSETS,),
    short_cuts={("POST", "/predict"): _predict, ("POST", "/predict_batch"): _predict_batch}
    if settings.short_cut
    else {},
)
