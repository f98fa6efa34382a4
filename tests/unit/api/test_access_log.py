"""The access log: its lines, and that a slow reader costs neither memory nor time."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from student_success.api import access_log
from student_success.api.access_log import AccessLog
from student_success.core.configuration.settings import Settings
from student_success.core.metrics import access_log_lines_dropped_total


def write(log: AccessLog, **changed: Any) -> None:
    entry = {
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "seconds": 0.0012,
        "request_id": "r-1",
        "model_version": "3",
        **changed,
    }
    log.write(**entry)


async def flush(log: AccessLog) -> None:
    log.flush()
    assert log._writing is not None
    await log._writing


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_access_log_writes_one_line_a_request(
    capfd: pytest.CaptureFixture[str], log_format: str
) -> None:
    async def run() -> None:
        log = AccessLog(Settings(log_format=log_format))
        write(log)
        write(log, model_version=None, status=422)
        await flush(log)

    asyncio.run(run())
    first, second = capfd.readouterr().err.splitlines()
    if log_format == "json":
        line = json.loads(first)
        assert line.pop("timestamp").endswith("Z")
        assert line == {
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
        assert "[info     ] request" in first
        for part in ("POST", "/predict", "status=200", "duration_ms=1.2", "request_id=r-1"):
            assert part in first


def test_access_log_writes_without_being_flushed(capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        log = AccessLog(Settings(log_format="json"))
        write(log)
        while log._writing is None:
            await asyncio.sleep(0.01)
        await log._writing

    asyncio.run(run())
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_access_log_writes_nothing_when_log_level_is_warning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def run() -> None:
        log = AccessLog(Settings(log_level="WARNING"))
        write(log)
        assert not log._entries

    asyncio.run(run())
    assert capfd.readouterr().err == ""


def test_access_log_drops_and_counts_lines_while_the_reader_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader_is_back = threading.Event()
    written: list[bytes] = []

    def write_slowly(data: bytes) -> None:
        assert reader_is_back.wait(10)
        written.append(data)

    def dropped() -> float:
        return float(access_log_lines_dropped_total._value.get())

    monkeypatch.setattr(access_log, "_write_all", write_slowly)

    async def run() -> None:
        log = AccessLog(Settings(log_format="json"))
        before = dropped()
        write(log, request_id="first")
        log.flush()
        for _ in range(3):
            write(log, request_id="dropped")
        log.flush()
        assert dropped() == before + 3
        assert not log._entries
        reader_is_back.set()
        assert log._writing is not None
        await log._writing
        write(log, request_id="last")
        await flush(log)
        assert dropped() == before + 3

    asyncio.run(run())
    assert [json.loads(line)["request_id"] for line in written] == ["first", "last"]
