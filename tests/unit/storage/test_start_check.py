"""The database that a start is refused with, or goes on with."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from sqlalchemy import make_url

from student_success.core.errors import ConfigurationError
from student_success.storage.migrate import migrate
from student_success.storage.start_check import (
    SCHEMA_REVISION,
    check_database,
    check_local_disk,
    network_file_system,
    sqlite_path,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.db"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////srv/state/history.db",
        "sqlite:///relative/history.db",
        "sqlite:////srv/été 1 %20/a#b.db",
        "sqlite:////srv/history.db?timeout=5",
        "sqlite+pysqlite:////srv/history.db",
        "sqlite:///:memory:",
    ],
)
def test_path_is_the_one_that_sqlalchemy_opens(url: str) -> None:
    assert sqlite_path(url) == Path(make_url(url).database or "")


def test_server_has_no_path() -> None:
    assert sqlite_path("postgresql+psycopg://u:p@host/name") is None


@pytest.mark.parametrize(
    "url",
    ["s3cret", "sqlite:/s3cret", "postgresql+psycopg2://u:s3cret@h/d", "sqlite+s3cret:///one.db"],
)
def test_url_that_cannot_work_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
        check_database(url)
    assert "s3cret" not in refused.value.message


def test_own_database_is_accepted_new_empty_and_migrated(tmp_path: Path, path: Path) -> None:
    url = f"sqlite:///{path}"
    check_database(url)
    assert not path.exists()
    path.touch()
    check_database(url)
    migrate(url, state_dir=tmp_path)
    check_database(url)
    assert [file.name for file in tmp_path.glob("one.db*")] == ["one.db"]


@pytest.mark.parametrize("end", ["", "?timeout=5"])
def test_newer_schema_is_refused_whatever_the_form_of_the_url(path: Path, end: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", [SCHEMA_REVISION + "1"])
    with pytest.raises(ConfigurationError, match="newer version"):
        check_database(f"sqlite:///{path}{end}")


def test_locked_file_is_only_unavailable(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with caplog.at_level(logging.WARNING):
            check_database(f"sqlite:///{path}")
    assert [record.message for record in caplog.records] == ["database_not_checked"]


class Mount(NamedTuple):
    """What psutil says of a mounted file system."""

    mountpoint: str
    fstype: str
    opts: str = "rw"


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Mount]:
    found = [Mount("/", "ext4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    return found


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nfs4", "rw"),
        ("cifs", "rw"),
        ("fuse.sshfs", "rw"),
        ("9p", "rw,aname=drvfs;path=C:"),
    ],
)
def test_start_with_sqlite_on_a_network_file_system_is_refused_in_words(
    mounts: list[Mount], path: Path, kind: str, options: str
) -> None:
    mounts.append(Mount(str(path.parent), kind, options))
    with pytest.raises(ConfigurationError, match=rf"network file system \({kind}\).*STATE_DIR"):
        check_database(f"sqlite:///{path}")
    assert not path.exists()
    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_URI"):
        check_local_disk(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["http://mlflow:5000", "postgresql+psycopg://u:p@host/name"])
def test_server_is_accepted_whatever_the_file_system(mounts: list[Mount], url: str) -> None:
    mounts.append(Mount("/", "nfs4"))
    check_local_disk(url)


def test_network_file_system_behind_a_link_is_found(mounts: list[Mount], path: Path) -> None:
    share = path.parent / "share"
    share.mkdir()
    link = path.parent / "link"
    link.symlink_to(share)
    mounts.append(Mount(str(share), "nfs4"))
    assert network_file_system(link / "one.db") == "nfs4"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "tmpfs", "9p", "virtiofs"])
def test_local_file_system_is_accepted(mounts: list[Mount], path: Path, kind: str) -> None:
    # Also below a share, and instead of one that was mounted there before.
    mounts.insert(0, Mount(str(path.parent.parent), "nfs4"))
    mounts.append(Mount(str(path.parent), "nfs4"))
    mounts.append(Mount(str(path.parent), kind))
    check_database(f"sqlite:///{path}")


def test_local_file_beside_a_share_with_a_similar_name_is_accepted(
    mounts: list[Mount], path: Path
) -> None:
    mounts.append(Mount(str(path.parent / "on"), "nfs4"))
    assert network_file_system(path) is None


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, psutil.AccessDenied])
def test_database_is_accepted_if_the_file_systems_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, path: Path, error: type[Exception]
) -> None:
    def fails(*, all: bool) -> list[Mount]:
        raise error

    monkeypatch.setattr(psutil, "disk_partitions", fails)
    check_local_disk(f"sqlite:///{path}")


def test_file_system_of_this_test_is_read() -> None:
    assert any(mount.mountpoint == "/" for mount in psutil.disk_partitions(all=True))
