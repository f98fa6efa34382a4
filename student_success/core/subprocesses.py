"""Child processes for work that must not touch the serving process: training and the registry.

A child speaks JSON lines on its standard output, each with an ``event``: ``progress`` as often as
it likes, then one ``result`` or one ``error``. What comes after a result, as a failure to tidy up,
does not undo it. It dies with its parent, and whatever it started with it; it runs at a lower
priority and within a limit of memory and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from student_success.core.errors import StudentSuccessError, TrainingFailedError

logger = logging.getLogger(__name__)

_PARENT = "STUDENT_SUCCESS_PARENT_PID"
_MEMORY = "STUDENT_SUCCESS_MEMORY_MB"
_PR_SET_PDEATHSIG = 1
_LINE_LIMIT = 32 << 20
_NICE = 10
_NICE_PATIENT = 19
_REFUSED = 3

_GUARD = "import os, sys; os.read(0, 1); os.killpg(int(sys.argv[1]), 9)"
_guards: list[subprocess.Popen[bytes]] = []
"""What ends our group when we end; kept, so that nobody waits for it."""

_speaking_to: TextIO | None = None
"""Where this process reports, if it is a child."""


class ChildFailure(Exception):
    """A child ended without a result, for a reason that is not the caller's."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends; Linux only, elsewhere nothing.

    Parameters
    ----------
    parent
        Process id of the parent, to notice that it died before the kernel was asked.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = parent or os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        logger.warning("parent_death_signal_failed", extra={"errno": ctypes.get_errno()})
    if os.getppid() != parent:
        os._exit(1)


def bind_to_parent() -> None:
    """Tie this process to its parent if it is a child; before the long imports, or it outlives it.

    `speaking` does the same, but only once all is there that it takes to work.
    """
    if parent := os.environ.get(_PARENT):
        die_with_parent(int(parent))


@contextlib.contextmanager
def speaking(*, patient: bool = False) -> Iterator[TextIO]:
    """Be a child: tie this process to its parent, and keep standard output for JSON lines.

    Parameters
    ----------
    patient
        Whether the work can wait for processor time that nobody else wants: a training, but not a
        promotion, which somebody waits for while the service is under load.

    Yields the stream to `say` to. Libraries that print by themselves print to standard error. An
    exception ends the process with an ``error`` event and exit code 3.
    """
    if parent := os.environ.get(_PARENT):
        die_with_parent(int(parent))
        _take_along()
        if not patient:
            # BentoML's supervisor tells us when it is told to stop. Somebody waits for this work,
            # and our parent, who lets requests finish, ends it when it is time.
            signal.signal(signal.SIGTERM, lambda *_: None)
        # A child of ours is bound to us, not to our parent.
        os.environ[_PARENT] = str(os.getpid())
        _step_back(patient=patient)
        _limit_memory(int(os.environ[_MEMORY]) << 20)
    global _speaking_to
    _speaking_to = stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield stream
    except StudentSuccessError as error:
        say(stream, "error", **error.to_json())
        raise SystemExit(_REFUSED) from error
    except MemoryError as error:
        failure = TrainingFailedError("It needs more memory than it may take.")
        say(stream, "error", **failure.to_json())
        raise SystemExit(_REFUSED) from error


@contextlib.contextmanager
def deadline(seconds: float, error: StudentSuccessError) -> Iterator[None]:
    """End this process with `error` if the block takes longer; do nothing in one that is no child.

    For a conversation with somebody who may say one byte a second for ever: each wait in it is
    short, and the thread that waits cannot be interrupted.
    """
    stream = _speaking_to
    if stream is None:
        yield
        return

    def give_up() -> None:
        say(stream, "error", **error.to_json())
        os._exit(_REFUSED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError as error:
        raise MemoryError("no room for a thread") from error
    try:
        yield
    finally:
        timer.cancel()


def _take_along() -> None:
    """See to it that what this process starts ends with it, however it ends.

    A library's own processes know nothing of parents that are killed: those of a parallel search
    would go on for minutes. Another process, which has nothing to do but wait until we are gone,
    kills what is left of our group.
    """
    group = os.getpid()
    if os.getpgrp() != group:
        return
    # The writing end is open in this process alone, and until the kernel closes it.
    reading, _ = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(group)],
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(reading)
    _guards.append(guard)


def _limit_memory(size: int) -> None:
    # A child of a child cannot have more than its parent.
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    if allowed != resource.RLIM_INFINITY:
        size = min(size, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _step_back(*, patient: bool) -> None:
    os.nice(_NICE_PATIENT if patient else _NICE)
    if patient and hasattr(os, "SCHED_BATCH"):
        # Batch work does not preempt a request that has just woken up.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def say(stream: TextIO, event: str, **values: Any) -> None:
    """Write one JSON line."""
    stream.write(json.dumps({"event": event, **values}, default=str) + "\n")
    stream.flush()


async def run(
    *arguments: str,
    timeout: float,
    memory_mb: int,
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run ``python -m …`` as a child and return its result.

    Parameters
    ----------
    arguments
        What follows ``python``.
    timeout
        Seconds after which the child is killed.
    memory_mb
        Limit of its private memory.
    environment
        Variables added to this process's own.

    Raises
    ------
    StudentSuccessError
        The error the child reported, as its own class.
    ChildFailure
        If it was killed, ran too long, or ended without a word.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        env={
            **os.environ,
            **(environment or {}),
            _PARENT: str(os.getpid()),
            _MEMORY: str(memory_mb),
            # The child's metrics are not the server's.
            "PROMETHEUS_MULTIPROC_DIR": "",
        },
        start_new_session=True,
    )
    heard: dict[str, dict[str, Any]] = {}
    code: int | None = None
    try:
        async with asyncio.timeout(timeout):
            await _listen(process, heard, on_progress)
            code = await process.wait()
    except TimeoutError:
        pass
    finally:
        await _end(process)
    if "result" in heard:
        return heard["result"]
    if "error" in heard:
        raise StudentSuccessError.from_json(heard["error"])
    if code is None:
        raise ChildFailure(f"stopped after {timeout:.0f} seconds")
    if code < 0:
        raise ChildFailure(f"killed by {signal.Signals(-code).name}")
    raise ChildFailure(f"ended with code {code} and no result")


async def _listen(
    process: asyncio.subprocess.Process,
    heard: dict[str, dict[str, Any]],
    on_progress: Callable[[dict[str, Any]], None] | None,
) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        # A library may have printed before `speaking` took standard output away from it.
        event = message.get("event") if isinstance(message, dict) else None
        if event == "progress":
            if on_progress is not None:
                on_progress(message)
        elif event in ("result", "error"):
            heard[event] = message
        else:
            logger.warning("child_line_ignored")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the child and whatever it started, if any of it still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
