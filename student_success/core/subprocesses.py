"""Child processes for work that must not touch the serving process: training and the registry.

A child writes JSON lines to its standard output, each with an ``event``: any number of
``progress``, then one ``result`` or one ``error``. A failure after the result does not undo it. The
child and its own children end with the parent; priority, memory and time are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from student_success.core.errors import StudentSuccessError, TrainingFailedError
from student_success.core.memory import is_lack_of_memory

logger = logging.getLogger(__name__)

_PARENT = "STUDENT_SUCCESS_PARENT_PID"
_MEMORY = "STUDENT_SUCCESS_MEMORY_MB"
_PR_SET_PDEATHSIG = 1
_LINE_LIMIT = 32 << 20
_NICE = 10
_NICE_BACKGROUND = 19
_REFUSED = 3

_GUARD = "import os, sys; os.read(0, 1); os.killpg(int(sys.argv[1]), 9)"
_guards: list[subprocess.Popen[bytes]] = []
"""Processes that end this process group; referenced so that they are never waited for."""

_event_stream: TextIO | None = None
"""Stream of this process's events, if it is a child."""


class ChildFailure(Exception):
    """A child ended without a result; the request was not the cause."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends. Does nothing outside Linux.

    Parameters
    ----------
    parent
        Process id of the parent, to detect that it ended before the call.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = parent or os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        logger.warning("parent_death_signal_failed", extra={"errno": ctypes.get_errno()})
    if os.getppid() != parent:
        os._exit(1)


def bind_to_parent() -> None:
    """End this process with its parent, if it is a child.

    Call it before the long imports: `report_to_parent` does the same, but only runs after them.
    """
    if parent := os.environ.get(_PARENT):
        die_with_parent(int(parent))


def bound_environment() -> dict[str, str]:
    """Return this process's environment for a child that calls `bind_to_parent`."""
    return {**os.environ, _PARENT: str(os.getpid())}


@contextlib.contextmanager
def report_to_parent(*, background: bool = False) -> Iterator[TextIO]:
    """Set this process up as a child: reserve standard output for JSON lines, limit resources.

    Libraries that print to standard output print to standard error instead. An expected exception
    ends the process with an ``error`` event and exit code 3.

    Parameters
    ----------
    background
        Use only processor time that nothing else needs. True for training; false for a promotion,
        whose caller waits for the answer while the service is under load.

    Yields
    ------
    TextIO
        Stream for `write_event`.
    """
    if parent := os.environ.get(_PARENT):
        die_with_parent(int(parent))
        _end_group_on_exit()
        if not background:
            # BentoML's supervisor forwards SIGTERM to its whole tree. A caller waits for this work:
            # the parent lets open requests finish, and then ends this process itself.
            signal.signal(signal.SIGTERM, lambda *_: None)
        # Children of this process end with it, not with its parent.
        os.environ[_PARENT] = str(os.getpid())
        _lower_priority(background=background)
        _limit_memory(int(os.environ[_MEMORY]) << 20)
    global _event_stream
    _event_stream = stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield stream
    except StudentSuccessError as error:
        write_event(stream, "error", **error.to_json())
        raise SystemExit(_REFUSED) from error
    except Exception as error:
        if not is_lack_of_memory(error):
            raise
        failure = TrainingFailedError("It needs more memory than its limit.")
        write_event(stream, "error", **failure.to_json())
        raise SystemExit(_REFUSED) from error


@contextlib.contextmanager
def deadline(seconds: float, error: StudentSuccessError) -> Iterator[None]:
    """End this child process with `error` if the block takes longer than `seconds`.

    Bounds a download from a server that sends one byte a second: each read is short, and the
    reading thread cannot be interrupted. Does nothing in a process that is not a child.
    """
    stream = _event_stream
    if stream is None:
        yield
        return

    def give_up() -> None:
        write_event(stream, "error", **error.to_json())
        os._exit(_REFUSED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_group_on_exit() -> None:
    """Make sure that the children of this process end with it, even if it is killed.

    Processes that a library starts do not notice that their parent was killed: those of a parallel
    search would run for minutes. A guard process waits for the end of this process, and then kills
    the rest of its process group.
    """
    group = os.getpid()
    if os.getpgrp() != group:
        return
    # Only this process holds the writing end. The kernel closes it when the process ends.
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
    import resource  # not on native Windows

    # A child cannot have a higher limit than its parent.
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    if allowed != resource.RLIM_INFINITY:
        size = min(size, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _lower_priority(*, background: bool) -> None:
    os.nice(_NICE_BACKGROUND if background else _NICE)
    with contextlib.suppress(OSError):
        if background and sys.platform == "linux":
            # Batch processes do not preempt one that has just woken up to serve a request. Some
            # kernels preempt late: one core is left to requests (Linux refuses to leave no other).
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[1:])


def write_event(stream: TextIO, event: str, **values: Any) -> None:
    """Write one JSON line."""
    stream.write(json.dumps({"event": event, **values}, default=str) + "\n")
    stream.flush()


async def run(
    *arguments: str,
    timeout: float,
    memory_mb: int,
    environment: Mapping[str, str] | None = None,
    content: bytes | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run ``python -m …`` as a child and return the fields of its result.

    Parameters
    ----------
    arguments
        Arguments of ``python``.
    timeout
        Seconds after which the child is killed.
    memory_mb
        Limit of its private memory.
    environment
        Variables added to those of this process.
    content
        Bytes for the standard input of the child; it has none if None.

    Raises
    ------
    StudentSuccessError
        The error the child reported, as its own class.
    ChildFailure
        If it was killed, timed out, or ended without a result.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if content is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        env={
            **bound_environment(),
            **(environment or {}),
            _MEMORY: str(memory_mb),
            # The child must not write into the server's metrics.
            "PROMETHEUS_MULTIPROC_DIR": "",
        },
        start_new_session=True,
    )
    events: dict[str, dict[str, Any]] = {}
    code: int | None = None
    try:
        async with asyncio.timeout(timeout):
            if content is not None:
                await _write_content(process, content)
            await _read_events(process, events, on_progress)
            code = await process.wait()
    except TimeoutError:
        pass
    finally:
        await _kill(process)
    if "result" in events:
        return events["result"]
    if "error" in events:
        raise StudentSuccessError.from_json(events["error"])
    if code is None:
        raise ChildFailure(f"was stopped after {timeout:.0f} seconds")
    if code < 0:
        raise ChildFailure(f"was killed by {signal.Signals(-code).name}")
    raise ChildFailure(f"ended with code {code} and no result")


async def _write_content(process: asyncio.subprocess.Process, content: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(content)
        await process.stdin.drain()
    process.stdin.close()


async def _read_events(
    process: asyncio.subprocess.Process,
    events: dict[str, dict[str, Any]],
    on_progress: Callable[[dict[str, Any]], None] | None,
) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        # A library may have printed before `report_to_parent` reserved standard output.
        event = message.pop("event", None) if isinstance(message, dict) else None
        if event == "progress":
            if on_progress is not None:
                on_progress(message)
        elif event in ("result", "error"):
            events[event] = message
        else:
            logger.warning("child_line_ignored")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the child and its process group, if any of it still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
