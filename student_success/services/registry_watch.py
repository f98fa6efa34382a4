"""Watch the registry: whether MLflow answers, and whether its alias names the served version."""

from __future__ import annotations

import asyncio
import logging
import time

from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError, StudentSuccessError
from student_success.lifecycle.alias_sync import wanted_alias
from student_success.lifecycle.champion import Champion
from student_success.registry import mlflow_http
from student_success.registry.child_process import run_command
from student_success.storage.deployments import Deployments

logger = logging.getLogger(__name__)

ALIAS_TRIES = 3
"""How often the version of an alias that somebody moved is checked, if the check itself fails."""
REPORT_SECONDS = 3600.0
"""How long `/health` reports that the alias was moved back."""


class RegistryWatch:
    """Look at the registry every few seconds.

    Attributes
    ----------
    registry_ok
        Whether MLflow answered the last time.
    """

    def __init__(self, *, settings: Settings, deployments: Deployments, champion: Champion) -> None:
        self._settings = settings
        self._deployments = deployments
        self._champion = champion
        self._alias: str | None = None
        self._failures = 0
        self._problem = ""
        self._problem_until = 0.0
        self.registry_ok = True

    @property
    def problems(self) -> list[str]:
        """What is wrong with the alias, in words."""
        return [self._problem] if time.monotonic() < self._problem_until else []

    async def run(self, *, leader: bool) -> None:
        """Watch until cancelled.

        Parameters
        ----------
        leader
            Whether to bring the alias and the served version in line if they differ.
        """
        aligning: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    answer = await asyncio.to_thread(mlflow_http.peek, self._settings)
                except Exception:
                    # If this task ended, the last answer would be reported for ever.
                    logger.exception("registry_watch_failed")
                    answer = False, None
                self.registry_ok, alias = answer
                metrics.registry_up.set(self.registry_ok)
                if leader and self.registry_ok and (aligning is None or aligning.done()):
                    # In a task: the comparison of two versions may take as long as a training.
                    aligning = asyncio.create_task(self._align(alias))
                await asyncio.sleep(self._settings.test_alias_check_seconds)
        finally:
            if aligning is not None:
                aligning.cancel()
                await asyncio.gather(aligning, return_exceptions=True)

    async def _align(self, alias: str | None) -> None:
        settings = self._settings
        try:
            wanted = await asyncio.to_thread(wanted_alias, self._deployments)
            if alias == wanted:
                return
            if alias != self._alias:
                self._alias, self._failures = alias, 0
            give_up = self._failures >= ALIAS_TRIES
            await run_command(
                settings,
                "align-alias",
                *(["--no-adopt"] if give_up else []),
                timeout=settings.registry_timeout_seconds + settings.train_timeout_seconds,
            )
            if give_up:
                self._alias = None
                self._report(
                    f"MLflow's alias was moved to version {alias}, which could not be checked in "
                    f"{ALIAS_TRIES} tries. It was moved back; version {wanted or 'seed'} is still "
                    f"served. Promote version {alias} to see why."
                )
            await self._champion.catch_up()
        except DatabaseUnavailableError as error:
            # The version to serve is unknown; `/health` reports the database itself.
            logger.warning("alias_not_aligned", extra={"reason": error.message})
        except StudentSuccessError as error:
            self._failures += 1
            self._report(
                f"MLflow's alias points to version {alias}, which is not served, and could not be "
                f"checked: {error.message}"
            )

    def _report(self, problem: str) -> None:
        logger.error("alias_refused", extra={"reason": problem})
        self._problem, self._problem_until = problem, time.monotonic() + REPORT_SECONDS
