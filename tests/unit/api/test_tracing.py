"""Spans of requests, and the trace id in the access log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
from starlette.responses import PlainTextResponse

from student_success.api.middleware import ApiMiddleware
from student_success.api.request import RequestContext
from student_success.api.tracing import sent_trace_id
from student_success.core.configuration.settings import Settings
from tests.unit.api.test_middleware import ENDPOINTS, request, respond_with

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECRET = "pupil-of-the-test"


async def answer(context: RequestContext) -> PlainTextResponse:
    context.model_version = "7"
    return PlainTextResponse("ok")


async def fail(_context: RequestContext) -> PlainTextResponse:
    raise RuntimeError(SECRET)


def traced(handler: Any, **tracing: Any) -> ApiMiddleware:
    return ApiMiddleware(
        respond_with(200),
        settings=Settings(log_format="json"),
        endpoints=ENDPOINTS,
        closing=lambda: False,
        handlers={("GET", "/open"): handler},
        **tracing,
    )


def spans_of(handler: Any, path: str, **options: Any) -> list[ReadableSpan]:
    """Return the spans of one request."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    request(traced(handler, tracer=provider.get_tracer("test")), "GET", path, **options)
    return list(exporter.get_finished_spans())


def test_span_names_route_status_and_version_in_the_trace_of_the_client() -> None:
    headers = {"traceparent": TRACEPARENT, "X-Request-Id": "r-1"}
    (span,) = spans_of(answer, "/open", headers=headers)
    assert (span.name, span.kind) == ("GET /open", SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert format_trace_id(span.context.trace_id) == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/open",
        "http.response.status_code": 200,
        "student_success.request_id": "r-1",
        "student_success.model_version": "7",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_trace_that_the_client_does_not_record_is_not_recorded() -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert spans_of(answer, "/open", headers=headers) == []


@pytest.mark.parametrize(
    ("handler", "path"),
    [(fail, "/open"), (answer, f"/{SECRET}"), (answer, f"/open?session_id={SECRET}")],
)
def test_span_contains_nothing_that_the_client_or_an_error_says(handler: Any, path: str) -> None:
    headers = {"X-Session-Id": SECRET, "baggage": f"name={SECRET}", "User-Agent": SECRET}
    (span,) = spans_of(handler, path, headers=headers)
    assert SECRET not in span.to_json()
    assert not span.events
    if handler is fail:
        assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_are_not_traced(path: str) -> None:
    assert spans_of(answer, path) == []


def access_log_line(log: str) -> dict[str, Any]:
    # Threads of earlier tests may write to standard error too.
    (line,) = (line for line in log.splitlines() if '"student_success.access"' in line)
    return dict(json.loads(line))


@pytest.mark.parametrize("records", [True, False])
def test_access_log_names_the_trace_of_the_client(
    capfd: pytest.CaptureFixture[str], records: bool
) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test") if records else None
    app = traced(answer, tracer=tracer)
    request(app, "GET", "/open", headers={"traceparent": TRACEPARENT})
    app._access_log.close()
    assert access_log_line(capfd.readouterr().err)["trace_id"] == TRACE


def test_access_log_has_no_trace_id_without_a_trace(capfd: pytest.CaptureFixture[str]) -> None:
    app = traced(answer)
    request(app, "GET", "/open")
    app._access_log.close()
    assert "trace_id" not in access_log_line(capfd.readouterr().err)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"x" * 10_000,
        f"00-{'0' * 32}-{PARENT}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE.upper()}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-01\n".encode(),
    ],
)
def test_malformed_traceparent_is_ignored(header: bytes) -> None:
    assert sent_trace_id({b"traceparent": header}) is None
