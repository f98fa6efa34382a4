"""Locks between processes, released when the process that holds them dies."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.core.errors import BusyError
from student_success.core.paths import ROOT
from student_success.storage.locks import Operation, exclusive

HOLD = """
import sys
from pathlib import Path
from student_success.storage.engine import connect
from student_success.storage.locks import Operation, exclusive
engine = connect(sys.argv[2])
with exclusive(*map(Operation, sys.argv[3:]), engine=engine, state_dir=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def holder(tmp_path: Path, database_url: str) -> Iterator[Holder]:
    """Return a starter of processes that hold locks until their standard input is closed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*operations: Operation) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), database_url, *operations],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def take(engine: Engine, tmp_path: Path, *operations: Operation) -> None:
    with exclusive(*operations, engine=engine, state_dir=tmp_path):
        pass


def test_lock_excludes_other_processes_until_released(
    holder: Holder, engine: Engine, tmp_path: Path
) -> None:
    process = holder(Operation.TRAINING)
    with pytest.raises(BusyError, match=r"^Another training is under way\.$"):
        take(engine, tmp_path, Operation.TRAINING)
    take(engine, tmp_path, Operation.DEPLOYMENT)
    process.communicate(timeout=10)
    take(engine, tmp_path, Operation.TRAINING)


def test_killed_holder_leaves_no_lock_behind(
    holder: Holder, engine: Engine, tmp_path: Path
) -> None:
    process = holder(Operation.TRAINING, Operation.DEPLOYMENT)
    process.kill()
    process.wait(10)
    take(engine, tmp_path, Operation.TRAINING, Operation.DEPLOYMENT)


def test_lock_excludes_the_process_that_holds_it(engine: Engine, tmp_path: Path) -> None:
    with (
        exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path),
        pytest.raises(BusyError),
    ):
        take(engine, tmp_path, Operation.TRAINING)


def test_refusal_releases_locks_acquired_before(
    holder: Holder, engine: Engine, tmp_path: Path
) -> None:
    holder(Operation.TRAINING)
    with pytest.raises(BusyError):
        take(engine, tmp_path, Operation.TRAINING, Operation.DEPLOYMENT)
    take(engine, tmp_path, Operation.DEPLOYMENT)


def test_exception_in_block_releases_lock(engine: Engine, tmp_path: Path) -> None:
    def fail() -> None:
        with exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    take(engine, tmp_path, Operation.TRAINING)


def test_child_of_the_holder_does_not_keep_the_lock(engine: Engine, tmp_path: Path) -> None:
    with exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
    take(engine, tmp_path, Operation.TRAINING)
    child.communicate(timeout=10)


def test_locks_of_different_state_directories_are_independent(
    holder: Holder, engine: Engine, tmp_path: Path
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("a database server has one set of locks for all state directories")
    holder(Operation.TRAINING)
    take(engine, tmp_path / "other", Operation.TRAINING)


def test_lock_is_released_on_another_thread_than_acquired_it(
    engine: Engine, tmp_path: Path
) -> None:
    stack = contextlib.ExitStack()
    lock = exclusive(Operation.TRAINING, engine=engine, state_dir=tmp_path)
    with ThreadPoolExecutor(1) as other:
        other.submit(stack.enter_context, lock).result()
    with pytest.raises(BusyError):
        take(engine, tmp_path, Operation.TRAINING)
    stack.close()
    take(engine, tmp_path, Operation.TRAINING)


def test_lock_file_that_is_a_symbolic_link_is_not_followed(engine: Engine, tmp_path: Path) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("a database server keeps no lock files")
    target = tmp_path / "target"
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "training.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        take(engine, tmp_path, Operation.TRAINING)
    assert not target.exists()
