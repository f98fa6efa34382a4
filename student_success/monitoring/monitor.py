"""Monitor the served model: live error and drift, computed in the background from the history.

One worker computes and sets the gauges; the other workers read its report from the database.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from student_success.core import metrics
from student_success.core.clock import iso, now_us
from student_success.core.configuration.settings import Settings
from student_success.core.errors import StudentSuccessError
from student_success.domain.schemas.monitoring import DriftAnswer
from student_success.domain.students import FEATURE_NAMES, Horizon
from student_success.lifecycle.champion import Champion, Served
from student_success.monitoring.drift import VERDICTS, DriftLimits, DriftVerdict, compare
from student_success.storage import observations
from student_success.storage.snapshots import read_snapshot, write_snapshot

if TYPE_CHECKING:
    from sqlalchemy import Engine

logger = logging.getLogger(__name__)

MONITOR_ROWS = 10_000
"""Number of newest predictions, and of newest outcomes, that are looked at."""

DRIFT = "drift"


class Monitor:
    """Compute live error and drift of the served model.

    Parameters
    ----------
    engine
        Database of the history.
    champion
        The served version, whose training data current pupils are compared with.
    """

    def __init__(self, settings: Settings, engine: Engine, champion: Champion) -> None:
        self._settings = settings
        self._engine = engine
        self._champion = champion
        self._limits = DriftLimits(
            minimum_count=settings.drift_minimum_count, distance=settings.drift_minimum_distance
        )
        self._computing = asyncio.Lock()

    async def run(self) -> None:
        """Compute every `monitor_seconds`, for ever."""
        # A gauge starts at zero, which would claim that no outcome is within its interval.
        for gauge in (metrics.live_interval_coverage, metrics.prediction_drift):
            gauge.set(math.nan)
        while True:
            try:
                await asyncio.to_thread(self._measure)
                if self._champion.served is not None:
                    await self._compute(self._champion.served)
            except StudentSuccessError as error:
                logger.warning("monitoring_failed", extra={"reason": error.message})
            except Exception:
                # If this task ended, the last figures would stay for ever.
                logger.exception("monitoring_failed")
            await asyncio.sleep(self._settings.monitor_seconds)

    async def drift(self) -> DriftAnswer:
        """Return the last report on the served version; compute one if there is none yet.

        Raises
        ------
        ModelUnavailableError
            If no model is served.
        DatabaseUnavailableError
            If the database cannot be read or written.
        """
        served = self._champion.serving()
        report = await self._reported(served)
        if report is None:
            async with self._computing:
                # Another request may have computed it meanwhile.
                report = await self._reported(served)
            if report is None:
                report = await self._compute(served)
        return report

    async def _reported(self, served: Served) -> DriftAnswer | None:
        content = await asyncio.to_thread(read_snapshot, self._engine, DRIFT)
        report = None if content is None else DriftAnswer.model_validate_json(content)
        return report if report and report.model_version == served.predictor.version else None

    async def _compute(self, served: Served) -> DriftAnswer:
        async with self._computing:
            return await asyncio.to_thread(self._report, served)

    def _measure(self) -> None:
        """Set the gauges of live error."""
        errors = observations.live(self._engine, limit=MONITOR_ROWS)
        for horizon in Horizon:
            error = errors.get(horizon)
            metrics.live_mae.labels(horizon).set(math.nan if error is None else error.mae)
            metrics.live_outcomes.labels(horizon).set(0 if error is None else error.count)
        total = sum(error.count for error in errors.values())
        within = sum(error.count * error.coverage for error in errors.values())
        metrics.live_interval_coverage.set(within / total if total else math.nan)

    def _report(self, served: Served) -> DriftAnswer:
        """Compare current pupils with the training data, set the gauges and store the report."""
        predictor = served.predictor
        computed_at = iso(now_us())
        current, rows = observations.current_pupils(
            self._engine, limit=MONITOR_ROWS, model_version=predictor.version
        )
        drift = compare(predictor.artefact.drift_reference, current, self._limits)
        verdicts = [
            entry["verdict"] for entry in (*drift["features"].values(), drift["predictions"])
        ]
        report = DriftAnswer.model_validate(
            {
                "computed_at": computed_at,
                "model_version": predictor.version,
                "verdict": max(verdicts, key=VERDICTS.index),
                "rows": rows,
                "minimum_count": self._limits.minimum_count,
                "minimum_distance": self._limits.distance,
                "significance": self._limits.significance,
                **drift,
            }
        )
        for name in FEATURE_NAMES:
            metrics.feature_drift.labels(name).set(_gauge(report.features[name].distance))
        metrics.prediction_drift.set(_gauge(report.predictions.distance))
        metrics.drift_detected.set(verdicts.count(DriftVerdict.DRIFT))
        write_snapshot(self._engine, DRIFT, report.model_dump_json())
        return report


def _gauge(distance: float | None) -> float:
    return math.nan if distance is None else distance
