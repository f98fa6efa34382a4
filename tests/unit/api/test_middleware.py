"""The middleware in front of applications that misbehave in ways BentoML should not."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from student_success.api.auth import Role
from student_success.api.endpoints import Endpoint
from student_success.api.middleware import ApiMiddleware
from student_success.api.request import RequestContext, current_request
from student_success.api.responses import catch_errors
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError
from student_success.domain.schemas.lifecycle import RollbackRequest

ENDPOINTS = (
    Endpoint("GET", "/open", "For everyone"),
    Endpoint("POST", "/open", "For everyone", body=RollbackRequest),
    Endpoint("GET", "/closed", "For administrators", role=Role.ADMIN),
)


def middleware(app: ASGIApp, handlers: Any = None, **settings: Any) -> ApiMiddleware:
    return ApiMiddleware(
        app,
        settings=Settings(**settings),
        endpoints=ENDPOINTS,
        closing=lambda: False,
        handlers=handlers or {},
    )


def request(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


def post(*headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/open",
        "headers": [(b"content-type", b"application/json"), *headers],
        "query_string": b"",
    }


def respond_with(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def raise_in_app(error: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def test_middleware_answers_generic_500_and_logs_request_id_when_the_application_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = middleware(raise_in_app(RuntimeError("a pupil's grade")))
    response = request(app, "GET", "/open", headers={"X-Request-Id": "r-1"})
    assert response.status_code == 500
    assert response.json() == {
        "error": "internal_error",
        "message": "Something went wrong on our side.",
        "request_id": "r-1",
        "details": [],
    }
    [record] = [r for r in caplog.records if r.message == "request_crashed"]
    assert record.__dict__["request_id"] == "r-1"
    assert record.exc_info is not None


@pytest.mark.parametrize(
    ("error", "status", "event"),
    [
        (DatabaseUnavailableError("away"), 503, "request_failed"),
        (RuntimeError("a secret"), 500, "request_crashed"),
    ],
)
def test_catch_errors_answers_envelope_and_logs_request_id(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, event: str
) -> None:
    @catch_errors
    async def method() -> None:
        raise error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await method()
        assert response is not None
        await response(scope, receive, send)

    response = request(middleware(app), "GET", "/open", headers={"X-Request-Id": "r-2"})
    assert response.status_code == status
    assert "secret" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"] == "r-2"
    [record] = [r for r in caplog.records if r.message == event]
    assert record.__dict__["request_id"] == "r-2"
    assert response.headers.get_list("x-request-id") == ["r-2"]


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [
        (400, 422, "validation_error"),
        (404, 404, "not_found"),
        (405, 422, "validation_error"),
        (416, 422, "validation_error"),
        (500, 500, "internal_error"),
        (503, 503, "model_unavailable"),
    ],
)
def test_middleware_replaces_foreign_error_by_envelope(
    status: int, answered: int, code: str
) -> None:
    app = middleware(respond_with(status, b"Traceback: secret", (b"content-type", b"text/plain")))
    response = request(app, "GET", "/open")
    assert response.status_code == answered
    assert response.json()["error"] == code
    assert "secret" not in response.text
    assert response.headers["content-type"] == "application/json"
    assert ("retry-after" in response.headers) == (answered == 503)


def test_security_headers_replace_those_of_the_application() -> None:
    app = middleware(respond_with(200, b"x", (b"Cache-Control", b"public"), (b"X-Other", b"1")))
    response = request(app, "GET", "/open")
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers["x-other"] == "1"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_middleware_returns_405_with_allowed_methods() -> None:
    response = request(middleware(respond_with(200)), "PATCH", "/open")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST, HEAD"


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/open", "/open"),
        ("/static_content/%0a%7B%22event%22:%22forged%22%7D", "/static_content/"),
        ("/%22%0aforged", "(unknown)"),
        ("/open/", "(unknown)"),
    ],
)
def test_access_log_shows_known_routes_and_never_client_input(
    capfd: pytest.CaptureFixture[str], path: str, shown: str
) -> None:
    app = middleware(respond_with(200), log_format="json")

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.request("BREW", path, headers={"X-Request-Id": 'x"\\n'})
            await client.get(path)
        app._access_log.flush()
        assert app._access_log._writing is not None
        await app._access_log._writing

    asyncio.run(run())
    written = lines(capfd)
    assert [line["path"] for line in written] == [shown, shown]
    assert [line["method"] for line in written] == ["(other)", "GET"]
    assert all(len(line["request_id"]) == 32 for line in written)


def test_chunked_body_is_refused_at_the_limit_and_read_no_further() -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1024

    app = middleware(respond_with(200), max_body_bytes=10 * 1024)

    async def run() -> list[Message]:
        sent: list[Message] = []
        stream = endless()

        async def receive() -> Message:
            chunk = await anext(stream)
            return {"type": "http.request", "body": chunk, "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(post(), receive, send)
        return sent

    sent = asyncio.run(run())
    assert sent[0]["status"] == 413
    assert taken == 11


def test_content_length_over_the_limit_is_refused_without_reading_the_body() -> None:
    app = middleware(respond_with(200), max_body_bytes=1024)

    async def run() -> int:
        async def receive() -> Message:
            raise AssertionError("the body was read")

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await app(post((b"content-length", b"1025")), receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(run()) == 413


def test_middleware_logs_no_error_when_the_client_disconnects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = middleware(respond_with(200))

    async def run() -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            raise AssertionError("nobody is there")

        await app(post(), receive, send)

    caplog.set_level(logging.WARNING)
    asyncio.run(run())
    assert not caplog.records


def test_body_can_be_read_again_behind_the_middleware() -> None:
    body = b'{"reason": "because"}'

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert (message["body"], message["more_body"]) == (body, False)
        assert isinstance(current_request().payload, RollbackRequest)
        await respond_with(200)(scope, receive, send)

    options = {"content": body, "headers": {"content-type": "application/json"}}
    assert request(middleware(app), "POST", "/open", **options).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_handler_answers_in_place_of_the_application(method: str) -> None:
    async def handler(context: RequestContext) -> Response:
        assert context is current_request()
        return PlainTextResponse("handled")

    app = middleware(raise_in_app(AssertionError("not called")), {("GET", "/open"): handler})
    response = request(app, method, "/open")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-length"] == "7"


def test_handler_error_becomes_the_envelope() -> None:
    async def handler(context: RequestContext) -> bytes:
        raise DatabaseUnavailableError("away")

    app = middleware(raise_in_app(AssertionError("not called")), {("GET", "/open"): handler})
    response = request(app, "GET", "/open")
    assert response.status_code == 503
    assert response.json()["error"] == "history_unavailable"
