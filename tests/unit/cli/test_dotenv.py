"""Secrets are made, kept from others, and never changed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from student_success.cli.dotenv import STACK_SECRETS, add_secrets, names


def test_every_secret_is_random_and_for_the_owner_alone_when_there_is_no_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / ".env"

    assert add_secrets(path, STACK_SECRETS) == list(STACK_SECRETS)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = [line.split("=", 1)[1] for line in path.read_text("utf-8").splitlines()]
    assert len(set(values)) == len(STACK_SECRETS)
    assert all(len(value) >= 40 for value in values)


def test_what_is_there_stays_and_only_the_missing_is_added(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# ADMIN_TOKEN=no\nexport API_TOKEN='mine'\nS3_SECRET_KEY=\nPORT=8001", "utf-8")
    path.chmod(0o644)

    assert add_secrets(path, ["API_TOKEN", "ADMIN_TOKEN", "S3_SECRET_KEY"]) == [
        "ADMIN_TOKEN",
        "S3_SECRET_KEY",
    ]

    lines = path.read_text("utf-8").splitlines()
    assert lines[:4] == [
        "# ADMIN_TOKEN=no",
        "export API_TOKEN='mine'",
        "S3_SECRET_KEY=",
        "PORT=8001",
    ]
    assert names(path) == {"API_TOKEN", "PORT", "ADMIN_TOKEN", "S3_SECRET_KEY"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_written_when_nothing_is_missing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("ADMIN_TOKEN=a\n", "utf-8")
    path.chmod(0o400)

    assert add_secrets(path, ["ADMIN_TOKEN"]) == []
    assert path.read_text("utf-8") == "ADMIN_TOKEN=a\n"


@pytest.mark.parametrize(
    "line", ["ADMIN_TOKEN=", "ADMIN_TOKEN=   # comment", "ADMIN_TOKEN=''  # none", "ADMIN_TOKEN"]
)
def test_name_without_a_value_gets_one(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"{line}\n", "utf-8")

    assert names(path) == set()
    assert add_secrets(path, ["ADMIN_TOKEN"]) == ["ADMIN_TOKEN"]
    assert names(path) == {"ADMIN_TOKEN"}


def test_value_with_a_dollar_sign_is_not_expanded(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("ADMIN_TOKEN=${ABSENT}\n", "utf-8")

    assert names(path) == {"ADMIN_TOKEN"}
