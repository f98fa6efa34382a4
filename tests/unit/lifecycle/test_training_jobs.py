"""Training jobs: one at a time, always with an end on record."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from student_success.core import subprocesses
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    BusyError,
    DatasetError,
    InvalidInputError,
    NotFoundError,
    StudentSuccessError,
    TrainingFailedError,
)
from student_success.core.subprocesses import ChildFailure
from student_success.domain.schemas.lifecycle import TrainRequest
from student_success.lifecycle.training_jobs import TrainingJobs
from student_success.storage.engine import connect, writing
from student_success.storage.jobs import JobTable
from student_success.storage.locks import Operation, exclusive
from student_success.storage.tables import jobs as table
from tests.databases import locked

RESULT = {
    "best_model": "boosting",
    "best_params": {},
    "test_mae": 0.9,
    "test_r2": 0.85,
    "run_id": "r",
    "model_name": "m",
    "version": 3,
    "duration_seconds": 1.0,
    "dataset": {},
}
Child = Callable[..., Any]


@pytest.fixture
def jobs(engine: Engine, tmp_path: Path) -> TrainingJobs:
    return TrainingJobs(Settings(state_dir=tmp_path), JobTable(engine))


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[Child], list[tuple[str, ...]]]:
    """Return a function that puts something else in the place of the training process."""

    def replace(replacement: Child) -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        async def run(*arguments: str, **options: Any) -> dict[str, Any]:
            asked.append(arguments)
            found: dict[str, Any] = await replacement(**options)
            return found

        monkeypatch.setattr(subprocesses, "run", run)
        return asked

    return replace


async def succeed(**_: Any) -> dict[str, Any]:
    return dict(RESULT)


def failing(error: BaseException) -> Child:
    async def fail(**_: Any) -> dict[str, Any]:
        raise error

    return fail


async def train(jobs: TrainingJobs, **request: Any) -> tuple[str, dict[str, Any]]:
    job_id, task = await jobs.start(TrainRequest(**request), champion=Path("/seed"))
    return job_id, await task


def test_training_ends_with_its_answer_on_record(jobs: TrainingJobs, child: Any) -> None:
    asked = child(succeed)
    job_id, answer = asyncio.run(train(jobs, family="boosting", budget_seconds=5.0))
    assert answer == {
        "status": "ok",
        "job_id": job_id,
        **RESULT,
    }
    [arguments] = asked
    assert arguments[:3] == ("-m", "training", "run")
    assert set(arguments[3:]) == {
        "--champion=/seed",
        "--family=boosting",
        "--budget-seconds=5.0",
    }
    job = jobs.get(job_id)
    assert job["state"] == "done"
    assert job["result"] == answer
    assert job["error"] is None
    assert job["error_code"] is None
    assert job["created_at"] <= job["finished_at"]
    assert jobs.get(None)["job_id"] == job_id


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (
            ChildFailure("was killed by SIGKILL"),
            TrainingFailedError,
            "The training was killed by SIGKILL.",
        ),
        (DatasetError("Bad cells."), DatasetError, "Bad cells."),
        (TrainingFailedError("No memory."), TrainingFailedError, "No memory."),
    ],
)
def test_failure_is_told_and_recorded_and_frees_the_lock(
    jobs: TrainingJobs, child: Any, error: Exception, told: type[StudentSuccessError], words: str
) -> None:
    child(failing(error))
    with pytest.raises(told) as caught:
        asyncio.run(train(jobs))
    assert caught.value.message == words
    job = jobs.get(None)
    code = told.code
    assert (job["state"], job["error"], job["error_code"]) == ("failed", words, code)
    assert job["result"] is None
    assert job["finished_at"] is not None
    child(succeed)
    asyncio.run(train(jobs))


def test_unexpected_failure_is_logged_and_its_text_is_not_shown(
    jobs: TrainingJobs, child: Any, caplog: pytest.LogCaptureFixture
) -> None:
    child(failing(OSError(12, "Cannot allocate memory")))
    with pytest.raises(OSError, match="allocate"):
        asyncio.run(train(jobs))
    job = jobs.get(None)
    assert (job["state"], job["error"]) == ("failed", "The training failed; the log says why.")
    assert "Cannot allocate memory" in caplog.text


def test_training_is_refused_with_a_budget_above_the_time_limit(
    jobs: TrainingJobs, child: Any
) -> None:
    asked = child(None)
    request = TrainRequest(budget_seconds=Settings().train_timeout_seconds + 1)
    with pytest.raises(InvalidInputError, match="No training was started"):
        asyncio.run(jobs.start(request, champion=None))
    assert asked == []


def test_second_training_is_refused_while_one_runs(jobs: TrainingJobs, child: Any) -> None:
    async def work() -> None:
        go = asyncio.Event()

        async def wait(**_: Any) -> dict[str, Any]:
            await go.wait()
            return dict(RESULT)

        child(wait)
        first, task = await jobs.start(TrainRequest(), champion=Path("/seed"))
        assert jobs.get(first)["state"] == "running"
        refused = await asyncio.gather(*(train(jobs) for _ in range(16)), return_exceptions=True)
        assert {type(error) for error in refused} == {BusyError}
        assert jobs.get(None)["job_id"] == first
        go.set()
        await task

    asyncio.run(work())


def test_training_is_refused_while_a_promotion_runs(
    jobs: TrainingJobs, engine: Engine, child: Any, tmp_path: Path
) -> None:
    child(succeed)
    with (
        exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path),
        pytest.raises(BusyError),
    ):
        asyncio.run(train(jobs))
    with pytest.raises(NotFoundError):
        jobs.get(None)


def test_stopping_the_server_ends_the_training_and_says_so(jobs: TrainingJobs, child: Any) -> None:
    async def work() -> None:
        begun = asyncio.Event()

        async def hang(**_: Any) -> dict[str, Any]:
            begun.set()
            await asyncio.Event().wait()
            return {}

        child(hang)
        await jobs.start(TrainRequest(), champion=Path("/seed"))
        await asyncio.wait_for(begun.wait(), 10)
        await jobs.close()

    asyncio.run(work())
    job = jobs.get(None)
    assert job["state"] == "failed"
    assert "stopped" in job["error"]


def test_end_of_a_training_waits_for_the_database(
    database_url: str, tmp_path: Path, child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("student_success.lifecycle.training_jobs.PROGRESS_SECONDS", 0.05)
    engine = connect(database_url, busy_seconds=0.05)
    jobs = TrainingJobs(Settings(state_dir=tmp_path), JobTable(engine))

    async def work() -> None:
        with contextlib.ExitStack() as away:

            async def end_while_away(**_: Any) -> dict[str, Any]:
                away.enter_context(locked(database_url))
                return dict(RESULT)

            child(end_while_away)
            _, task = await jobs.start(TrainRequest(), champion=Path("/seed"))
            await asyncio.sleep(0.5)
            assert not task.done()
            away.close()
            await asyncio.wait_for(task, 10)

    asyncio.run(work())
    assert jobs.get(None)["state"] == "done"
    engine.dispose()


def test_client_that_goes_away_does_not_end_the_training(jobs: TrainingJobs, child: Any) -> None:
    async def work() -> None:
        go = asyncio.Event()

        async def wait(**_: Any) -> dict[str, Any]:
            await go.wait()
            return dict(RESULT)

        child(wait)
        _, task = await jobs.start(TrainRequest(), champion=Path("/seed"))
        client = asyncio.create_task(asyncio.wait_for(asyncio.shield(task), 60))
        await asyncio.sleep(0)
        client.cancel()
        go.set()
        await task

    asyncio.run(work())
    assert jobs.get(None)["state"] == "done"


def test_progress_can_be_asked_for(jobs: TrainingJobs, child: Any) -> None:
    async def work() -> None:
        go = asyncio.Event()

        async def tell(on_progress: Any, **_: Any) -> dict[str, Any]:
            on_progress({"share": 0.5, "doing": "search"})
            await go.wait()
            return dict(RESULT)

        child(tell)
        job_id, task = await jobs.start(TrainRequest(), champion=Path("/seed"))
        async with asyncio.timeout(10):
            while jobs.get(job_id)["progress"] != {"share": 0.5, "doing": "search"}:
                await asyncio.sleep(0.01)
        go.set()
        await task
        await asyncio.sleep(0)

    asyncio.run(work())
    assert jobs.get(None)["state"] == "done"


def leave_behind(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(
            insert(table).values(
                id="a" * 32, kind="training", state="running", created_us=1, progress_json="{}"
            )
        )


def test_job_of_a_stopped_server_is_marked_at_the_next_start(
    jobs: TrainingJobs, engine: Engine
) -> None:
    leave_behind(engine)
    jobs.recover()
    job = jobs.get("a" * 32)
    assert job["state"] == "failed"
    assert "stopped" in job["error"]
    assert job["error_code"] == "interrupted"
    assert json.dumps(job)


def test_job_of_another_living_server_is_left_alone(
    jobs: TrainingJobs, engine: Engine, tmp_path: Path
) -> None:
    leave_behind(engine)
    with exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path):
        jobs.recover()
    assert jobs.get("a" * 32)["state"] == "running"


def test_start_without_a_job_left_behind_does_not_take_the_lock(
    jobs: TrainingJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second worker may start while the first one begins a training."""

    def taken() -> None:
        raise AssertionError("the lock was taken")

    monkeypatch.setattr(jobs, "_lock", taken)
    jobs.recover()


def test_unknown_job_is_not_found(jobs: TrainingJobs) -> None:
    with pytest.raises(NotFoundError):
        jobs.get("0" * 32)
