"""Who does the work: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from student_success.bulk.model_choice import Model
from student_success.bulk.types import Part, Slice, Task
from student_success.bulk.worker import score
from student_success.core.dask_client import connect
from student_success.core.errors import ConfigurationError, UnavailableError
from student_success.core.subprocesses import die_with_parent


class Pending(Protocol):
    """A slice that is being scored."""

    def result(self) -> Part:
        """Wait for its answers.

        Raises
        ------
        UnavailableError
            If the worker is gone, and the work with it.
        """


class Engine(Protocol):
    """Something that scores slices.

    Attributes
    ----------
    workers
        How many at a time.
    """

    workers: int

    def submit(self, part: Slice, task: Task) -> Pending:
        """Begin to score a slice."""


class _Done:
    def __init__(self, part: Part) -> None:
        self._part = part

    def result(self) -> Part:
        return self._part


class Here:
    """The process we are in: no other is started, which takes longer than a small file."""

    workers = 1

    def __init__(self, model: Model) -> None:
        self._model = model

    def submit(self, part: Slice, task: Task) -> Pending:
        """Score it, now."""
        return _Done(score(part, task, self._model))


class _Pooled:
    def __init__(self, future: concurrent.futures.Future[Part]) -> None:
        self._future = future

    def result(self) -> Part:
        try:
            return self._future.result()
        except BrokenProcessPool:
            raise UnavailableError(
                "A worker process was ended, perhaps for want of memory. Run the same command "
                "again to go on from here; --workers 1 takes least."
            ) from None


class Processes:
    """Processes of this machine; make it with `local`."""

    def __init__(
        self, pool: concurrent.futures.ProcessPoolExecutor, model: Model, workers: int
    ) -> None:
        self._pool, self._model, self.workers = pool, model, workers

    def submit(self, part: Slice, task: Task) -> Pending:
        """Send it to the next process that is free."""
        return _Pooled(self._pool.submit(score, part, task, self._model))


@contextlib.contextmanager
def local(model: Model, workers: int) -> Iterator[Processes]:
    """Run a number of processes."""
    # Fresh ones: a fork would copy the threads' locks, and whatever else is held here.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(),),
    )
    try:
        yield Processes(pool, model, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    # Ctrl-C is for the parent, which then ends its workers; if it is killed, so are they.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


class Cluster:
    """The workers of a Dask cluster; make it with `dask`."""

    def __init__(self, client: Any, model: Model, workers: int) -> None:
        self._client, self.workers = client, workers
        # As the result of a task, so that a worker that is lost takes it from nobody.
        self._model = client.submit(_same, model.packed(), key=f"model-{model.fingerprint}")

    def submit(self, part: Slice, task: Task) -> Pending:
        """Send it to the cluster, which sends it again where a worker is lost."""
        return _Sent(self._client.submit(score, part, task, self._model, pure=False))


class _Sent:
    def __init__(self, future: Any) -> None:
        self._future = future

    def result(self) -> Part:
        from distributed import KilledWorker

        try:
            part: Part = self._future.result()
        except (KilledWorker, concurrent.futures.CancelledError, OSError) as error:
            raise UnavailableError(
                "The cluster lost the work more often than it may. Run the same command again to "
                "go on from here."
            ) from error
        finally:
            # What is fetched need not stay on the worker.
            self._future.release()
        return part


@contextlib.contextmanager
def dask(model: Model, address: str | None) -> Iterator[Cluster]:
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
        If no scheduler answers there, or it has no workers.
    """
    if not address:
        raise ConfigurationError("--engine dask asks for --scheduler, e.g. tcp://scheduler:8786.")
    with connect(address) as client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise UnavailableError(f"The Dask scheduler at {address} has no workers.")
        yield Cluster(client, model, workers)


def _same(model: Model) -> Model:
    return model
