"""Adapt BentoML's server to this service.

BentoML builds a stack of ASGI middleware around a service. Three of them are changed here, in the
list that Starlette keeps until the first request; BentoML itself is not modified:

- The timeout middleware is removed: it leaves a timer of a minute behind for each request, cannot
  be disabled by configuration, and would end a training that a client waits for.
- The tracing middleware is removed unless an exporter is configured: it takes a third of the time
  of an empty request.
- The traffic middleware counts only known paths. BentoML's makes new time series for every path
  that a client sends, so a scanner could fill the memory. It also caches its series.

These are private parts of BentoML, see `docs/architecture.md`.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Container
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any

import bentoml
from _bentoml_sdk import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from student_success.api.endpoints import ENDPOINTS
from student_success.api.request import current_request
from student_success.core.configuration.settings import Settings
from student_success.core.memory import release_memory
from student_success.core.metrics import restore_lost_files
from student_success.core.metrics_buffer import metrics_buffer
from student_success.server import prometheus_histogram, uvicorn_connection

UNKNOWN_PATH = "(unknown)"


@dataclass(slots=True)
class EndpointMetrics:
    """The time series of one endpoint, looked up once.

    Attributes
    ----------
    completed
        By status: the counter of requests and the histogram of their durations.
    running
        Number of requests that are not answered yet.
    """

    last_request: Any
    in_progress: Any
    completed: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    running: int = 0


class BoundedTrafficMiddleware(RunnerTrafficMetricsMiddleware):  # type: ignore[misc]
    """BentoML's HTTP metrics with a bounded `endpoint` label.

    Parameters
    ----------
    paths
        Known values of the label.
    """

    def __init__(self, app: ASGIApp, *, paths: Container[str], **options: Any) -> None:
        super().__init__(app, **options)
        self._strip_root = Settings().strip_root
        self._paths = paths
        self._endpoints: dict[str, EndpointMetrics] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time one request."""
        if not self._is_setup:
            # When the worker starts: no request then needs a new file.
            self._setup()
        path = self._strip_root(scope["path"]) if scope["type"] == "http" else ""
        if path in ("", "/metrics"):
            restore_lost_files()
            metrics_buffer.flush()
            await self.app(scope, receive, send)
            return
        path = path if path in self._paths else UNKNOWN_PATH
        endpoint = self._endpoints.get(path) or self._add_endpoint(path)
        metrics_buffer.set(endpoint.last_request, time())
        started = perf_counter()
        status = 0

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body"):
                series = endpoint.completed.get(status) or self._add_status(path, status)
                total, duration = series
                metrics_buffer.count(total)
                metrics_buffer.observe(duration, perf_counter() - started)
            await send(message)

        endpoint.running += 1
        metrics_buffer.set(endpoint.in_progress, endpoint.running)
        try:
            await self.app(scope, receive, count)
        finally:
            endpoint.running -= 1
            metrics_buffer.set(endpoint.in_progress, endpoint.running)

    def _add_endpoint(self, path: str) -> EndpointMetrics:
        self._endpoints[path] = EndpointMetrics(
            self._labelled("metrics_last_request_timestamp"),
            self._labelled("metrics_request_in_progress", endpoint=path),
        )
        return self._endpoints[path]

    def _add_status(self, path: str, status: int) -> tuple[Any, Any]:
        labels = {"endpoint": path, "http_response_code": status}
        series = (
            self._labelled("metrics_request_total", **labels),
            self._labelled("metrics_request_duration", **labels),
        )
        self._endpoints[path].completed[status] = series
        return series

    def _labelled(self, metric: str, **labels: Any) -> Any:
        return getattr(self, metric).labels(
            service_name=server_context.bento_name,
            service_version=server_context.bento_version,
            runner_name=server_context.service_name,
            **labels,
        )


class LeanService(Service[Any]):  # type: ignore[misc]
    """A BentoML service with the ASGI stack that this module describes."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        """Build the ASGI application."""
        uvicorn_connection.install(Settings().request_seconds)
        prometheus_histogram.install()
        app = super().to_asgi(is_main)
        removed = {TimeoutMiddleware}
        if not BentoMLContainer.tracing.exporter_type.get():
            removed.add(OpenTelemetryMiddleware)
        app.user_middleware[:] = [
            _bounded(middleware)
            for middleware in app.user_middleware
            if middleware.cls not in removed
        ]
        return app


def lean(service: Service[Any]) -> LeanService:
    """Turn a BentoML service into a `LeanService`, in place."""
    service.__class__ = LeanService
    return service  # type: ignore[no-any-return]


def _bounded(middleware: Middleware) -> Middleware:
    if middleware.cls is not RunnerTrafficMetricsMiddleware:
        return middleware
    paths = {endpoint.path for endpoint in ENDPOINTS}
    return Middleware(BoundedTrafficMiddleware, paths=paths, **middleware.kwargs)  # type: ignore[arg-type]


def allow_origins(service: Service[Any], origins: str) -> None:
    """Let pages of these origins, separated by commas, call the service; none if empty."""
    if origins:
        service.add_asgi_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in origins.split(",")],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Session-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )


class ValidatedInput(bentoml.IODescriptor):  # type: ignore[misc]
    """The input of an API method, which the middleware has read and validated."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe the body without examples, because `bentoml build` fails on them."""
        schema: dict[str, Any] = super().model_json_schema(*arguments, **options)
        for definition in (schema, *schema.get("$defs", {}).values()):
            definition.pop("examples", None)
        return schema

    @classmethod
    async def from_http_request(cls, request: Any, serde: Any) -> Any:
        """Return the validated body."""
        return current_request().payload


def validated_input(model: type[BaseModel]) -> type[BaseModel]:
    """Return the input type of an API method whose body is validated as `model`."""
    return type(f"{model.__name__}Input", (ValidatedInput, model), {"__doc__": model.__doc__})


def listening_socket() -> socket.socket | None:
    """Return this worker's listening socket, under a file descriptor of its own."""
    try:
        descriptor = int(sys.argv[sys.argv.index("--fd") + 1])
        return socket.socket(fileno=os.dup(descriptor))
    except (ValueError, IndexError, OSError):
        return None


def bound_host(default: str) -> str:
    """Return the address that this worker listens on, whatever the setting is."""
    listener = listening_socket()
    if listener is None:
        return default
    with listener:
        host: str = listener.getsockname()[0]
        return host


def stop_server() -> None:
    """Stop the whole server: the supervisor would restart a worker that exits for ever."""
    if server_context.worker_index:
        os.kill(os.getppid(), signal.SIGTERM)


def freeze_heap() -> None:
    """Exclude the objects made at start from garbage collection; call when all are made.

    They live as long as the process, and a full collection of them takes 100 to 200 ms, during
    which no request is answered.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    # Loading the model leaves tens of megabytes of free memory behind.
    release_memory()


def worker_index() -> int:
    """Return this worker's number, from 1; 1 if there is only one process."""
    return server_context.worker_index or 1
