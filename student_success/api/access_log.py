"""The access log: one line for each request, rendered and written together off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from student_success.core import metrics
from student_success.core.clock import iso, now_us
from student_success.core.configuration.settings import Settings
from student_success.core.logging import console_renderer, wants_json

FLUSH_SECONDS = 0.1
STDERR = 2


class AccessLog:
    """Collect one entry for each request; write them to standard error ten times a second.

    An entry costs the request a microsecond, and a thread another one to render it as JSON. It
    does not use structlog's renderer for that, which takes twice as long and holds the interpreter
    meanwhile. Entries of the last tenth of a second are lost if the process is killed; predictions
    are not, they are committed before they are answered.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.log_level in ("DEBUG", "INFO")
        self._render: Callable[[dict[str, Any]], bytes] = (
            to_json if wants_json(settings) else _console_line_renderer()
        )
        self._entries: list[dict[str, Any]] = []
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
        trace_id: str | None = None,
    ) -> None:
        """Log one request.

        Parameters
        ----------
        method, path
            Known values or placeholders, never what the client sent.
        """
        if not self._enabled:
            return
        if not self._entries:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        entry = {
            "event": "request",
            "logger": "student_success.access",
            "level": "info",
            "timestamp": now_us(),
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "request_id": request_id,
            "model_version": model_version,
        }
        if trace_id is not None:
            entry["trace_id"] = trace_id
        self._entries.append(entry)

    def flush(self) -> None:
        """Write the entries in a thread, because the reader of standard error may be slow.

        While the previous write is not finished, entries are dropped and counted: memory is
        bounded, and requests do not wait for the log.
        """
        entries, self._entries = self._entries, []
        if self._writing is not None and not self._writing.done():
            metrics.access_log_lines_dropped_total.inc(len(entries))
            return
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, entries)

    def close(self) -> None:
        """Write the last entries now."""
        entries, self._entries = self._entries, []
        self._write(entries)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        lines = []
        for entry in entries:
            entry["timestamp"] = iso(entry["timestamp"])
            lines.append(self._render(entry) + b"\n")
        _write_all(b"".join(lines))


def _console_line_renderer() -> Callable[[dict[str, Any]], bytes]:
    render = console_renderer()
    return lambda entry: str(render(None, "info", entry)).encode()


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    # Requests must not fail because standard error is closed.
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(STDERR, view) :]
