"""The record of deployments: what is served, rollback in turn, a chain that shows tampering."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, delete, text, update

from student_success.core.errors import BusyError, ConflictError
from student_success.domain.decision import SEED
from student_success.storage import deployments as module
from student_success.storage.deployments import Action, Deployment, Deployments
from student_success.storage.engine import writing
from student_success.storage.tables import deployments as table
from student_success.storage.tables import deployments_head

Add = Callable[..., Deployment]


@pytest.fixture
def record(engine: Engine) -> Deployments:
    return Deployments(engine)


@pytest.fixture
def add(record: Deployments) -> Add:
    def added(version: str, action: Action = "promote") -> Deployment:
        return record.record(
            action,
            to_version=version,
            fingerprint=version * 8,
            actor="admin",
            reason=f"reason é {version}",
            evidence={"mae": 0.9, "conditions": [1, None]},
        )

    return added


def roll_back(record: Deployments, add: Add) -> str:
    target = record.rollback_target()
    return add(SEED if target is None else target.to_version, "rollback").to_version


def test_nothing_is_deployed_at_first(record: Deployments) -> None:
    assert record.current() is None
    assert record.newest_id() == 0
    assert record.page() == []
    assert record.verify() == []


def test_newest_row_is_what_is_served(record: Deployments, add: Add) -> None:
    first = add("1")
    assert (first.from_version, first.to_version) == (SEED, "1")
    second = add("2")
    assert (second.from_version, second.to_version) == ("1", "2")
    assert record.current() == second
    assert record.newest_id() == second.id
    assert record.page() == [second, first]
    assert record.page(limit=1) == [second]
    assert first.evidence == {"mae": 0.9, "conditions": [1, None]}


def test_row_is_shown_with_the_fields_of_the_contract(add: Add) -> None:
    shown = add("1").public()
    assert set(shown) == {
        *("id", "at", "action", "actor", "reason"),
        *("from_version", "to_version", "evidence", "hash"),
    }
    assert shown["at"].endswith("Z")
    assert len(shown["hash"]) == 64


def test_rollbacks_undo_promotions_in_turn(record: Deployments, add: Add) -> None:
    for version in ("1", "2", "3"):
        add(version)
    assert [roll_back(record, add) for _ in range(3)] == ["2", "1", SEED]
    with pytest.raises(ConflictError):
        record.rollback_target()


def test_rollback_goes_back_past_what_was_undone(record: Deployments, add: Add) -> None:
    add("1")
    add("2")
    assert roll_back(record, add) == "1"
    add("3")
    # Version 3 was promoted while 1 served.
    assert roll_back(record, add) == "1"
    assert roll_back(record, add) == SEED


def test_version_promoted_again_is_a_promotion_of_its_own(record: Deployments, add: Add) -> None:
    for version in ("1", "2", "1"):
        add(version)
    assert [roll_back(record, add) for _ in range(3)] == ["2", "1", SEED]


def test_adopted_version_can_be_rolled_back(record: Deployments, add: Add) -> None:
    add("1", "adopt")
    add("2", "adopt")
    assert roll_back(record, add) == "1"


def test_nothing_to_roll_back_is_a_conflict(record: Deployments) -> None:
    with pytest.raises(ConflictError, match="seed"):
        record.rollback_target()


def test_clock_set_back_does_not_disorder_the_record(
    record: Deployments, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([5_000_000, 1_000_000, 0, 9_000_000])
    monkeypatch.setattr(module, "now_us", lambda: next(times))
    rows = [add(str(number)) for number in range(1, 5)]
    assert [row.created_us for row in rows] == [5_000_000, 5_000_001, 5_000_002, 9_000_000]
    assert record.current() == rows[-1]
    assert record.verify() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("created_us", 7),
        ("action", "adopt"),
        ("actor", "somebody"),
        ("reason", None),
        ("from_version", "9"),
        ("to_version", "9"),
        ("fingerprint", "0" * 64),
        ("evidence_json", "{}"),
        ("hash", "0" * 64),
    ],
)
@pytest.mark.parametrize("row", [1, 2, 3])
def test_changed_row_is_detected(
    engine: Engine, record: Deployments, add: Add, row: int, column: str, value: object
) -> None:
    for version in ("1", "2", "3"):
        add(version)
    assert record.verify() == []
    with writing(engine) as connection:
        connection.execute(update(table).where(table.c.id == row).values({column: value}))
    assert record.verify()


@pytest.mark.parametrize("row", [1, 2, 3])
def test_removed_row_is_detected_the_newest_too(
    engine: Engine, record: Deployments, add: Add, row: int
) -> None:
    for version in ("1", "2", "3"):
        add(version)
    with writing(engine) as connection:
        connection.execute(delete(table).where(table.c.id == row))
    assert record.verify()


def test_emptied_record_is_detected(engine: Engine, record: Deployments, add: Add) -> None:
    add("1")
    with writing(engine) as connection:
        connection.execute(delete(table))
    assert record.verify()


def test_removed_row_is_detected_when_others_were_renumbered(
    engine: Engine, record: Deployments, add: Add
) -> None:
    for version in ("1", "2", "3"):
        add(version)
    with writing(engine) as connection:
        connection.execute(delete(table).where(table.c.id == 2))
        connection.execute(update(table).where(table.c.id == 3).values(id=2))
        if engine.dialect.name == "sqlite":
            reset = "UPDATE sqlite_sequence SET seq = 2 WHERE name = 'deployments'"
            connection.execute(text(reset))
    assert record.verify()


def test_record_of_before_its_end_was_remembered_is_whole(
    engine: Engine, record: Deployments, add: Add
) -> None:
    add("1")
    with writing(engine) as connection:
        connection.execute(delete(deployments_head))
    assert record.verify() == []
    add("2")
    assert record.verify() == []


def test_deployment_decided_on_an_older_state_is_refused(record: Deployments, add: Add) -> None:
    """As when the server that kept the lock went away, and somebody else got it."""
    decided_on = add("1").id
    add("2")
    values: dict[str, Any] = {"fingerprint": "x", "actor": "a", "reason": None, "evidence": {}}
    for after in (decided_on, 0):
        with pytest.raises(BusyError):
            record.record("promote", to_version="3", after=after, **values)
    newest = record.newest_id()
    assert record.record("promote", to_version="3", after=newest, **values).to_version == "3"
    assert record.verify() == []


def test_deployments_of_one_moment_make_one_chain(engine: Engine, add: Add) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, [str(number) for number in range(24)]))
    record = Deployments(engine)
    assert len(record.page()) == 24
    assert record.verify() == []


def test_failed_write_adds_nothing(record: Deployments, add: Add) -> None:
    first = add("1")
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.record(
            "promote",
            to_version="2",
            fingerprint="x",
            actor="a",
            reason=None,
            evidence={"mae": float("nan")},
        )
    assert record.page() == [first]
    assert record.verify() == []


def test_alias_is_remembered_and_forgotten(record: Deployments) -> None:
    assert record.alias_state("meilleur").version is None
    record.set_alias_version("meilleur", "3")
    record.set_alias_version("other", "4")
    assert record.alias_state("meilleur").version == "3"
    record.set_alias_version("meilleur", None)
    assert record.alias_state("meilleur").version is None
    assert record.alias_state("other").version == "4"


def test_alias_state_keeps_where_the_alias_is_moving_beside_its_version(
    record: Deployments,
) -> None:
    record.set_alias_version("meilleur", "3")
    record.set_alias_moving_to("meilleur", "4")
    assert record.alias_state("meilleur") == ("3", "4")
    record.set_alias_version("meilleur", "4")
    assert record.alias_state("meilleur") == ("4", "4")
    record.set_alias_moving_to("other", "5")
    assert record.alias_state("other") == (None, "5")
