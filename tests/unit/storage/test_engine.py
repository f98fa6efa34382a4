"""The schema, its migrations, times, and SQLite as it is set up here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from student_success.core.clock import iso, now_us
from student_success.core.errors import ConfigurationError, DatabaseUnavailableError
from student_success.core.paths import ROOT
from student_success.storage.engine import connect, reading, writing
from student_success.storage.migrate import MIGRATIONS, SCHEMA_REVISION, migrate, schema_revision
from student_success.storage.tables import deployments, inference_logs, jobs, metadata, outcomes
from tests import databases


@pytest.fixture
def fresh_url(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without tables."""
    if databases.SERVER is None:
        yield f"sqlite:///{tmp_path}/new/one.db"
        return
    with databases.database() as url:
        yield url


@pytest.fixture
def fresh(fresh_url: str) -> Iterator[Engine]:
    made = connect(fresh_url)
    yield made
    made.dispose()


def pragma(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def outcome(prediction_id: str) -> dict[str, Any]:
    return {
        "prediction_id": prediction_id,
        "session_id": "s",
        "actual_grade": 10,
        "created_us": 1,
    }


def test_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_migrated_tables_are_those_the_code_declares(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert schema_revision(engine) == SCHEMA_REVISION


def test_declared_tables_are_migrated_column_by_column(
    engine: Engine, fresh: Engine, path: Path
) -> None:
    """Also where the comparison above is blind: defaults, primary keys, autoincrement."""
    metadata.create_all(fresh)

    def described(one: Engine) -> dict[str, Any]:
        with one.connect() as connection:
            tables = connection.exec_driver_sql(
                "SELECT name, sql LIKE '%AUTOINCREMENT%' FROM sqlite_master WHERE type = 'table'"
                " AND name NOT IN ('alembic_version', 'sqlite_sequence')"
            ).all()
            return {
                name: (
                    counted,
                    connection.exec_driver_sql(f"PRAGMA table_info({name})").all(),
                    sorted(
                        tuple(row[2:4])
                        for row in connection.exec_driver_sql(f"PRAGMA index_list({name})")
                    ),
                )
                for name, counted in tables
            }

    assert described(engine) == described(fresh)


def test_empty_database_has_no_revision(fresh: Engine) -> None:
    assert schema_revision(fresh) is None


def move(engine: Engine, revision: str) -> None:
    """Take the schema to a revision, up or down, as an operator would with alembic."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    down = revision == "base" or (schema_revision(engine) or "") > revision
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


def test_schema_goes_down_and_up_again_and_rows_stay(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(outcomes).values(outcome("kept")))
    for revision in ("0002", "0001", "0002", SCHEMA_REVISION):
        move(engine, revision)
        assert schema_revision(engine) == revision
    with reading(engine) as connection:
        assert connection.execute(select(outcomes.c.prediction_id)).scalars().all() == ["kept"]
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_schema_goes_away_whole(engine: Engine) -> None:
    move(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    move(engine, SCHEMA_REVISION)
    assert set(metadata.tables) <= set(inspect(engine).get_table_names())


def test_migration_may_be_repeated(engine: Engine, database_url: str, tmp_path: Path) -> None:
    with writing(engine) as connection:
        connection.execute(insert(outcomes).values(outcome("kept")))
    migrate(database_url, state_dir=tmp_path)
    with reading(engine) as connection:
        assert connection.execute(select(outcomes.c.prediction_id)).scalars().all() == ["kept"]


def test_processes_that_migrate_at_once_do_not_disturb_each_other(
    fresh_url: str, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from student_success.storage.migrate import migrate\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"migrate({fresh_url!r}, state_dir=Path({str(tmp_path)!r}))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    engine = connect(fresh_url)
    assert schema_revision(engine) == SCHEMA_REVISION
    engine.dispose()


def test_database_of_a_newer_program_is_left_alone(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer version"):
        migrate(database_url, state_dir=tmp_path)
    assert schema_revision(engine) == "9999"


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"\0" * 4096])
def test_file_that_is_no_database_is_said_to_be_unavailable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.db").write_bytes(content)
    with pytest.raises(DatabaseUnavailableError):
        migrate(f"sqlite:///{tmp_path}/bad.db", state_dir=tmp_path)


def test_server_that_is_away_is_said_to_be_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError):
        migrate("postgresql+psycopg://u:secret@127.0.0.1:1/none", state_dir=tmp_path)


@given(st.integers(0, 4_000_000_000_000_000))
def test_time_is_written_exactly_and_sorts_as_text(us: int) -> None:
    written = iso(us)
    assert len(written) == len("2026-11-23T08:00:00.000000Z")
    moment = datetime.fromisoformat(written)
    assert moment.tzinfo is not None
    assert round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6) == us or (
        moment.microsecond == us % 1_000_000 and int(moment.timestamp()) == us // 1_000_000
    )
    assert iso(us) <= iso(us + 1)


def test_clock_counts_microseconds_since_1970() -> None:
    assert abs(now_us() / 1e6 - datetime.now(UTC).timestamp()) < 5


def test_sqlite_is_set_up_for_safety(engine: Engine, path: Path, database_url: str) -> None:
    assert pragma(engine, "journal_mode") == "wal"
    assert pragma(engine, "secure_delete") == 1
    assert pragma(engine, "foreign_keys") == 1
    assert pragma(engine, "synchronous") == 1
    full = connect(database_url, synchronous="FULL")
    assert pragma(full, "synchronous") == 2
    full.dispose()


def test_reader_sees_one_moment_while_others_write(engine: Engine) -> None:
    with reading(engine) as seen:
        assert seen.execute(select(outcomes)).all() == []
        with writing(engine) as connection:
            connection.execute(insert(outcomes).values(outcome("a")))
        assert seen.execute(select(outcomes)).all() == []
    with reading(engine) as seen:
        assert len(seen.execute(select(outcomes)).all()) == 1


def test_failed_write_leaves_nothing_and_tells_no_value(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def write_twice() -> None:
        with writing(engine) as connection:
            connection.execute(insert(outcomes).values(outcome("secret-id")))
            connection.execute(insert(outcomes).values(outcome("secret-id")))

    with pytest.raises(DatabaseUnavailableError) as caught:
        write_twice()
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert "secret-id" not in str(caught.value)
    assert "secret-id" not in caplog.text
    assert "secret-id" not in str(caught.value.__cause__)
    with reading(engine) as connection:
        assert connection.execute(select(outcomes)).all() == []


def test_locked_database_is_unavailable_not_a_crash(database_url: str) -> None:
    impatient = connect(database_url, busy_seconds=0.05)
    with (
        databases.locked(database_url),
        pytest.raises(DatabaseUnavailableError),
        writing(impatient) as connection,
    ):
        connection.execute(insert(outcomes).values(outcome("a")))
    impatient.dispose()


def test_folder_of_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    connect(f"sqlite:///{tmp_path}/made/one.db").dispose()
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("table", [inference_logs, deployments], ids=str)
def test_ids_are_never_given_twice(engine: Engine, table: Any) -> None:
    filled = {
        column.name: 1 if column.type.python_type in (int, float, bool) else "x"
        for column in table.columns
        if column.name != "id"
    }
    with writing(engine) as connection:
        first = connection.execute(insert(table).values(filled)).inserted_primary_key
    with writing(engine) as connection:
        connection.execute(table.delete())
    with writing(engine) as connection:
        second = connection.execute(insert(table).values(filled)).inserted_primary_key
    assert second is not None
    assert first is not None
    assert second[0] > first[0]


def test_every_time_in_the_tables_is_a_whole_number() -> None:
    for table in metadata.tables.values():
        for column in table.columns:
            if column.name.endswith("_us"):
                assert column.type.python_type is int
    assert jobs.c.finished_us.nullable
