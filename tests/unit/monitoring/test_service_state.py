"""The gauges of the running service, which alerts read."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import Gauge
from sqlalchemy import Engine, text

from student_success import __version__
from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError
from student_success.monitoring import service_state
from student_success.monitoring.service_state import ServiceState
from student_success.storage.deployments import Deployments
from student_success.storage.engine import database_bytes, writing


def value(gauge: Gauge, **labels: str) -> float | None:
    """Return the value of a gauge of this process."""
    for family in gauge.collect():
        for sample in family.samples:
            if sample.labels == labels:
                return sample.value
    return None


@pytest.fixture
def deployments(engine: Engine) -> Deployments:
    found = Deployments(engine)
    for version in "12":
        found.record(
            "promote", to_version=version, fingerprint="f", actor="a", reason=None, evidence={}
        )
    return found


def state(deployments: Deployments, folder: Path, *, behind: int = 0) -> ServiceState:
    champion = SimpleNamespace(behind=lambda: behind)
    settings = Settings(state_dir=folder, monitor_seconds=60)
    return ServiceState(settings, deployments, cast("Any", champion))


def test_measure_sets_size_workers_and_audit_log(deployments: Deployments, tmp_path: Path) -> None:
    state(deployments, tmp_path, behind=2).measure()
    assert value(metrics.database_up) == 1
    size = value(metrics.database_bytes)
    assert size is not None
    assert size > 10_000
    assert value(metrics.workers_behind) == 2
    assert value(metrics.audit_log_problems) == 0


def test_measure_counts_what_verify_finds_in_a_changed_audit_log(
    deployments: Deployments, tmp_path: Path
) -> None:
    with writing(deployments.engine) as connection:
        connection.execute(text("UPDATE deployments SET actor = 'nobody' WHERE id = 1"))
    state(deployments, tmp_path).measure()
    assert value(metrics.audit_log_problems) == 1


def test_measure_reads_the_audit_log_rarely(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def problems(_deployments: Deployments, folder: Path) -> list[str]:
        reads.append(folder)
        return []

    monkeypatch.setattr(service_state, "audit_log_problems", problems)
    measured = state(deployments, tmp_path)
    for _ in range(3):
        measured.measure()
    assert reads == [tmp_path]


def test_measure_reports_a_database_that_does_not_answer(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_engine: Engine) -> int:
        raise DatabaseUnavailableError("The database does not answer.")

    measured = state(deployments, tmp_path)
    monkeypatch.setattr(service_state, "database_bytes", fails)
    measured.measure()
    assert value(metrics.database_up) == 0
    monkeypatch.undo()
    measured.measure()
    assert value(metrics.database_up) == 1


@pytest.mark.parametrize("worker", [1, 2])
def test_worker_sets_start_memory_and_version(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: int
) -> None:
    measured: list[None] = []
    service = state(deployments, tmp_path)
    monkeypatch.setattr(service, "measure", lambda: measured.append(None))

    def is_done() -> bool:
        return bool(measured) if worker == 1 else memory() is not None

    def memory() -> float | None:
        return value(metrics.worker_memory_bytes, worker=str(worker))

    async def run() -> None:
        task = asyncio.create_task(service.run(worker))
        async with asyncio.timeout(30):
            while not is_done():
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(run())
    # One worker measures the whole server.
    assert len(measured) == (1 if worker == 1 else 0)
    assert value(metrics.build_info, version=__version__) == 1
    started = value(metrics.worker_start_time_seconds, worker=str(worker))
    assert started is not None
    assert started > 1.7e9
    resident = memory()
    assert resident is not None
    assert 1e7 < resident < 1e10


def test_gauges_of_killed_workers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    child = process.pid
    gone = [f"gauge_livemax_{child}.db", f"gauge_livemax_{child}-1.db"]
    kept = [
        f"gauge_livemax_{os.getpid()}.db",
        f"counter_{child}.db",
        f"gauge_mostrecent_{child}.db",
    ]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
    monkeypatch.setattr(metrics, "_FOLDER", str(tmp_path))
    metrics.remove_files_of_dead_workers()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_database_size_includes_the_log(engine: Engine) -> None:
    before = database_bytes(engine)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE filler (content TEXT)"))
        connection.execute(text("INSERT INTO filler VALUES (:text)"), {"text": "x" * 1_000_000})
    assert database_bytes(engine) > before
    if engine.dialect.name == "sqlite":
        assert database_bytes(engine) > before + 1_000_000
