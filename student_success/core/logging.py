"""Logging: JSON lines in production, readable lines in a terminal."""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog

from student_success.core.configuration.settings import Settings


def wants_json(settings: Settings) -> bool:
    """Return whether log lines are written as JSON."""
    if settings.log_format == "auto":
        return not sys.stderr.isatty()
    return settings.log_format == "json"


def console_renderer() -> structlog.dev.ConsoleRenderer:
    """Return the renderer of lines for people."""
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _add_trace_id(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the id of the trace in which a line was logged."""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format_trace_id(context.trace_id)
    return event


def configure(settings: Settings) -> None:
    """Set up logging for this process; call once, at the start of a program."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        *([_add_trace_id] if settings.otel_exporter_otlp_endpoint else []),
    ]
    renderer: list[Any] = (
        # No local variables in tracebacks: they may hold pupils' values.
        [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
        if wants_json(settings)
        else [console_renderer()]
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *renderer,
                    ],
                }
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": "line",
                    "stream": "ext://sys.stderr",
                }
            },
            "root": {"handlers": ["stderr"], "level": "WARNING"},
            "loggers": {
                "student_success": {"level": settings.log_level},
                "training": {"level": settings.log_level},
                # Each port scan would log a line, without a limit.
                "uvicorn.error": {"level": "ERROR"},
                # BentoML's own handlers would print each line a second time.
                "bentoml": {"handlers": [], "propagate": True, "level": "WARNING"},
            },
        }
    )
