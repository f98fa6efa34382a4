"""A database written by an earlier version is brought up to date with everything it holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, select, text, update

from student_success.storage.deployments import _GENESIS, Deployments, _chain
from student_success.storage.inference_log.history import History
from student_success.storage.migrate import MIGRATIONS, migrate, schema_revision
from student_success.storage.tables import inference_logs, outcomes
from tests.unit.storage.inference_log.test_history import row as prediction_row

ALIAS = "meilleur"


def change_schema(engine: Engine, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


@pytest.fixture
def old(engine: Engine) -> Engine:
    """Return a database at revision 0003, with rows as version 1.0 wrote them."""
    change_schema(engine, "0003", down=True)
    prediction = prediction_row(1, session="class-a")._asdict()
    del prediction["interval_level"]
    prediction["predicted_g3"] = prediction.pop("predicted_grade")
    outcome = {
        "prediction_id": prediction["prediction_id"],
        "session_id": "class-a",
        "actual_g3": 13,
        "created_us": 2,
    }
    deployment = {
        "created_us": 1,
        "action": "promote",
        "actor": "admin",
        "reason": None,
        "from_version": "seed",
        "to_version": "3",
        "fingerprint": "f" * 64,
        "evidence_json": "{}",
    }
    deployment["hash"] = _chain(_GENESIS, deployment)
    tables = {
        "inference_logs": [prediction],
        "outcomes": [outcome],
        "deployments": [{"id": 1, **deployment}],
        "snapshots": [
            {
                "name": "last-deployment",
                "created_us": 1,
                "content_json": json.dumps({"hash": deployment["hash"]}),
            },
            {"name": "drift", "created_us": 1, "content_json": "{}"},
        ],
        "alias_state": [
            {"name": ALIAS, "version": "3", "updated_us": 1},
            {"name": f"{ALIAS} (moving)", "version": "4", "updated_us": 2},
        ],
        "idempotency_keys": [
            {
                "key_hash": "probe",
                "body_hash": "",
                "session_id": "",
                "answer": b"",
                "created_us": 0,
            }
        ],
    }
    with engine.begin() as connection:
        for table, rows in tables.items():
            for row in rows:
                columns = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)
    return engine


def names(engine: Engine, table: str, column: str) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(text(f"SELECT {column} FROM {table}")).scalars())


def test_old_database_keeps_its_rows_audit_log_and_alias(
    old: Engine, database_url: str, tmp_path: Path
) -> None:
    migrate(database_url, state_dir=tmp_path)

    [shown] = History(old).page(limit=10)
    # As text: 10 is not 10.0 to a client.
    assert json.dumps(shown["interval"]) == '{"low": 10, "high": 14, "level": 0.9}'
    assert json.dumps([shown["predicted_G3"], shown["actual_G3"]]) == "[12.5, 13]"
    record = Deployments(old)
    assert record.verify() == []
    assert record.alias_state(ALIAS) == ("3", "4")
    assert names(old, "snapshots", "name") == ["drift"]
    assert names(old, "idempotency_keys", "key_hash") == []
    assert names(old, "alias_state", "name") == [ALIAS]


def test_migrated_database_holds_grades_of_any_scale_and_long_horizons(
    old: Engine, database_url: str, tmp_path: Path
) -> None:
    migrate(database_url, state_dir=tmp_path)
    horizon = "+".join(f"period_{number}" for number in range(8))
    with old.begin() as connection:
        connection.execute(update(inference_logs).values(interval_low=1.5, horizon=horizon))
        connection.execute(update(outcomes).values(actual_grade=97.5))
    with old.connect() as connection:
        assert connection.execute(
            select(inference_logs.c.interval_low, inference_logs.c.horizon)
        ).one() == (1.5, horizon)
        assert connection.execute(select(outcomes.c.actual_grade)).scalar_one() == 97.5


def test_removed_newest_row_is_still_detected_in_a_migrated_database(
    old: Engine, database_url: str, tmp_path: Path
) -> None:
    migrate(database_url, state_dir=tmp_path)
    with old.begin() as connection:
        connection.execute(text("DELETE FROM deployments"))
    assert Deployments(old).verify() != []


def test_downgrade_gives_an_earlier_version_what_it_wrote(
    old: Engine, database_url: str, tmp_path: Path
) -> None:
    before = {
        (table, column): names(old, table, column)
        for table, column in (("snapshots", "content_json"), ("alias_state", "name"))
    }
    migrate(database_url, state_dir=tmp_path)
    change_schema(old, "0003", down=True)
    assert schema_revision(old) == "0003"
    assert {place: names(old, *place) for place in before} == before
