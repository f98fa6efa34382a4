"""Log lines: JSON in production, readable in a terminal, no local variables, one line a request."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from student_success.core.logging import AccessLog
from student_success.core.settings import ROOT, Settings

SPEAK = """
import logging
from student_success.core.logging import configure
from student_success.core.settings import Settings
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


def test_lines_are_json_where_no_terminal_reads_them() -> None:
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
def test_traceback_shows_no_local_variable(form: str) -> None:
    said = speak(LOG_FORMAT=form)
    assert "went wrong" in said
    assert "7.25" not in said.replace('fail("a pupil\'s grade: 7.25")', "")


def test_level_can_be_set() -> None:
    lines = [json.loads(line)["event"] for line in speak(LOG_LEVEL="ERROR").splitlines()]
    assert lines == ["seen once", "failed"]


def write(log: AccessLog, **changed: Any) -> None:
    line = {
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "seconds": 0.0012,
        "request_id": "r-1",
        "model_version": "3",
        **changed,
    }
    log.write(**line)


async def flushed(log: AccessLog) -> None:
    log.flush()
    assert log._writing is not None
    await log._writing


@pytest.mark.parametrize("form", ["json", "text"])
def test_request_is_one_line(capfd: pytest.CaptureFixture[str], form: str) -> None:
    async def work() -> None:
        log = AccessLog(Settings(log_format=form))
        write(log)
        write(log, model_version=None, status=422)
        await flushed(log)

    asyncio.run(work())
    first, second = capfd.readouterr().err.splitlines()
    if form == "json":
        found = json.loads(first)
        assert found.pop("timestamp").endswith("Z")
        assert found == {
            "event": "request",
            "logger": "student_success.access",
            "level": "info",
            "method": "POST",
            "path": "/predict",
            "status": 200,
            "duration_ms": 1.2,
            "request_id": "r-1",
            "model_version": "3",
        }
        assert json.loads(second)["model_version"] is None
    else:
        assert "POST /predict 200 1.20 ms request_id=r-1" in first


def test_lines_are_written_by_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        log = AccessLog(Settings(log_format="json"))
        write(log)
        while log._writing is None:
            await asyncio.sleep(0.01)
        await log._writing

    asyncio.run(work())
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_quiet_level_writes_no_requests(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        log = AccessLog(Settings(log_level="WARNING"))
        write(log)
        assert not log._lines

    asyncio.run(work())
    assert capfd.readouterr().err == ""
