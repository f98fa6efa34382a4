"""What a machine saw of the record, kept beside the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from student_success.lifecycle.audit_file import Anchor
from student_success.storage.deployments import Deployment, Deployments
from student_success.storage.engine import writing
from student_success.storage.tables import deployments as table
from student_success.storage.tables import deployments_head


@pytest.fixture
def record(engine: Engine) -> Deployments:
    return Deployments(engine)


def add(record: Deployments, version: str) -> Deployment:
    return record.record(
        "promote", to_version=version, fingerprint="f", actor="a", reason=None, evidence={}
    )


def test_record_that_holds_what_was_seen_is_whole(record: Deployments, tmp_path: Path) -> None:
    anchor = Anchor(tmp_path)
    assert anchor.check(record.hashes()) == []
    for version in "123":
        anchor.add(add(record, version))
    add(record, "4")  # of another machine, not seen here
    assert anchor.check(record.hashes()) == []


def test_same_row_seen_by_several_workers_stands_there_once(
    record: Deployments, tmp_path: Path
) -> None:
    row = add(record, "1")
    for _ in range(3):
        Anchor(tmp_path).add(row)
    Anchor(tmp_path).add(None)
    assert (tmp_path / "deployments.anchor").read_text() == f"{row.id} {row.hash}\n"


def test_newest_rows_that_are_gone_are_missed(record: Deployments, tmp_path: Path) -> None:
    """Where somebody who can write the database saw to it that it does not show there."""
    anchor = Anchor(tmp_path)
    rows = [add(record, version) for version in "123"]
    for row in rows:
        anchor.add(row)
    with writing(record.engine) as connection:
        connection.execute(table.delete().where(table.c.id > rows[0].id))
        connection.execute(deployments_head.delete())
    assert record.verify() == []
    assert len(anchor.check(record.hashes())) == 2


def test_record_that_was_written_anew_is_not_the_one_that_was_seen(
    record: Deployments, tmp_path: Path
) -> None:
    anchor = Anchor(tmp_path)
    anchor.add(add(record, "1"))
    with writing(record.engine) as connection:
        connection.execute(table.delete())
        connection.execute(deployments_head.delete())
        if connection.dialect.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence"))
    add(record, "2")
    assert record.verify() == []
    assert len(anchor.check(record.hashes())) == 1


def test_line_that_was_cut_off_does_not_spoil_the_next(record: Deployments, tmp_path: Path) -> None:
    anchor = Anchor(tmp_path)
    first, second = add(record, "1"), add(record, "2")
    anchor.add(first)
    with (tmp_path / "deployments.anchor").open("a") as file:
        file.write("2 abc")
    anchor.add(second)
    assert anchor.check(record.hashes()) == []
    assert len(anchor.check({first.id: first.hash})) == 1
