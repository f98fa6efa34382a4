"""Where parts are scored: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures.process import BrokenProcessPool
from importlib.abc import MetaPathFinder

import pyarrow as pa

from student_success.bulk.model_choice import Model
from student_success.bulk.reader import Part
from student_success.bulk.scoring import Scored, Task, score
from student_success.core.dask_client import connect
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.subprocesses import die_with_parent

Submit = Callable[[Part, Task], "Future[Scored]"]
_AGAIN = "Finished files are kept: run the same command again for the others"


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    # macOS and Windows have no processor affinity.
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas, which takes a second and is not used in scoring.

    Call it only in a process that never gives pyarrow and pandas the same data.
    """
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        # pyarrow tries to import it once, with the first list.
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def local(model: Model, workers: int) -> Iterator[tuple[int, Submit]]:
    """Start processes; yield their number and what gives them a part.

    A single worker is a thread of this process.

    Raises
    ------
    UnavailableError
        If a process was killed.
    """
    # Spawn new processes: a fork would copy locks that other threads hold.
    spawn = multiprocessing.get_context("spawn")
    pool: Executor = ThreadPoolExecutor(1)
    if workers > 1:
        pool = ProcessPoolExecutor(workers, spawn, _initialise_worker, (os.getpid(),))
    try:
        yield workers, lambda part, task: pool.submit(score, part, task, model)
    except BrokenProcessPool:
        raise UnavailableError(
            f"A worker process was killed, perhaps because memory ran out. {_AGAIN}, with "
            "--workers 1 to use less memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _initialise_worker(parent: int) -> None:
    # The parent handles Ctrl-C and then stops its workers. They also end if it is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    leave_pandas_out()


@contextlib.contextmanager
def dask(model: Model, address: str | None) -> Iterator[tuple[int, Submit]]:
    """Connect to the scheduler of a Dask cluster, e.g. ``tcp://scheduler:8786``.

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
        from distributed.comm import CommClosedError

        workers = sum(client.nthreads().values())
        if not workers:
            raise UnavailableError(f"The Dask scheduler at {address} has no workers.")
        # The model is the result of a task, so that Dask recreates it if a worker is lost.
        remote = client.submit(_identity, model.packed(), key=f"model-{model.fingerprint}")
        try:
            yield workers, lambda part, task: client.submit(score, part, task, remote, pure=False)
        except (KilledWorker, CancelledError, CommClosedError) as error:
            lost = "The cluster lost the same part too often, or its scheduler ended."
            raise UnavailableError(f"{lost} {_AGAIN}.") from error


def _identity(model: Model) -> Model:
    return model
