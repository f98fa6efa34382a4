"""Measure the running service for its alerts: database, audit log, workers and their memory."""

from __future__ import annotations

import asyncio
import logging
import time

from student_success import __version__
from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError
from student_success.core.memory import resident_bytes
from student_success.lifecycle.audit_file import audit_log_problems
from student_success.lifecycle.champion import Champion
from student_success.storage.deployments import Deployments
from student_success.storage.engine import database_bytes

logger = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS = 60.0
"""Alerts read these gauges, so they are set this often at least."""
AUDIT_SECONDS = 600.0
"""Interval at which the whole audit log is read and verified."""


class ServiceState:
    """Set the gauges of one worker; those of the whole server in worker 1 only."""

    def __init__(self, settings: Settings, deployments: Deployments, champion: Champion) -> None:
        self._settings = settings
        self._deployments = deployments
        self._champion = champion
        self._audit_at = 0.0

    async def run(self, worker: int) -> None:
        """Measure every `monitor_seconds`, and at least once a minute, for ever.

        Parameters
        ----------
        worker
            Number of this worker, from 1.
        """
        metrics.remove_files_of_dead_workers()
        metrics.build_info.labels(__version__).set(1)
        metrics.worker_start_time_seconds.labels(str(worker)).set(time.time())
        memory = metrics.worker_memory_bytes.labels(str(worker))
        while True:
            resident = resident_bytes()
            if resident is not None:
                memory.set(resident)
            if worker == 1:
                await asyncio.to_thread(self.measure)
            await asyncio.sleep(min(self._settings.monitor_seconds, LONGEST_INTERVAL_SECONDS))

    def measure(self) -> None:
        """Set the gauges of the server; a failure is logged, not raised."""
        try:
            metrics.database_bytes.set(database_bytes(self._deployments.engine))
            metrics.database_up.set(1)
            metrics.workers_behind.set(self._champion.behind())
            if time.monotonic() >= self._audit_at:
                problems = audit_log_problems(self._deployments, self._settings.state_dir)
                for problem in problems:
                    logger.error("audit_log_broken", extra={"reason": problem})
                metrics.audit_log_problems.set(len(problems))
                self._audit_at = time.monotonic() + AUDIT_SECONDS
        except DatabaseUnavailableError:
            metrics.database_up.set(0)
        except Exception:
            # If this task ended, the last figures would stay for ever.
            logger.exception("monitoring_failed")
