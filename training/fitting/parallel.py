"""Where the fits of a training run: in processes of this machine, or on a Dask cluster.

Both give the same model: how many candidates a search tries follows from its budget, never from the
clock, and each fit has its own seed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import joblib

from student_success.core.errors import ConfigurationError, TrainingFailedError

LOCAL_JOBS = 2
ALL_WORKERS = -1
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
"""How long a cluster may take to bring up its first worker."""


@contextlib.contextmanager
def fits_on(scheduler: str | None) -> Iterator[int]:
    """Let joblib's parallel work of the block run there; yields its number of jobs.

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
        If the scheduler does not answer, or has lost the work of too many workers.
    """
    if not scheduler:
        yield LOCAL_JOBS
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ConfigurationError(
            'Dask is not installed: install the extra "scale", or train without a scheduler.'
        ) from None
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise TrainingFailedError(f"No Dask scheduler answers at {scheduler}.") from error
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
                "The cluster lost the workers of one fit again and again: they may lack memory."
            ) from error
        except TimeoutError as error:
            raise TrainingFailedError("The Dask scheduler has no workers.") from error


def task(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a call for `joblib.Parallel`, with its arguments as one tuple.

    Large arguments by themselves would be put on one worker of a cluster, and be lost with it; a
    tuple is kept by the scheduler, with the call.
    """
    return joblib.delayed(_call)(function, arguments)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)
