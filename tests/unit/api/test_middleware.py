"""The edge in front of an application that misbehaves in ways a real one should not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from student_success.api.auth import Role
from student_success.api.middleware import (
    Edge,
    Message,
    Receive,
    Rule,
    Scope,
    Send,
    answering,
    current_call,
)
from student_success.core.errors import HistoryUnavailableError
from student_success.core.settings import Settings
from student_success.domain.schemas import RollbackRequest

App = Callable[[Scope, Receive, Send], Awaitable[None]]
RULES = {
    ("GET", "/open"): Rule(),
    ("POST", "/open"): Rule(body=RollbackRequest),
    ("GET", "/closed"): Rule(Role.ADMIN),
}


def edge(app: App, **settings: Any) -> Edge:
    return Edge(
        app,
        settings=Settings(**settings),
        closing=lambda: False,
        rules=RULES,
        prefixes=("/files/",),
    )


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asked())


def post(*headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/open",
        "headers": [(b"content-type", b"application/json"), *headers],
        "query_string": b"",
    }


def answering_with(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def raising(error: Exception) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def test_crash_is_a_generic_500_whose_details_are_logged_under_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = edge(raising(RuntimeError("a pupil's grade")))
    answer = ask(app, "GET", "/open", headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 500
    assert answer.json() == {
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
        (HistoryUnavailableError("away"), 503, "request_failed"),
        (RuntimeError("a secret"), 500, "request_crashed"),
    ],
)
def test_method_may_raise_anything_and_the_log_names_the_request(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, event: str
) -> None:
    @answering
    async def method() -> None:
        raise error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await method()
        assert response is not None
        await response(scope, receive, send)

    answer = ask(edge(app), "GET", "/open", headers={"X-Request-Id": "r-2"})
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "r-2"
    [record] = [r for r in caplog.records if r.message == event]
    assert record.__dict__["request_id"] == "r-2"
    assert answer.headers.get_list("x-request-id") == ["r-2"]


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, 422, "validation_error"),
        (404, 404, "not_found"),
        (405, 422, "validation_error"),
        (416, 422, "validation_error"),
        (500, 500, "internal_error"),
        (503, 503, "model_unavailable"),
    ],
)
def test_error_that_is_not_ours_gets_the_envelope_and_loses_its_text(
    status: int, told: int, code: str
) -> None:
    app = edge(answering_with(status, b"Traceback: secret", (b"content-type", b"text/plain")))
    answer = ask(app, "GET", "/open")
    assert answer.status_code == told
    assert answer.json()["error"] == code
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (told == 503)


def test_headers_of_ours_stand_once_and_cannot_be_loosened() -> None:
    app = edge(answering_with(200, b"x", (b"Cache-Control", b"public"), (b"X-Other", b"1")))
    answer = ask(app, "GET", "/open")
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["x-other"] == "1"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_other_method_is_told_which_are_allowed() -> None:
    answer = ask(edge(answering_with(200)), "PATCH", "/open")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST, HEAD"


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/open", "/open"),
        ("/files/%0a%7B%22event%22:%22forged%22%7D", "/files/"),
        ("/%22%0aforged", "(unknown)"),
        ("/open/", "(unknown)"),
    ],
)
def test_access_log_shows_routes_and_never_what_was_sent(
    capfd: pytest.CaptureFixture[str], path: str, shown: str
) -> None:
    app = edge(answering_with(200), log_format="json")

    async def asked() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.request("BREW", path, headers={"X-Request-Id": 'x"\\n'})
            await client.get(path)
        app._log.flush()
        assert app._log._writing is not None
        await app._log._writing

    asyncio.run(asked())
    written = lines(capfd)
    assert [line["path"] for line in written] == [shown, shown]
    assert [line["method"] for line in written] == ["(other)", "GET"]
    assert all(len(line["request_id"]) == 32 for line in written)


def test_long_chunked_body_is_refused_at_the_limit_and_read_no_further() -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1024

    app = edge(answering_with(200), max_body_bytes=10 * 1024)

    async def asked() -> list[Message]:
        sent: list[Message] = []
        stream = endless()

        async def receive() -> Message:
            chunk = await anext(stream)
            return {"type": "http.request", "body": chunk, "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(post(), receive, send)
        return sent

    sent = asyncio.run(asked())
    assert sent[0]["status"] == 413
    assert taken == 11


def test_length_over_the_limit_is_refused_without_reading_anything() -> None:
    app = edge(answering_with(200), max_body_bytes=1024)

    async def asked() -> int:
        async def receive() -> Message:
            raise AssertionError("the body was read")

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await app(post((b"content-length", b"1025")), receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(asked()) == 413


def test_client_that_hangs_up_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    app = edge(answering_with(200))

    async def asked() -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            raise AssertionError("nobody is there")

        await app(post(), receive, send)

    caplog.set_level(logging.WARNING)
    asyncio.run(asked())
    assert not caplog.records


def test_body_read_by_the_edge_can_be_read_again_behind_it() -> None:
    body = b'{"reason": "because"}'

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert (message["body"], message["more_body"]) == (body, False)
        assert isinstance(current_call().model, RollbackRequest)
        await answering_with(200)(scope, receive, send)

    options = {"content": body, "headers": {"content-type": "application/json"}}
    assert ask(edge(app), "POST", "/open", **options).status_code == 200
