"""The BentoML service: puts the layers together, with one short method for each API."""

from __future__ import annotations

import gc
import logging
from typing import Any

# Imports create many objects and discard few: collections would take a tenth of the start.
gc.disable()

import bentoml
from starlette.responses import JSONResponse, Response

from student_success.server.checked_settings import settings_or_exit

# Before the imports that read the profile.
settings = settings_or_exit()

from student_success.api.auth import Role
from student_success.api.endpoints import ENDPOINTS, EmptyRequest
from student_success.api.handlers import make_handlers
from student_success.api.middleware import ApiMiddleware
from student_success.api.request import current_request
from student_success.api.responses import catch_errors
from student_success.core.configuration.bento_home import use_bento_store
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.logging import configure
from student_success.core.memory import garbage_collection_paused
from student_success.core.metrics_buffer import metrics_buffer
from student_success.core.state_files import protect
from student_success.core.subprocesses import die_with_parent
from student_success.domain.recorded_profile import claim_state_dir
from student_success.domain.schemas.history import HistoryQuery, OutcomesAnswer, OutcomesRequest
from student_success.domain.schemas.lifecycle import (
    PromoteAnswer,
    PromoteRequest,
    RollbackAnswer,
    RollbackRequest,
    TrainAnswer,
    TrainRequest,
)
from student_success.domain.schemas.monitoring import HealthAnswer
from student_success.domain.schemas.prediction import (
    BatchAnswer,
    ExplainAnswer,
    PredictionAnswer,
    Students,
)
from student_success.domain.students import StudentFeatures
from student_success.server.bentoml_app import (
    allow_origins,
    bound_host,
    freeze_heap,
    lean,
    listening_socket,
    stop_server,
    validated_input,
    worker_index,
)
from student_success.server.graceful_shutdown import GracefulShutdown
from student_success.server.supervisor import check_start_by_bentoml, service_options
from student_success.server.tracing import start_tracing, tracer
from student_success.services.lazy_application import LazyApplication

# Without this the next collection would go through every object that the imports made.
gc.freeze()
gc.enable()

logger = logging.getLogger("student_success.service")
# `bentoml serve` does not set it.
use_bento_store(settings)
application = LazyApplication(settings, tracer(settings))
handlers = make_handlers(application)
shutdown = GracefulShutdown(settings.drain_seconds)


StudentInput = validated_input(StudentFeatures)
BatchInput = validated_input(Students)
HistoryInput = validated_input(HistoryQuery)
OutcomesInput = validated_input(OutcomesRequest)
TrainInput = validated_input(TrainRequest)
PromoteInput = validated_input(PromoteRequest)
RollbackInput = validated_input(RollbackRequest)
HealthInput = validated_input(EmptyRequest)


async def call_handler(path: str) -> Response:
    """Answer with the handler that the middleware usually calls, see `make_handlers`."""
    return Response(await handlers["POST", path](current_request()), media_type="application/json")


@lean
@bentoml.service(**service_options(settings))
class StudentSuccess:
    """Predict a pupil's final grade, and manage the life cycle of the model."""

    def __init__(self) -> None:
        die_with_parent()
        configure(settings)
        protect(settings.state_dir)

    @bentoml.on_deployment
    def check() -> None:  # type: ignore[misc]
        """Check the start before any worker is started."""
        check_start_by_bentoml(settings)

    @bentoml.on_startup
    async def open(self) -> None:
        """Open the database, load the served version, and start to follow deployments."""
        try:
            settings.check_exposure(bound_host(settings.host))
            claim_state_dir(settings.state_dir)
        except ConfigurationError as error:
            logger.critical(error.message)
            stop_server()
            raise
        self._stop_tracing = start_tracing(settings)
        with garbage_collection_paused():
            application.open(worker=worker_index())
            shutdown.install(listening_socket())
            freeze_heap()

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Commit the predictions that wait for it, and publish the last metrics."""
        await application().close()
        metrics_buffer.flush()
        self._stop_tracing()

    async def __is_ready__(self) -> bool:
        try:
            shutdown.check()
            await application().health.check_ready()
        except UnavailableError as error:
            current_request().not_ready_error = error
            return False
        return True

    @bentoml.api(output_spec=PredictionAnswer)
    @catch_errors
    async def predict(self, student: StudentInput, /) -> Any:
        """Predict one pupil's final grade."""
        return await call_handler("/predict")

    @bentoml.api(output_spec=BatchAnswer)
    @catch_errors
    async def predict_batch(self, students: BatchInput, /) -> Any:
        """Predict the grades of up to 10,000 pupils, all or none."""
        return await call_handler("/predict_batch")

    @bentoml.api(output_spec=ExplainAnswer)
    @catch_errors
    async def explain(self, student: StudentInput, /) -> Any:
        """Explain a prediction, and what would change it."""
        return await application().explanation.explain(student)

    @bentoml.api
    @catch_errors
    async def history(self, query: HistoryInput, /) -> list[dict[str, Any]]:
        """List predictions, newest first."""
        # The session may be named in the header or the query as well; the middleware checked it.
        return await application().history.page(
            query,
            session_id=query.session_id or current_request().named_session,
            administrator=current_request().role is Role.ADMIN,
        )

    @bentoml.api(output_spec=OutcomesAnswer)
    @catch_errors
    async def outcomes(self, request: OutcomesInput, /) -> Any:
        """Record final grades."""
        return await application().history.record_outcomes(
            request.outcomes, actor=current_request().actor
        )

    @bentoml.api(output_spec=TrainAnswer)
    @catch_errors
    async def train(self, request: TrainInput, /) -> Any:
        """Train a candidate version; the served version does not change."""
        status, answer = await application().lifecycle.train(request)
        return JSONResponse(answer, status_code=status)

    @bentoml.api(output_spec=PromoteAnswer)
    @catch_errors
    async def promote(self, request: PromoteInput, /) -> Any:
        """Promote a version if it passes the gate."""
        return await application().lifecycle.promote(request, actor=current_request().actor)

    @bentoml.api(output_spec=RollbackAnswer)
    @catch_errors
    async def rollback(self, request: RollbackInput, /) -> Any:
        """Roll back to the version served before."""
        return await application().lifecycle.rollback(request, actor=current_request().actor)

    @bentoml.api(output_spec=HealthAnswer)
    @catch_errors
    async def health(self, nothing: HealthInput, /) -> Any:
        """Report the state of the service."""
        return await application().health.report()


# Before the middleware that refuses OPTIONS.
allow_origins(StudentSuccess, settings.cors_origins)
StudentSuccess.add_asgi_middleware(
    ApiMiddleware,
    settings=settings,
    endpoints=ENDPOINTS,
    closing=lambda: shutdown.started,
    handlers=handlers,
    tracer=tracer(settings),
)
