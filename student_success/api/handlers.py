"""The handlers that the middleware calls itself: GET and DELETE, and the two hot routes.

BentoML's API methods answer POST only, so the other methods are handled here. `/predict` and
`/predict_batch` are handled here too, because BentoML's wrapper takes longer than the prediction;
its API methods call the same functions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from student_success.api import openapi
from student_success.api.auth import Role
from student_success.api.endpoints import DeploymentsQuery, ErasureQuery, EvidenceQuery, JobQuery
from student_success.api.middleware import Handler, Route
from student_success.api.request import RequestContext
from student_success.api.validation import invalid_input
from student_success.core.configuration.names import INTERFACE_STARTED
from student_success.core.state_files import is_interface_running
from student_success.domain.schemas.history import HistoryQuery
from student_success.domain.schemas.prediction import Students
from student_success.domain.students import StudentFeatures
from student_success.services.lazy_application import LazyApplication

Query = TypeVar("Query", bound=BaseModel)


def make_handlers(application: LazyApplication) -> dict[Route, Handler]:
    """Return the handler of each route that the middleware answers itself."""

    async def predict(request: RequestContext) -> bytes:
        assert isinstance(request.payload, StudentFeatures)
        body, request.model_version = await application().prediction.predict(
            request.payload, session_id=request.session_id, idempotency=request.idempotency
        )
        return body

    async def predict_batch(request: RequestContext) -> bytes:
        assert isinstance(request.payload, Students)
        body, request.model_version = await application().prediction.predict_batch(
            request.payload.students, session_id=request.session_id, idempotency=request.idempotency
        )
        return body

    async def history(request: RequestContext) -> Response:
        query = _query(HistoryQuery, request)
        rows = await application().history.page(
            query, session_id=query.session_id, administrator=request.role is Role.ADMIN
        )
        return JSONResponse(rows)

    async def erase(request: RequestContext) -> Response:
        return JSONResponse(
            await application().history.erase(_query(ErasureQuery, request).session_id)
        )

    async def job(request: RequestContext) -> Response:
        job_id = _query(JobQuery, request).job_id
        return JSONResponse(await application().lifecycle.job(job_id))

    async def deployments(request: RequestContext) -> Response:
        evidence = _query(DeploymentsQuery, request).evidence
        return JSONResponse(await application().lifecycle.deployments(evidence=evidence))

    async def versions(_request: RequestContext) -> Response:
        return JSONResponse(await application().lifecycle.versions())

    async def evidence(request: RequestContext) -> Response:
        return JSONResponse(
            await application().lifecycle.evidence(_query(EvidenceQuery, request).version)
        )

    async def drift(_request: RequestContext) -> Response:
        return _json(await application().monitor.drift())

    async def model(_request: RequestContext) -> Response:
        return _json(application().lifecycle.model())

    async def health(_request: RequestContext) -> Response:
        return _json(await application().health.report())

    async def description(_request: RequestContext) -> Response:
        root = application.settings.root_path
        servers = {"servers": [{"url": root}]} if root else {}
        return JSONResponse(openapi.description() | servers)

    async def docs(_request: RequestContext) -> Response:
        return HTMLResponse(openapi.DOCS_PAGE)

    async def docs_script(_request: RequestContext) -> Response:
        return PlainTextResponse(openapi.DOCS_SCRIPT, media_type="text/javascript")

    async def home(request: RequestContext) -> Response:
        settings = application.settings
        docs = f"{settings.root_path}/docs"
        url = settings.ui_url or docs
        if INTERFACE_STARTED in os.environ and not is_interface_running(settings.state_dir):
            # Another program may listen on its port.
            url = docs
        if url.startswith("http://*:"):
            host = request.headers.get(b"host", b"localhost").decode("latin-1")
            url = url.replace("*", re.sub(r":\d*$", "", host), 1)
        return RedirectResponse(url)

    return {
        ("POST", "/predict"): predict,
        ("POST", "/predict_batch"): predict_batch,
        ("GET", "/history"): history,
        ("DELETE", "/history"): erase,
        ("GET", "/train"): job,
        ("GET", "/deployments"): deployments,
        ("GET", "/versions"): versions,
        ("GET", "/evidence"): evidence,
        ("GET", "/drift"): drift,
        ("GET", "/model"): model,
        ("GET", "/health"): health,
        ("GET", "/openapi.json"): description,
        ("GET", "/docs"): docs,
        ("GET", "/docs/start.js"): docs_script,
        ("GET", "/"): home,
        ("GET", "/ui"): home,
    }


def _query(model: type[Query], request: RequestContext) -> Query:
    """Validate the query string; its values are text."""
    values: Mapping[str, Any] = request.query
    if request.named_session is not None and "session_id" in model.model_fields:
        values = {**values, "session_id": request.named_session}
    try:
        return model.model_validate_strings(values)
    except ValidationError as error:
        raise invalid_input(error) from None


def _json(model: BaseModel) -> Response:
    return JSONResponse(model.model_dump(mode="json"))
