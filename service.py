"""The Bento service: the composition root, and one short method for each API."""

from __future__ import annotations

import logging
from typing import Any

import bentoml
from starlette.responses import JSONResponse, Response

from student_success.api.endpoints import ENDPOINTS, EmptyRequest
from student_success.api.handlers import make_handlers
from student_success.api.middleware import ApiMiddleware
from student_success.api.request import current_request
from student_success.api.responses import catch_errors
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
handlers = make_handlers(application)
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


class HealthInput(Prepared, EmptyRequest):
    """Nothing."""


async def handled(path: str) -> Response:
    """Answer a POST by the handler that the middleware would call."""
    return Response(await handlers["POST", path](current_request()), media_type="application/json")


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
            current_request().not_ready_error = error
            return False
        return True

    @bentoml.api(output_spec=schemas.PredictionAnswer)
    @catch_errors
    async def predict(self, student: PredictInput, /) -> Any:
        """Predict one pupil's final grade."""
        return await handled("/predict")

    @bentoml.api(output_spec=schemas.BatchAnswer)
    @catch_errors
    async def predict_batch(self, students: BatchInput, /) -> Any:
        """Predict the grades of up to 10,000 pupils, all or none."""
        return await handled("/predict_batch")

    @bentoml.api(output_spec=schemas.ExplainAnswer)
    @catch_errors
    async def explain(self, student: ExplainInput, /) -> Any:
        """Say why a prediction is what it is, and what would change it."""
        return await application().explanations.explain(student)

    @bentoml.api
    @catch_errors
    async def history(self, query: HistoryInput, /) -> list[dict[str, Any]]:
        """Show predictions, newest first."""
        # The edge let the caller in for the session it named, wherever it named it.
        return await application().history_page(
            query, session_id=query.session_id or current_request().named_session
        )

    @bentoml.api(output_spec=schemas.OutcomesAnswer)
    @catch_errors
    async def outcomes(self, request: OutcomesInput, /) -> Any:
        """Record the grades really obtained."""
        return await application().record_outcomes(request.outcomes)

    @bentoml.api(output_spec=schemas.TrainAnswer)
    @catch_errors
    async def train(self, request: TrainInput, /) -> Any:
        """Train a candidate; the version served does not change."""
        status, answer = await application().train(request)
        return JSONResponse(answer, status_code=status)

    @bentoml.api(output_spec=schemas.PromoteAnswer)
    @catch_errors
    async def promote(self, request: PromoteInput, /) -> Any:
        """Promote a version through the gate."""
        return await application().promote(request, actor=current_request().actor)

    @bentoml.api(output_spec=schemas.RollbackAnswer)
    @catch_errors
    async def rollback(self, request: RollbackInput, /) -> Any:
        """Go back to the version served before."""
        return await application().rollback(request, actor=current_request().actor)

    @bentoml.api(output_spec=schemas.HealthAnswer)
    @catch_errors
    async def health(self, nothing: HealthInput, /) -> Any:
        """Say how the service is, whatever the state."""
        return await application().health()


StudentSuccess.add_asgi_middleware(
    ApiMiddleware,
    settings=settings,
    endpoints=ENDPOINTS,
    closing=lambda: drain.begun,
    handlers=handlers,
)
