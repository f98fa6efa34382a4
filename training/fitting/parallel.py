"""Run the fits of a training in processes of this machine or on a Dask cluster.

Both give the same model: the number of candidates in a search follows from its budget, never from
elapsed time, and each fit has its own seed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import joblib

from student_success.core.dask_client import connect
from student_success.core.errors import TrainingFailedError, UnavailableError

LOCAL_JOBS = 2
ALL_WORKERS = -1
_WORKERS_SECONDS = 60
"""How long a cluster may take to start its first worker."""


@contextlib.contextmanager
def fits_on(scheduler: str | None) -> Iterator[int]:
    """Direct joblib's parallel work in the block to a cluster; yield the number of jobs.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, e.g. ``tcp://scheduler:8786``; this machine if None. Its
        workers need the same packages, and this project on their path.

    Raises
    ------
    ConfigurationError
        If Dask is not installed.
    TrainingFailedError
        If the scheduler does not answer, has no workers, or too many workers failed on one fit.
    """
    if not scheduler:
        yield LOCAL_JOBS
        return
    try:
        client = connect(scheduler)
    except UnavailableError as error:
        raise TrainingFailedError(error.message) from error
    from distributed import KilledWorker

    with (
        client,
        joblib.parallel_config(
            backend="dask", client=client, wait_for_workers_timeout=_WORKERS_SECONDS
        ),
    ):
        try:
            yield ALL_WORKERS
        except KilledWorker as error:
            raise TrainingFailedError(
                "Several workers of the cluster died on the same fit: they may lack memory."
            ) from error
        except TimeoutError as error:
            raise TrainingFailedError("The Dask scheduler has no workers.") from error


def task(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a call for `joblib.Parallel`, with its arguments as one tuple.

    joblib would place large arguments on a single worker of a cluster and lose them with it; the
    scheduler keeps a tuple together with the call.
    """
    return joblib.delayed(_call)(function, arguments)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)
