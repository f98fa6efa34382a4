"""A real server sends the trace of a prediction to a collector."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from student_success.domain.students import EXAMPLE
from tests.server import Server, free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SESSION = "session-of-the-traced-pupil"
REFERENCE = "reference-of-the-traced-pupil"
WAIT_SECONDS = 60.0
ATTRIBUTES = {
    *("http.request.method", "http.route", "http.response.status_code"),
    *("student_success.request_id", "student_success.model_version"),
}
"""All that the spans of a prediction say."""


class Collector:
    """Receive OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> dict[str, Span]:
        """Return the spans of `TRACE` by name."""
        return {
            span.name: span
            for body in list(self.bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.trace_id.hex() == TRACE
        }

    def service_names(self) -> set[str]:
        return {
            attribute.value.string_value
            for body in list(self.bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


def predict(server: Server) -> httpx.Response:
    return httpx.post(
        f"{server.url}/predict",
        json={**EXAMPLE, "reference": REFERENCE},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Session-Id": SESSION},
        timeout=30,
    )


def test_trace_leads_from_the_request_to_the_commit(tmp_path: Path, collector: Collector) -> None:
    server = Server(
        tmp_path / "state",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    server.start()
    try:
        assert predict(server).status_code == 200
        end = time.monotonic() + WAIT_SECONDS
        while "POST /predict" not in collector.spans() and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        server.stop()
    spans = collector.spans()
    assert set(spans) == {"POST /predict", "model.predict", "history.commit"}
    request = spans["POST /predict"]
    assert request.parent_span_id.hex() == PARENT
    for step in ("model.predict", "history.commit"):
        assert spans[step].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[step].start_time_unix_nano
        assert spans[step].end_time_unix_nano <= request.end_time_unix_nano
    assert collector.service_names() == {"student-success"}
    sent = b"".join(collector.bodies)
    for secret in (SESSION, REFERENCE, "127.0.0.1"):
        assert secret.encode() not in sent, secret
    assert {attribute.key for span in spans.values() for attribute in span.attributes} == ATTRIBUTES
    (line,) = (line for line in server.log_lines() if line.get("path") == "/predict")
    assert line["trace_id"] == TRACE


def test_server_answers_and_stops_while_the_collector_is_away(tmp_path: Path) -> None:
    server = Server(
        tmp_path / "state", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}"
    )
    server.start()
    process = server.process
    assert process is not None
    try:
        assert predict(server).status_code == 200
    finally:
        server.stop()
    assert process.returncode == 0
