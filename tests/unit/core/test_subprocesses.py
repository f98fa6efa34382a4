"""Child processes: events, failures, and that none outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from student_success.core import errors, subprocesses
from student_success.core.subprocesses import ChildFailure

Started = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
HEAD = (
    "import os, sys, time\n"
    "from student_success.core.subprocesses import report_to_parent, write_event\n"
)


@pytest.fixture
def child(tmp_path: Path) -> Started:
    """Return a function that runs a piece of Python as a child."""

    def start(body: str, **options: Any) -> Coroutine[Any, Any, dict[str, Any]]:
        script = tmp_path / "script.py"
        script.write_text(HEAD + textwrap.dedent(body), "utf-8")
        root = str(Path(subprocesses.__file__).parents[2])
        return subprocesses.run(
            str(script),
            **{"timeout": 30.0, "memory_mb": 2048, "environment": {"PYTHONPATH": root}, **options},
        )

    return start


def run(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    return asyncio.run(coroutine)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_run_returns_progress_and_result(child: Started) -> None:
    seen: list[dict[str, Any]] = []
    result = run(
        child(
            """
            with report_to_parent() as stream:
                write_event(stream, "progress", share=0.5)
                write_event(stream, "result", answer=42, text="é")
            """,
            on_progress=seen.append,
        )
    )
    assert result == {"answer": 42, "text": "é"}
    assert seen == [{"share": 0.5}]


@pytest.mark.parametrize("chatter", ["hello", "5", "null", "[1]", '"event"', "", '{"event": "x"}'])
def test_run_ignores_other_output_of_child(child: Started, chatter: str) -> None:
    result = run(
        child(
            f"""
            print({chatter!r}, flush=True)
            with report_to_parent() as stream:
                print("libraries print here, after the stream was taken")
                write_event(stream, "result", answer=1)
            """
        )
    )
    assert result["answer"] == 1


def test_run_raises_error_of_child_with_class_and_details(child: Started) -> None:
    with pytest.raises(errors.PromotionRefusedError, match="no good") as caught:
        run(
            child(
                """
                from student_success.core.errors import PromotionRefusedError
                with report_to_parent():
                    raise PromotionRefusedError("no good", details=[{"name": "mae"}])
                """
            )
        )
    assert caught.value.details == [{"name": "mae"}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "with report_to_parent(): raise RuntimeError('a secret')",
            "ended with code 1 and no result",
        ),
        ("sys.exit(7)", "ended with code 7"),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_run_raises_child_failure_when_child_ends_without_result(
    child: Started, body: str, words: str
) -> None:
    with pytest.raises(ChildFailure, match=words) as caught:
        run(child(body))
    assert "secret" not in str(caught.value)


def test_run_kills_child_and_its_children_after_timeout(child: Started, tmp_path: Path) -> None:
    with pytest.raises(ChildFailure, match="stopped after"):
        run(
            child(
                f"""
                import subprocess
                below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{below.pid}}")
                time.sleep(600)
                """,
                timeout=2.0,
            )
        )
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=5)
    assert not any(is_alive(pid) for pid in pids)


def test_run_kills_child_when_cancelled(child: Started, tmp_path: Path) -> None:
    async def cancelled() -> int:
        said = asyncio.Event()
        pid = 0

        def note(message: dict[str, Any]) -> None:
            nonlocal pid
            pid = message["pid"]
            said.set()

        task = asyncio.create_task(
            child(
                """
                with report_to_parent() as stream:
                    write_event(stream, "progress", pid=os.getpid())
                    time.sleep(600)
                """,
                on_progress=note,
            )
        )
        await asyncio.wait_for(said.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert not is_alive(asyncio.run(cancelled()))


@pytest.mark.parametrize(
    "failing",
    [
        "bytearray(600 << 20)",
        # As ONNX Runtime, a thread pool, the loader of shared libraries, joblib and Protobuf fail.
        "raise RuntimeError('Exception during initialization: std::bad_alloc')",
        'raise RuntimeError("can\'t start new thread")',
        "raise ImportError('failed to map segment: Cannot allocate memory')",
        "raise ValueError('cannot pickle') from MemoryError()",
        "held = bytearray(480 << 20); raise ValueError('cannot serialize')",
    ],
)
def test_run_raises_training_failed_when_child_exceeds_memory_limit(
    child: Started, failing: str
) -> None:
    with pytest.raises(errors.TrainingFailedError, match="more memory"):
        run(child(f"with report_to_parent(): {failing}", memory_mb=512))


def test_other_failure_is_not_called_a_lack_of_memory(child: Started) -> None:
    failing = "held = bytearray(200 << 20); raise ValueError('wrong')"
    with pytest.raises(subprocesses.ChildFailure, match="ended with code 1"):
        run(child(f"with report_to_parent(): {failing}", memory_mb=512))


def test_child_has_lower_priority_and_no_server_metrics(child: Started) -> None:
    result = run(
        child(
            """
            with report_to_parent() as stream:
                write_event(stream, "result", nice=os.nice(0),
                    metrics=os.environ["PROMETHEUS_MULTIPROC_DIR"])
            """
        )
    )
    assert result["nice"] >= min(os.nice(0) + 10, 19)
    assert result["metrics"] == ""


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="this system cannot choose the cores of a process, or has only one",
)
def test_background_child_leaves_one_core_to_requests(child: Started) -> None:
    result = run(
        child(
            """
            with report_to_parent(background=True) as stream:
                write_event(stream, "result", cores=sorted(os.sched_getaffinity(0)))
            """
        )
    )
    assert result["cores"] == sorted(os.sched_getaffinity(0))[1:]


def test_grandchild_ends_with_the_child_that_started_it(child: Started) -> None:
    result = run(
        child(
            """
            import subprocess
            if len(sys.argv) > 1:
                with report_to_parent() as stream:
                    write_event(stream, "result", depth=2)
                sys.exit()
            with report_to_parent() as stream:
                below = subprocess.run(
                    [sys.executable, sys.argv[0], "below"], stdout=subprocess.PIPE, check=True
                )
                stream.write(below.stdout.decode())
            """
        )
    )
    assert result["depth"] == 2


def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = tmp_path / "child.py"
    script.write_text(
        HEAD
        + textwrap.dedent(
            f"""
            with report_to_parent() as stream:
                open({str(pid_file)!r}, "w").write(str(os.getpid()))
                write_event(stream, "progress", ready=True)
                time.sleep(600)
            """
        ),
        "utf-8",
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, sys; from student_success.core import subprocesses;"
            f"asyncio.run(subprocesses.run({str(script)!r}, timeout=600, memory_mb=1024,"
            "on_progress=lambda _: print('ready', flush=True)))",
        ],
        cwd=Path(subprocesses.__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(subprocesses.__file__).parents[2])},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"ready\n"
        below = psutil.Process(int(pid_file.read_text()))
        parent.kill()
        parent.wait(10)
    gone, _ = psutil.wait_procs([below], timeout=5)
    assert gone


def test_every_error_is_equal_after_json_round_trip() -> None:
    for code, kind in errors._by_code(errors.StudentSuccessError).items():
        made = errors.StudentSuccessError.from_json({"code": code, "message": "m", "details": []})
        assert type(made) is kind
        assert made.message == "m"
    unknown = errors.StudentSuccessError.from_json({"code": "?", "message": "m"})
    assert type(unknown) is errors.StudentSuccessError


def test_children_of_a_killed_child_end_with_it(tmp_path: Path) -> None:
    """As the processes of a parallel search do not by themselves; here nobody tidies up."""
    body = f"""
    import signal, subprocess
    with report_to_parent():
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open({str(tmp_path / "pid")!r}, "w").write(str(started.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(body)],
        cwd=Path(subprocesses.__file__).parents[2],
        env={
            **os.environ,
            "STUDENT_SUCCESS_PARENT_PID": str(os.getpid()),
            "STUDENT_SUCCESS_MEMORY_MB": "2048",
        },
        start_new_session=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    started = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 2
    while is_alive(started):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_child_ignores_sigterm_when_its_result_is_awaited(child: Started) -> None:
    body = """
    import signal
    with report_to_parent() as stream:
        os.kill(os.getpid(), signal.SIGTERM)
        write_event(stream, "result", answer=42)
    """
    assert run(child(body))["answer"] == 42


def test_background_child_ends_at_sigterm(child: Started) -> None:
    body = """
    import signal
    with report_to_parent(background=True) as stream:
        os.kill(os.getpid(), signal.SIGTERM)
        write_event(stream, "result", answer=42)
    """
    with pytest.raises(ChildFailure, match="killed by SIGTERM"):
        run(child(body))
