"""Health and readiness."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError, ModelUnavailableError
from student_success.services.health import Health


class Champion:
    def __init__(
        self,
        *,
        version: str | None = "3",
        is_fallback: bool = False,
        behind: int = 0,
        missing: str | None = None,
        error: Exception | None = None,
    ) -> None:
        self.problem = "No verified model is loaded."
        self.missing = missing
        self.error = error
        self.is_fallback = is_fallback
        self.workers_behind = behind
        self.served: Any = None
        if version is not None:
            predictor = SimpleNamespace(version=version, synthetic=True)
            self.served = SimpleNamespace(predictor=predictor, source="mlflow")

    def serving(self) -> Any:
        if self.served is None:
            raise ModelUnavailableError("No verified model is loaded.")
        return self.served

    def behind(self) -> int:
        if self.error is not None:
            raise self.error
        return self.workers_behind

    def missing_deployments(self) -> str | None:
        return self.missing


class History:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        time.sleep(0.05)
        if self.fails:
            raise DatabaseUnavailableError("unavailable")


def health(
    champion: Champion | None = None,
    history: History | None = None,
    *,
    registry_ok: bool = True,
    answer_unlogged: bool = False,
) -> Health:
    return Health(
        settings=Settings(answer_unlogged=answer_unlogged),
        champion=cast("Any", champion or Champion()),
        history=cast("Any", history or History()),
        registry=cast("Any", SimpleNamespace(registry_ok=registry_ok, problems=[])),
    )


@pytest.mark.parametrize(
    ("service", "status"),
    [
        (health(), "ok"),
        (health(Champion(version=None)), "unavailable"),
        (health(history=History(fails=True)), "unavailable"),
        (health(Champion(is_fallback=True)), "degraded"),
        (health(Champion(behind=1)), "degraded"),
        (health(registry_ok=False), "degraded"),
        (health(Champion(missing="Deployment 4 is not in the database.")), "degraded"),
        (health(Champion(error=OSError(24, "Too many open files"))), "degraded"),
    ],
)
def test_report_names_the_state(service: Health, status: str) -> None:
    answer = asyncio.run(service.report())
    assert answer.status == status
    assert bool(answer.problems) == (status != "ok")
    assert answer.model_loaded == (answer.model_version == "3")


def test_check_ready_raises_when_the_model_or_the_history_is_unavailable() -> None:
    asyncio.run(health().check_ready())
    with pytest.raises(ModelUnavailableError):
        asyncio.run(health(Champion(version=None)).check_ready())
    with pytest.raises(DatabaseUnavailableError):
        asyncio.run(health(history=History(fails=True)).check_ready())
    asyncio.run(health(history=History(fails=True), answer_unlogged=True).check_ready())


def test_concurrent_requests_share_one_check_of_the_database() -> None:
    history = History()
    service = health(history=history)

    async def ask() -> None:
        await asyncio.gather(*(service.check_ready() for _ in range(20)))

    asyncio.run(ask())
    assert history.checks == 1
