"""The local file of deployment hashes, kept outside the database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from student_success.lifecycle.audit_file import AuditFile
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


def test_check_reports_nothing_if_every_hash_is_in_the_database(
    record: Deployments, tmp_path: Path
) -> None:
    audit_file = AuditFile(tmp_path)
    assert audit_file.check(record.hashes()) == []
    for version in "123":
        audit_file.append(add(record, version))
    add(record, "4")  # deployed by another machine
    assert audit_file.check(record.hashes()) == []


def test_append_writes_a_deployment_once_for_several_workers(
    record: Deployments, tmp_path: Path
) -> None:
    row = add(record, "1")
    for _ in range(3):
        AuditFile(tmp_path).append(row)
    AuditFile(tmp_path).append(None)
    assert (tmp_path / "deployments.anchor").read_text() == f"{row.id} {row.hash}\n"


def test_check_reports_removed_newest_rows(record: Deployments, tmp_path: Path) -> None:
    """Even if somebody who can write the database also removed the head of the chain."""
    audit_file = AuditFile(tmp_path)
    rows = [add(record, version) for version in "123"]
    for row in rows:
        audit_file.append(row)
    with writing(record.engine) as connection:
        connection.execute(table.delete().where(table.c.id > rows[0].id))
        connection.execute(deployments_head.delete())
    assert record.verify() == []
    assert len(audit_file.check(record.hashes())) == 2


def test_check_reports_a_log_that_was_written_anew(record: Deployments, tmp_path: Path) -> None:
    audit_file = AuditFile(tmp_path)
    audit_file.append(add(record, "1"))
    with writing(record.engine) as connection:
        connection.execute(table.delete())
        connection.execute(deployments_head.delete())
        if connection.dialect.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence"))
    add(record, "2")
    assert record.verify() == []
    assert len(audit_file.check(record.hashes())) == 1


def test_append_begins_a_new_line_after_an_incomplete_one(
    record: Deployments, tmp_path: Path
) -> None:
    audit_file = AuditFile(tmp_path)
    first, second = add(record, "1"), add(record, "2")
    audit_file.append(first)
    with (tmp_path / "deployments.anchor").open("a") as file:
        file.write("2 abc")
    audit_file.append(second)
    assert audit_file.check(record.hashes()) == []
    assert len(audit_file.check({first.id: first.hash})) == 1


@pytest.mark.timeout(20)
def test_pipe_in_place_of_the_file_is_reported_and_never_read(
    record: Deployments, tmp_path: Path
) -> None:
    """Reading it would wait for ever, and each `/health` would keep a thread."""
    os.mkfifo(tmp_path / "deployments.anchor")
    audit_file = AuditFile(tmp_path)
    assert audit_file.newest() is None
    [problem] = audit_file.check(record.hashes())
    assert "deployments.anchor is not a file" in problem
