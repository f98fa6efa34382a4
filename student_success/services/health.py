"""Health and readiness of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import time

from student_success.core.errors import DatabaseUnavailableError
from student_success.core.settings import Settings
from student_success.domain.schemas.monitoring import HealthAnswer
from student_success.lifecycle.champion import Champion
from student_success.services.registry_watch import RegistryWatch
from student_success.storage.inference_log.history import History


class Health:
    """Report the state of the database, the model and the registry."""

    def __init__(
        self, *, settings: Settings, champion: Champion, history: History, registry: RegistryWatch
    ) -> None:
        self._started_at = time.monotonic()
        self._answer_unlogged = settings.answer_unlogged
        self._champion = champion
        self._history = history
        self._registry = registry
        self._check: asyncio.Task[None] | None = None

    async def report(self) -> HealthAnswer:
        """Return the state of the service; never fails."""
        served = self._champion.served
        db_ok = await self._database_ok()
        behind: int | None = None
        with contextlib.suppress(DatabaseUnavailableError):
            behind = await asyncio.to_thread(self._champion.behind)
        if served is None or not db_ok:
            status = "unavailable"
        elif self._champion.is_fallback or behind or not self._registry.registry_ok:
            status = "degraded"
        else:
            status = "ok"
        return HealthAnswer.model_validate(
            {
                "status": status,
                "db_ok": db_ok,
                "model_loaded": served is not None,
                "model_version": None if served is None else served.predictor.version,
                "model_source": None if served is None else served.source,
                "registry_ok": self._registry.registry_ok,
                "workers_behind": behind,
                "uptime_seconds": round(time.monotonic() - self._started_at, 3),
                "synthetic_data": None
                if served is None
                else bool(served.predictor.artefact.dataset.get("synthetic")),
            }
        )

    async def check_ready(self) -> None:
        """Check that predictions can be answered now.

        Raises
        ------
        ModelUnavailableError, DatabaseUnavailableError
            If they cannot.
        """
        self._champion.serving()
        if not self._answer_unlogged:
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
        return True
