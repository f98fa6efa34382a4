"""The trace of a request: its span, and the trace id for the access log.

Spans have the route, the status, the request id and the model version. Nothing else of a request
is in them: no body, no query, no session, no address, no message of an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from student_success.api.request import RequestContext

NOT_TRACED = {"/livez", "/readyz", "/metrics"}
"""Requests of probes and of Prometheus."""
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_PROPAGATOR = TraceContextTextMapPropagator()


def sent_trace_id(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the trace id of the header ``traceparent``; None if it is absent or malformed."""
    value = headers.get(b"traceparent")
    found = value and _TRACEPARENT.fullmatch(value)
    return found[1].decode() if found else None


@contextmanager
def request_span(
    tracer: Tracer, method: str, route: str, request: RequestContext
) -> Iterator[Span]:
    """Record a request as a span, in the trace that the client names in ``traceparent``.

    Parameters
    ----------
    method, route
        Known values or placeholders, never what the client sent.
    """
    sent = {
        name: value.decode("latin-1")
        for name in ("traceparent", "tracestate")
        if (value := request.headers.get(name.encode())) is not None
    }
    with tracer.start_as_current_span(
        f"{method} {route}",
        context=_PROPAGATOR.extract(sent),
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": method,
            "http.route": route,
            "student_success.request_id": request.request_id,
        },
        # The message of an exception may contain values of a pupil.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        request.trace_id = format_trace_id(span.get_span_context().trace_id)
        yield span


def end_request(span: Span, status: int, model_version: str | None) -> None:
    """Record how a request was answered."""
    span.set_attribute("http.response.status_code", status)
    if model_version is not None:
        span.set_attribute("student_success.model_version", model_version)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
