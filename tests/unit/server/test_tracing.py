"""Tracing is off by default, and is refused in words where it cannot work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError
from student_success.core.paths import ROOT
from student_success.server.tracing import check_exporter, start_tracing, tracer

ENDPOINT = "http://127.0.0.1:4318"


def test_nothing_is_traced_by_default() -> None:
    settings = Settings()
    assert tracer(settings) is None
    check_exporter(settings)
    start_tracing(settings)()


def test_exporter_is_not_imported_by_default() -> None:
    code = (
        "import sys, service\n"
        "from student_success.server.tracing import start_tracing\n"
        "start_tracing(service.settings)\n"
        "sys.exit(any(name.startswith('opentelemetry.exporter') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0


def test_start_is_refused_without_the_packages_that_send_traces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(otel_exporter_otlp_endpoint=ENDPOINT)
    check_exporter(settings)

    def missing(_name: str) -> Any:
        raise ModuleNotFoundError

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(ConfigurationError, match="Install the extra `otel`"):
        check_exporter(settings)
