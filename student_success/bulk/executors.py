"""Where parts are scored: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from student_success.bulk.arrow import leave_pandas_out
from student_success.bulk.model_choice import Model
from student_success.bulk.reader import Part
from student_success.bulk.scoring import Scored, Task, score
from student_success.core.dask_client import connect
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.subprocesses import die_with_parent

Submit = Callable[[Part, Task], "Future[Scored]"]


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    # macOS and Windows have no processor affinity.
    return os.cpu_count() or 1


def in_process(model: Model) -> Submit:
    """Score in this process: for a small file, starting another one takes longer."""

    def submit(part: Part, task: Task) -> Future[Scored]:
        future: Future[Scored] = Future()
        future.set_result(score(part, task, model))
        return future

    return submit


@contextlib.contextmanager
def local(model: Model, workers: int) -> Iterator[Submit]:
    """Start processes on this machine."""
    # Spawn new processes: a fork would copy locks that other threads hold.
    pool: Executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialise_worker,
        initargs=(os.getpid(),),
    )
    try:
        yield lambda part, task: pool.submit(score, part, task, model)
    except BrokenProcessPool:
        raise UnavailableError(
            "A worker process was killed, perhaps because memory ran out. Finished files are kept: "
            "run the same command again for the others, with --workers 1 to use less memory."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _initialise_worker(parent: int) -> None:
    # The parent handles Ctrl-C and then stops its workers. They also end if it is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    leave_pandas_out()


@contextlib.contextmanager
def dask(model: Model, address: str | None) -> Iterator[tuple[int, Submit]]:
    """Connect to a Dask cluster; yield its number of workers too.

    Parameters
    ----------
    address
        Of its scheduler, e.g. ``tcp://scheduler:8786``.

    Raises
    ------
    ConfigurationError
        If there is no address, or Dask is not installed.
    UnavailableError
        If the scheduler does not answer, has no workers, or lost a part too often.
    """
    if not address:
        raise ConfigurationError("--engine dask needs --scheduler, e.g. tcp://scheduler:8786.")
    with connect(address) as client:
        from distributed import KilledWorker

        workers = sum(client.nthreads().values())
        if not workers:
            raise UnavailableError(f"The Dask scheduler at {address} has no workers.")
        # The model is the result of a task, so that Dask recreates it if a worker is lost.
        remote_model = client.submit(_identity, model.packed(), key=f"model-{model.fingerprint}")
        try:
            yield (
                workers,
                lambda part, task: client.submit(score, part, task, remote_model, pure=False),
            )
        except (KilledWorker, CancelledError, OSError) as error:
            raise UnavailableError(
                "The cluster lost the same part too often. Finished files are kept: run the same "
                "command again for the others."
            ) from error


def _identity(model: Model) -> Any:
    return model
