"""Watch the served model: live error and drift, computed in the background from the history.

One worker computes, sets the gauges, and leaves the report in the database for all the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

from sqlalchemy import Engine, select

from student_success.core import metrics
from student_success.core.clock import iso, now_us
from student_success.core.errors import ModelUnavailableError, StudentSuccessError
from student_success.core.settings import Settings
from student_success.domain.schemas.monitoring import DriftAnswer
from student_success.domain.students import FEATURE_NAMES, Horizon
from student_success.lifecycle.champion import Champion, Served
from student_success.monitoring.drift import Limits, Verdict, compare
from student_success.storage import observations
from student_success.storage.engine import insert_or, reading, writing
from student_success.storage.tables import snapshots

logger = logging.getLogger(__name__)

MONITOR_ROWS = 10_000
"""Newest predictions, and newest outcomes, from which live error and drift are computed."""

DRIFT = "drift"


class Monitor:
    """Compute and tell how the served model fares.

    Parameters
    ----------
    engine
        Database of the history.
    champion
        Whose training data the pupils of today are compared with.
    """

    def __init__(self, settings: Settings, engine: Engine, champion: Champion) -> None:
        self._settings = settings
        self._engine = engine
        self._champion = champion
        self._limits = Limits(
            minimum_count=settings.drift_minimum_count, distance=settings.drift_minimum_distance
        )
        self._computing = asyncio.Lock()

    async def run(self) -> None:
        """Compute again and again, for ever."""
        # A gauge begins at zero, which would say that nothing is ever within its interval.
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
                # A monitor that ended would leave its last figures standing for ever.
                logger.exception("monitoring_failed")
            await asyncio.sleep(self._settings.monitor_seconds)

    async def drift(self) -> DriftAnswer:
        """Return the last report on the version served; make one if there is none yet.

        Raises
        ------
        ModelUnavailableError
            If no model is served.
        DatabaseUnavailableError
            If the database cannot be read or written.
        """
        served = self._champion.served
        if served is None:
            raise ModelUnavailableError("No verified model is loaded.")
        report = await self._reported(served)
        if report is None:
            async with self._computing:
                # Somebody else may have made it meanwhile.
                report = await self._reported(served)
            if report is None:
                report = await self._compute(served)
        return report

    async def _reported(self, served: Served) -> DriftAnswer | None:
        content = await asyncio.to_thread(self._stored)
        report = None if content is None else DriftAnswer.model_validate_json(content)
        return report if report and report.model_version == served.predictor.version else None

    async def _compute(self, served: Served) -> DriftAnswer:
        async with self._computing:
            return await asyncio.to_thread(self._report, served)

    def _stored(self) -> str | None:
        query = select(snapshots.c.content_json).where(snapshots.c.name == DRIFT)
        with reading(self._engine) as connection:
            found: str | None = connection.execute(query).scalar()
        return found

    def _measure(self) -> None:
        """Set the gauges of live error."""
        found = observations.live(self._engine, limit=MONITOR_ROWS)
        for horizon in Horizon:
            part = found.get(horizon)
            metrics.live_mae.labels(horizon).set(math.nan if part is None else part.mae)
            metrics.live_outcomes.labels(horizon).set(0 if part is None else part.count)
        total = sum(part.count for part in found.values())
        within = sum(part.count * part.coverage for part in found.values())
        metrics.live_interval_coverage.set(within / total if total else math.nan)

    def _report(self, served: Served) -> DriftAnswer:
        """Compare, set the gauges of drift, and leave the report for all workers."""
        predictor = served.predictor
        now = now_us()
        seen, rows = observations.seen(
            self._engine, limit=MONITOR_ROWS, model_version=predictor.version
        )
        found = compare(predictor.artefact.drift_reference, seen, self._limits)
        verdicts = [
            entry["verdict"] for entry in (*found["features"].values(), found["predictions"])
        ]
        report = DriftAnswer.model_validate(
            {
                "computed_at": iso(now),
                "model_version": predictor.version,
                "verdict": _overall(verdicts),
                "rows": rows,
                "minimum_count": self._limits.minimum_count,
                "minimum_distance": self._limits.distance,
                "significance": self._limits.significance,
                **found,
            }
        )
        for name in FEATURE_NAMES:
            metrics.feature_drift.labels(name).set(_gauge(report.features[name].distance))
        metrics.prediction_drift.set(_gauge(report.predictions.distance))
        metrics.drift_detected.set(verdicts.count(Verdict.DRIFT))
        self._store(report.model_dump_json(), now)
        return report

    def _store(self, content: str, now: int) -> None:
        values: dict[str, Any] = {"created_us": now, "content_json": content}
        with writing(self._engine) as connection:
            # Each replica has somebody who watches: two may come at once.
            connection.execute(
                insert_or(connection, snapshots)
                .values(name=DRIFT, **values)
                .on_conflict_do_update(index_elements=[snapshots.c.name], set_=values)
            )


def _overall(verdicts: list[Verdict]) -> Verdict:
    if Verdict.DRIFT in verdicts:
        return Verdict.DRIFT
    return Verdict.STABLE if Verdict.STABLE in verdicts else Verdict.TOO_FEW


def _gauge(distance: float | None) -> float:
    return math.nan if distance is None else distance
