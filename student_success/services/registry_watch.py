"""Watch the registry: whether MLflow answers, and whether its alias names the served version."""

from __future__ import annotations

import asyncio
import logging

from student_success.core.errors import StudentSuccessError
from student_success.core.settings import Settings
from student_success.lifecycle.alias_sync import wanted_alias
from student_success.lifecycle.champion import Champion
from student_success.registry import mlflow_http
from student_success.registry.child_process import run_command
from student_success.storage.deployments import Deployments

logger = logging.getLogger(__name__)


class RegistryWatch:
    """Look at the registry every few seconds.

    Attributes
    ----------
    registry_ok
        Whether MLflow answered the last time.
    problems
        What is wrong with its alias, in words.
    """

    def __init__(self, *, settings: Settings, deployments: Deployments, champion: Champion) -> None:
        self._settings = settings
        self._deployments = deployments
        self._champion = champion
        self.registry_ok = True
        self.problems: list[str] = []

    async def run(self, *, leader: bool) -> None:
        """Watch until cancelled.

        Parameters
        ----------
        leader
            Whether to bring the alias and the served version in line if they differ.
        """
        while True:
            self.registry_ok, alias = await asyncio.to_thread(mlflow_http.peek, self._settings)
            if leader and self.registry_ok:
                try:
                    await self._align(alias)
                except StudentSuccessError as error:
                    logger.warning("alias_not_aligned", extra={"reason": error.message})
            await asyncio.sleep(self._settings.test_alias_check_seconds)

    async def _align(self, alias: str | None) -> None:
        if alias != await asyncio.to_thread(wanted_alias, self._deployments):
            await run_command(self._settings, "align-alias")
            await self._champion.catch_up()
