"""Logging: JSON lines in production, readable lines in a terminal; one line a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import logging.config
import os
import sys
from typing import Any

import structlog

from student_success.core.clock import iso, now_us
from student_success.core.settings import Settings

FLUSH_SECONDS = 0.1


def wants_json(settings: Settings) -> bool:
    """Tell whether log lines are to be JSON."""
    if settings.log_format == "auto":
        return not sys.stderr.isatty()
    return settings.log_format == "json"


def configure(settings: Settings) -> None:
    """Set up logging for this process; call once, at the start of a program."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    renderer: list[Any] = (
        # No local variables in tracebacks: they may hold pupils' values.
        [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
        if wants_json(settings)
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
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
                # It says little more than one line for each scan of the port, without a limit.
                "uvicorn.error": {"level": "ERROR"},
                # BentoML's own handlers would print each line a second time.
                "bentoml": {"handlers": [], "propagate": True, "level": "WARNING"},
            },
        }
    )


class AccessLog:
    """One line a request, gathered and written together: a line costs a microsecond or two.

    Lines of the last tenth of a second are lost with a killed process; predictions are not, they
    are in the history.
    """

    def __init__(self, settings: Settings) -> None:
        self._json = wants_json(settings)
        self._enabled = settings.log_level in ("DEBUG", "INFO")
        self._lines: list[str] = []
        self._writing: asyncio.Future[None] | None = None

    def write(
        self,
        *,
        method: str,
        path: str,
        status: int,
        seconds: float,
        request_id: str,
        model_version: str | None,
    ) -> None:
        """Note one request; `path` is a route of ours or ``"(unknown)"``, never what was sent."""
        if not self._enabled:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        milliseconds = seconds * 1000
        if self._json:
            version = json.dumps(model_version)
            self._lines.append(
                f'{{"event": "request", "logger": "student_success.access", "level": "info", '
                f'"timestamp": "{iso(now_us())}", "method": "{method}", "path": "{path}", '
                f'"status": {status}, "duration_ms": {milliseconds:.3f}, '
                f'"request_id": "{request_id}", "model_version": {version}}}\n'
            )
        else:
            self._lines.append(
                f"{iso(now_us())} [info     ] {method} {path} {status} {milliseconds:.2f} ms "
                f"request_id={request_id} model_version={model_version}\n"
            )

    def close(self) -> None:
        """Write the last lines, now."""
        lines, self._lines = self._lines, []
        _write_all("".join(lines).encode())

    def flush(self) -> None:
        """Write what was gathered, in a thread: whoever reads our standard error may be slow."""
        if self._writing is not None and not self._writing.done():
            self._lines.clear()
            return
        lines, self._lines = self._lines, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, _write_all, "".join(lines).encode())


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    # A closed standard error is no reason to fail requests.
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(2, view) :]
