"""The routes that BentoML's API methods cannot be: GET and DELETE."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from student_success.api import openapi
from student_success.api.endpoints import ErasureQuery, EvidenceQuery, JobQuery
from student_success.api.middleware import answering, current_call, json_answer
from student_success.api.validation import invalid
from student_success.domain.schemas import HistoryQuery
from student_success.services.lazy_application import LateApplication

Query = TypeVar("Query", bound=BaseModel)
Handler = Callable[[], Awaitable[Response]]


def _asked(model: type[Query]) -> Query:
    """Read the query string as a model; numbers come as text there."""
    call = current_call()
    values = dict(call.query)
    if call.asked_session is not None and "session_id" in model.model_fields:
        values["session_id"] = call.asked_session
    try:
        return model.model_validate_strings(values)
    except ValidationError as error:
        raise invalid(error) from None


def routes(application: LateApplication) -> Starlette:
    """Make the ASGI application of these routes."""

    async def history() -> Response:
        query = _asked(HistoryQuery)
        return json_answer(await application().history_page(query, session_id=query.session_id))

    async def erase() -> Response:
        return json_answer(await application().erase(_asked(ErasureQuery).session_id))

    async def job() -> Response:
        job_id = _asked(JobQuery).job_id
        return json_answer(await asyncio.to_thread(application().jobs.get, job_id))

    async def deployments() -> Response:
        return json_answer(await application().deployments_page())

    async def versions() -> Response:
        return json_answer(await application().versions())

    async def evidence() -> Response:
        return json_answer(await application().evidence(_asked(EvidenceQuery).version))

    async def drift() -> Response:
        return json_answer((await application().drift()).model_dump(mode="json"))

    async def model() -> Response:
        return json_answer(application().model().model_dump(mode="json"))

    async def health() -> Response:
        return json_answer((await application().health()).model_dump(mode="json"))

    async def description() -> Response:
        return JSONResponse(openapi.description())

    async def docs() -> Response:
        return HTMLResponse(openapi.DOCS_PAGE)

    async def docs_script() -> Response:
        return PlainTextResponse(openapi.DOCS_SCRIPT, media_type="text/javascript")

    async def home() -> Response:
        return RedirectResponse(application.settings.ui_url or "/docs")

    return Starlette(
        routes=[
            _route("/history", history),
            _route("/history", erase, method="DELETE"),
            _route("/train", job),
            _route("/deployments", deployments),
            _route("/versions", versions),
            _route("/evidence", evidence),
            _route("/drift", drift),
            _route("/model", model),
            _route("/health", health),
            _route("/openapi.json", description),
            _route("/docs", docs),
            _route("/docs/start.js", docs_script),
            _route("/", home),
            _route("/ui", home),
        ]
    )


def _route(path: str, handler: Handler, *, method: str = "GET") -> Route:
    guarded = answering(handler)

    async def endpoint(_request: Request) -> Response:
        return await guarded()

    return Route(path, endpoint, methods=[method], name=f"{method.lower()}_{handler.__name__}")
