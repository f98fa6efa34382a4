"""Log lines: JSON in production, readable in a terminal, no local variables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from student_success.core.paths import ROOT

SPEAK = """
import logging
from student_success.core.logging import configure
from student_success.core.configuration.settings import Settings
configure(Settings())
log = logging.getLogger("student_success.test")
log.debug("unseen")
log.info("hello", extra={"model_version": "3", "text": "é\\n{}"})
logging.getLogger("other.library").info("unseen")
logging.getLogger("other.library").warning("seen %s", "once")
logging.getLogger("bentoml").info("unseen")
def fail(grade):
    secret_local = grade
    raise RuntimeError("went wrong")
try:
    fail("a pupil's grade: 7.25")
except RuntimeError:
    log.exception("failed", extra={"request_id": "r-1"})
"""


def speak(**settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **settings},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def test_log_lines_are_json_without_terminal() -> None:
    lines = [json.loads(line) for line in speak().splitlines()]
    assert [line["event"] for line in lines] == ["hello", "seen once", "failed"]
    assert lines[0]["level"] == "info"
    assert lines[0]["logger"] == "student_success.test"
    assert lines[0]["model_version"] == "3"
    assert lines[0]["text"] == "é\n{}"
    assert lines[0]["timestamp"].endswith("Z")
    assert lines[2]["request_id"] == "r-1"
    assert "RuntimeError: went wrong" in lines[2]["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_traceback_omits_local_variables(form: str) -> None:
    said = speak(LOG_FORMAT=form)
    assert "went wrong" in said
    assert "7.25" not in said.replace('fail("a pupil\'s grade: 7.25")', "")


def test_log_level_follows_setting() -> None:
    lines = [json.loads(line)["event"] for line in speak(LOG_LEVEL="ERROR").splitlines()]
    assert lines == ["seen once", "failed"]


SPEAK_IN_A_SPAN = """
import logging
from opentelemetry.sdk.trace import TracerProvider
from student_success.core.logging import configure
from student_success.core.configuration.settings import Settings
configure(Settings())
log = logging.getLogger("student_success.test")
with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("request"):
    log.info("inside")
log.info("outside")
"""


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4318", ""])
def test_line_inside_a_span_names_its_trace_if_traces_are_sent(endpoint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPEAK_IN_A_SPAN],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    inside, outside = map(json.loads, done.stderr.splitlines())
    assert len(inside.get("trace_id", "")) == (32 if endpoint else 0)
    assert "trace_id" not in outside
