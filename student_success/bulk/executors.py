"""Where slices are scored: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from student_success.bulk.model_choice import Model
from student_success.bulk.types import ScoredSlice, Slice, Task
from student_success.bulk.worker import score
from student_success.core.dask_client import connect
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.subprocesses import die_with_parent

Pending = Callable[[], ScoredSlice]
"""Waits for a slice; raises `UnavailableError` if its worker was lost."""


@dataclass(frozen=True, slots=True)
class Executor:
    """A way to score slices.

    Attributes
    ----------
    workers
        Number of slices scored at a time.
    submit
        Starts to score a slice, and returns a function that waits for the result.
    """

    workers: int
    submit: Callable[[Slice, Task], Pending]


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    # macOS and Windows have no processor affinity.
    return os.cpu_count() or 1


def in_process(model: Model) -> Executor:
    """Score in this process: for a small file, starting another one takes longer."""

    def submit(part: Slice, task: Task) -> Pending:
        scored = score(part, task, model)
        return lambda: scored

    return Executor(1, submit)


@contextlib.contextmanager
def local(model: Model, workers: int) -> Iterator[Executor]:
    """Start processes on this machine."""
    # Spawn new processes: a fork would copy locks that other threads hold.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialise_worker,
        initargs=(os.getpid(),),
    )

    def submit(part: Slice, task: Task) -> Pending:
        future = pool.submit(score, part, task, model)

        def wait() -> ScoredSlice:
            try:
                return future.result()
            except BrokenProcessPool:
                raise UnavailableError(
                    "A worker process was killed, perhaps because memory ran out. Finished work is "
                    "kept: run the same command again to continue, with --workers 1 to use less "
                    "memory."
                ) from None

        return wait

    try:
        yield Executor(workers, submit)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _initialise_worker(parent: int) -> None:
    # The parent handles Ctrl-C and then stops its workers. They also end if it is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


@contextlib.contextmanager
def dask(model: Model, address: str | None) -> Iterator[Executor]:
    """Connect to a Dask cluster.

    Parameters
    ----------
    address
        Of its scheduler, e.g. ``tcp://scheduler:8786``.

    Raises
    ------
    ConfigurationError
        If there is no address, or Dask is not installed.
    UnavailableError
        If the scheduler does not answer, or has no workers.
    """
    if not address:
        raise ConfigurationError("--engine dask needs --scheduler, e.g. tcp://scheduler:8786.")
    with connect(address) as client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise UnavailableError(f"The Dask scheduler at {address} has no workers.")
        # The model is the result of a task, so that Dask recreates it if a worker is lost.
        remote_model = client.submit(_identity, model.packed(), key=f"model-{model.fingerprint}")

        def submit(part: Slice, task: Task) -> Pending:
            future = client.submit(score, part, task, remote_model, pure=False)
            return lambda: _result(future)

        yield Executor(workers, submit)


def _result(future: Any) -> ScoredSlice:
    from distributed import KilledWorker

    try:
        scored: ScoredSlice = future.result()
    except (KilledWorker, concurrent.futures.CancelledError, OSError) as error:
        raise UnavailableError(
            "The cluster lost the same slice too often. Finished work is kept: run the same "
            "command again to continue."
        ) from error
    finally:
        # Free the result on the worker.
        future.release()
    return scored


def _identity(model: Model) -> Model:
    return model
