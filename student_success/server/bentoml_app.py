"""BentoML's server, shaped for this service.

BentoML builds its own stack of ASGI middleware around a service. Three of them are changed here, on
the list that Starlette keeps until the first request, without touching BentoML itself:

- the timeout middleware goes: it leaves a timer of a minute behind for every request, cannot be
  switched off by configuration, and would end a training that a client waits for;
- the tracing middleware goes where no exporter is configured: it costs a third of an empty request;
- the traffic middleware, which counts requests, learns which paths there are: as it stands it makes
  new time series for every path it is asked for, so a scanner could fill the memory. It also keeps
  the series it has found instead of looking them up four times a request.

All three are BentoML's own inner parts, as of 1.4; a test holds this file to the installed version.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Container
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any

import bentoml
from _bentoml_sdk import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from student_success.api.endpoints import ENDPOINTS
from student_success.api.request import current_request
from student_success.core.memory import give_back
from student_success.core.metrics_buffer import tally
from student_success.core.settings import Settings
from student_success.server import uvicorn_connection, uvicorn_response

UNKNOWN = "(unknown)"


@dataclass(slots=True)
class _Begun:
    """Series of requests begun on one endpoint, and how many are not ended."""

    last: Any
    in_progress: Any
    number: int = 0


class BoundedTraffic(RunnerTrafficMetricsMiddleware):  # type: ignore[misc]
    """BentoML's HTTP metrics, with a bounded `endpoint` label."""

    def __init__(self, app: ASGIApp, *, paths: Container[str], **options: Any) -> None:
        super().__init__(app, **options)
        self._paths = paths
        self._ended: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._begun: dict[str, _Begun] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and time one request."""
        if scope["type"] != "http" or scope["path"] == "/metrics":
            tally.flush()
            await self.app(scope, receive, send)
            return
        if not self._is_setup:
            self._setup()
        endpoint = scope["path"] if scope["path"] in self._paths else UNKNOWN
        begun = self._begun.get(endpoint) or self._begin(endpoint)
        tally.set(begun.last, time())
        started = perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body"):
                total, duration = self._ended.get((endpoint, status)) or self._end(endpoint, status)
                tally.count(total)
                tally.observe(duration, perf_counter() - started)
            await send(message)

        begun.number += 1
        tally.set(begun.in_progress, begun.number)
        try:
            await self.app(scope, receive, counted)
        finally:
            begun.number -= 1
            tally.set(begun.in_progress, begun.number)

    def _labels(self) -> dict[str, str]:
        return {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }

    def _begin(self, endpoint: str) -> _Begun:
        labels = self._labels()
        found = _Begun(
            self.metrics_last_request_timestamp.labels(**labels),
            self.metrics_request_in_progress.labels(endpoint=endpoint, **labels),
        )
        self._begun[endpoint] = found
        return found

    def _end(self, endpoint: str, status: int) -> tuple[Any, Any]:
        labels = {"endpoint": endpoint, "http_response_code": status, **self._labels()}
        found = (
            self.metrics_request_total.labels(**labels),
            self.metrics_request_duration.labels(**labels),
        )
        self._ended[endpoint, status] = found
        return found


class LeanService(Service[Any]):  # type: ignore[misc]
    """A Bento service whose ASGI stack is shaped as this module says."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> Any:
        """Build the ASGI application."""
        uvicorn_connection.install(Settings().request_seconds)
        uvicorn_response.install()
        app = super().to_asgi(is_main)
        known = {endpoint.path for endpoint in ENDPOINTS}
        app.user_middleware[:] = [
            _bounded(middleware, known)
            for middleware in app.user_middleware
            if middleware.cls is not TimeoutMiddleware
            and (middleware.cls is not OpenTelemetryMiddleware or _tracing())
        ]
        return app


def lean(service: Service[Any]) -> LeanService:
    """Turn a service into one that is served lean; the same object, with another class."""
    service.__class__ = LeanService
    return service  # type: ignore[no-any-return]


def _bounded(middleware: Middleware, known: Container[str]) -> Middleware:
    if middleware.cls is not RunnerTrafficMetricsMiddleware:
        return middleware
    return Middleware(BoundedTraffic, paths=known, **middleware.kwargs)  # type: ignore[arg-type]


def _tracing() -> bool:
    return bool(BentoMLContainer.tracing.exporter_type.get())


class Prepared(bentoml.IODescriptor):  # type: ignore[misc]
    """An input that the edge has read and validated already."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Describe the body without examples: `bentoml build` fails on that word."""
        schema: dict[str, Any] = super().model_json_schema(*arguments, **options)
        for described in (schema, *schema.get("$defs", {}).values()):
            described.pop("examples", None)
        return schema

    @classmethod
    async def from_http_request(cls, request: Any, serde: Any) -> Any:
        """Return the model that the edge made of the body."""
        return current_request().payload


def listening_socket() -> socket.socket | None:
    """Return the socket this worker accepts from, under a descriptor of its own."""
    try:
        descriptor = int(sys.argv[sys.argv.index("--fd") + 1])
        return socket.socket(fileno=os.dup(descriptor))
    except (ValueError, IndexError, OSError):
        return None


def bound_host(default: str) -> str:
    """Return the address this worker's socket listens on, whatever the command line said."""
    listening = listening_socket()
    if listening is None:
        return default
    with listening:
        host: str = listening.getsockname()[0]
        return host


def stop_server() -> None:
    """End the whole server, not only this worker, which would be started again for ever."""
    if server_context.worker_index:
        os.kill(os.getppid(), signal.SIGTERM)


def freeze_heap() -> None:
    """Take what was made at start out of garbage collection; call once all of it is made.

    It stays for ever, so a full collection need not look at it again, and must not stop requests
    for the 100 to 200 ms that takes. None is made first: it takes as long, and finds nothing.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    # Reading the model leaves tens of megabytes of it behind.
    give_back()


def worker_index() -> int:
    """Return this worker's number, from 1; 1 where there is only one process."""
    return server_context.worker_index or 1
