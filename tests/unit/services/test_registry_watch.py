"""The registry watch: it notices a missing registry, and the leader aligns the alias."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError, RegistryUnavailableError
from student_success.services import registry_watch
from student_success.services.registry_watch import RegistryWatch


def run(
    monkeypatch: pytest.MonkeyPatch,
    *,
    peeks: list[tuple[bool, str | None] | Exception],
    leader: bool = True,
    fails: bool = False,
    wanted: Callable[[object], str] = lambda _deployments: "3",
) -> tuple[RegistryWatch, list[str]]:
    """Run the watch for a sequence of looks at the registry; return it and its commands."""
    commands: list[str] = []
    remaining = list(peeks)

    def peek(_settings: Settings) -> tuple[bool, str | None]:
        result = remaining.pop(0) if remaining else peeks[-1]
        if isinstance(result, Exception):
            raise result
        return result

    async def command(_settings: Settings, *name: str, timeout: float) -> dict[str, Any]:
        assert timeout > Settings().train_timeout_seconds, "a comparison may take that long"
        commands.append(" ".join(name))
        if fails and name == ("align-alias",):
            raise RegistryUnavailableError("unavailable")
        return {}

    async def catch_up() -> None:
        commands.append("catch up")

    monkeypatch.setattr(registry_watch.mlflow_http, "peek", peek)
    monkeypatch.setattr(registry_watch, "run_command", command)
    monkeypatch.setattr(registry_watch, "wanted_alias", wanted)
    watch = RegistryWatch(
        settings=Settings(test_alias_check_seconds=0.01),
        deployments=cast("Any", None),
        champion=cast("Any", SimpleNamespace(catch_up=catch_up)),
    )

    async def watch_until_done() -> None:
        task = asyncio.create_task(watch.run(leader=leader))
        async with asyncio.timeout(20):
            while remaining:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    asyncio.run(watch_until_done())
    return watch, commands


def test_leader_aligns_the_alias_when_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, commands = run(monkeypatch, peeks=[(True, "2"), (True, "3")])
    assert watch.registry_ok
    assert [sample.value for sample in metrics.registry_up.collect()[0].samples] == [1]
    assert commands == ["align-alias", "catch up"]


def test_other_workers_do_not_align(monkeypatch: pytest.MonkeyPatch) -> None:
    _, commands = run(monkeypatch, peeks=[(True, "2"), (True, "2")], leader=False)
    assert commands == []


def test_registry_is_reported_missing_and_nothing_is_aligned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, commands = run(monkeypatch, peeks=[(True, "3"), (False, None)])
    assert not watch.registry_ok
    assert [sample.value for sample in metrics.registry_up.collect()[0].samples] == [0]
    assert commands == []


def test_alias_whose_version_cannot_be_checked_is_moved_back_after_bounded_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = registry_watch.ALIAS_TRIES
    watch, commands = run(
        monkeypatch, peeks=[(True, "2")] * (tries + 1) + [(True, "3")], fails=True
    )
    assert commands == ["align-alias"] * tries + ["align-alias --no-adopt", "catch up"]
    assert "moved to version 2" in watch.problems[0]
    assert "version 3 is still served" in watch.problems[0]
    monkeypatch.setattr(registry_watch.time, "monotonic", lambda: watch._problem_until + 1)
    assert watch.problems == []


def test_failed_check_of_an_alias_is_a_problem_of_health(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, commands = run(monkeypatch, peeks=[(True, "2"), (True, "3")], fails=True)
    assert commands == ["align-alias"]
    assert "alias points to version 2" in watch.problems[0]


def test_watch_goes_on_after_an_unexpected_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _ = run(monkeypatch, peeks=[RuntimeError("can't start new thread")])
    assert not watch.registry_ok
    watch, commands = run(monkeypatch, peeks=[PermissionError("mlflow.db"), (True, "2")])
    assert watch.registry_ok
    assert commands[:2] == ["align-alias", "catch up"]


def test_unavailable_database_is_no_problem_of_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_deployments: object) -> str:
        raise DatabaseUnavailableError("The database does not answer.")

    watch, commands = run(monkeypatch, peeks=[(True, "3")] * 5, wanted=unavailable)
    assert commands == []
    assert watch.problems == []
