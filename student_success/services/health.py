"""Health and readiness of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from student_success.core.configuration.addresses import ANY_ADDRESS
from student_success.core.configuration.names import INTERFACE_STARTED
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError
from student_success.core.state_files import is_interface_running
from student_success.domain.schemas.monitoring import HealthAnswer
from student_success.lifecycle.champion import Champion
from student_success.services.registry_watch import RegistryWatch
from student_success.storage.inference_log.history import History

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

INTERFACE_SECONDS = 0.5
INTERFACE_START_SECONDS = 60.0


class Health:
    """Report the state of the database, the model and the registry."""

    def __init__(
        self, *, settings: Settings, champion: Champion, history: History, registry: RegistryWatch
    ) -> None:
        self._started_at = time.monotonic()
        self._settings = settings
        self._champion = champion
        self._history = history
        self._registry = registry
        self._check: asyncio.Task[None] | None = None

    async def report(self) -> HealthAnswer:
        """Return the state of the service; never fails."""
        served = self._champion.served
        problems: list[str] = []
        db_ok = await self._database_ok()
        behind = await self._try(self._champion.behind, problems)
        lost = await self._try(self._champion.missing_deployments, problems)
        if not db_ok:
            problems.append("The database cannot be read and written; the log says why.")
        if served is None:
            problems.append(self._champion.problem)
        elif self._champion.is_fallback:
            problems.append("The deployed version was not loaded; the seed model is served.")
        if behind:
            problems.append(f"{behind} workers do not serve the newest deployment.")
        if lost is not None:
            problems.append(lost)
        ui_ok = await self._try(self._interface_ok, problems)
        if ui_ok is False:
            problems.append("The web interface does not answer; the log says why.")
        if not self._registry.registry_ok:
            problems.append("MLflow does not answer.")
        problems += self._registry.problems
        status = "degraded" if problems else "ok"
        if served is None or not db_ok:
            status = "unavailable"
        return HealthAnswer.model_validate(
            {
                "status": status,
                "db_ok": db_ok,
                "model_loaded": served is not None,
                "model_version": None if served is None else served.predictor.version,
                "model_source": None if served is None else served.source,
                "registry_ok": self._registry.registry_ok,
                "workers_behind": behind,
                "ui_ok": ui_ok,
                "uptime_seconds": round(time.monotonic() - self._started_at, 3),
                "problems": problems,
                "synthetic_data": None if served is None else served.predictor.synthetic,
            }
        )

    async def _try(self, check: Callable[[], Result], problems: list[str]) -> Result | None:
        """Return the result of a check, or None if it fails; only the database is expected to."""
        try:
            return await asyncio.to_thread(check)
        except DatabaseUnavailableError:
            return None
        except Exception:
            logger.exception("health_check_failed")
            problems.append("A check of the service's state failed; the log says why.")
            return None

    def _interface_ok(self) -> bool | None:
        if INTERFACE_STARTED not in os.environ:
            return None
        host = ANY_ADDRESS.get(self._settings.ui_address, self._settings.ui_address)
        # Another program may listen on its port.
        if is_interface_running(self._settings.state_dir):
            with contextlib.suppress(OSError):
                socket.create_connection((host, self._settings.ui_port), INTERFACE_SECONDS).close()
                return True
        starting = time.monotonic() - self._started_at < INTERFACE_START_SECONDS
        return None if starting else False

    async def check_ready(self) -> None:
        """Check that predictions can be answered now.

        Raises
        ------
        ModelUnavailableError, DatabaseUnavailableError
            If they cannot.
        """
        self._champion.serving()
        if not self._settings.answer_unlogged:
            await self._check_history()

    async def _check_history(self) -> None:
        """Share one check between all concurrent requests, so that it holds one thread at most."""
        if self._check is None:
            self._check = asyncio.create_task(asyncio.to_thread(self._history.check))
            self._check.add_done_callback(self._checked)
        await asyncio.shield(self._check)

    def _checked(self, check: asyncio.Task[None]) -> None:
        self._check = None
        if not check.cancelled():
            # Marks the exception as retrieved: every waiting request may have been cancelled.
            check.exception()

    async def _database_ok(self) -> bool:
        try:
            await self._check_history()
        except DatabaseUnavailableError:
            return False
        except Exception:
            # Such as no memory for another thread. `/health` always answers with 200.
            logger.exception("health_check_failed")
            return False
        return True
