"""Run a command of this program that needs MLflow, or may crash, in a child process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from student_success.core import subprocesses
from student_success.core.configuration.settings import Settings
from student_success.core.errors import RegistryUnavailableError, StudentSuccessError
from student_success.core.subprocesses import ChildFailure

MEMORY_MB = 4096


async def run_command(
    settings: Settings,
    *arguments: str,
    timeout: float | None = None,
    memory_mb: int = MEMORY_MB,
    failure: type[StudentSuccessError] = RegistryUnavailableError,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run ``python -m student_success child`` with arguments and return its result.

    Parameters
    ----------
    timeout
        In seconds; `registry_timeout_seconds` if None.
    failure
        Class of the error that is raised if the child ends without a result.
    on_progress
        Called with the fields of each progress event.

    Raises
    ------
    StudentSuccessError
        The error that the child reported, or one of the class `failure`.
    """
    try:
        return await subprocesses.run(
            "-m",
            "student_success",
            "child",
            *arguments,
            timeout=timeout or settings.registry_timeout_seconds,
            memory_mb=memory_mb,
            on_progress=on_progress,
        )
    except ChildFailure as error:
        raise failure(f"The command '{arguments[0]}' {error}.") from error
