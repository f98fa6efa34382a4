"""Send traces to an OpenTelemetry collector, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one.

BentoML can trace by itself, but its spans contain addresses and query strings, and its middleware
takes a third of the time of an empty request.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable

from opentelemetry import trace

import student_success
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
SERVICE_NAME = "student-success"
SHUTDOWN_SECONDS = 3.0
"""How long the end of a worker waits for the last spans to be sent."""


def tracer(settings: Settings) -> trace.Tracer | None:
    """Return the tracer of this process, which records once `start_tracing` was called."""
    return trace.get_tracer(SERVICE_NAME) if settings.otel_exporter_otlp_endpoint else None


def check_exporter(settings: Settings) -> None:
    """Refuse a start that asks for traces without the packages that send them.

    Raises
    ------
    ConfigurationError
        If the extra `otel` is not installed.
    """
    if not settings.otel_exporter_otlp_endpoint:
        return
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(EXPORTER) is not None:
            return
    raise ConfigurationError(
        "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but the packages that send them are not "
        "installed. Nothing was started. Install the extra `otel`, or remove the setting."
    )


def start_tracing(settings: Settings) -> Callable[[], None]:
    """Begin to send spans in the background; return what ends it."""
    if not settings.otel_exporter_otlp_endpoint:
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # A setting may come from `.env`; OpenTelemetry reads the environment alone.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otel_exporter_otlp_endpoint
    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE_NAME)
    provider = TracerProvider(
        resource=Resource.create({"service.version": student_success.__version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        # The exporter tries again and again while its collector is away.
        thread = threading.Thread(target=provider.shutdown, daemon=True, name="tracing-shutdown")
        thread.start()
        thread.join(SHUTDOWN_SECONDS)

    return stop
