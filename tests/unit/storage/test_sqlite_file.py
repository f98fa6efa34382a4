"""An SQLite file that is removed or replaced while it is open."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from student_success.core.errors import DatabaseUnavailableError
from student_success.storage.engine import connect, reading, writing
from student_success.storage.sqlite_file import allow_creation, database_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.db"


@pytest.fixture
def engines(path: Path) -> Iterator[list[Engine]]:
    """Two engines on one file, as a worker has them, each with an open connection."""
    engines = [connect(f"sqlite:///{path}") for _ in range(2)]
    with writing(engines[0]) as connection:
        connection.exec_driver_sql("CREATE TABLE words (word TEXT)")
    for engine in engines:
        write(engine, "before")
    yield engines
    for engine in engines:
        engine.dispose()


def write(engine: Engine, word: str) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("INSERT INTO words VALUES (?)", (word,))


def check_writes_are_refused(engines: list[Engine]) -> None:
    """Check that none of the engines writes."""
    for engine in engines:
        with pytest.raises(DatabaseUnavailableError):
            write(engine, "lost")


def words(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT word FROM words")]


def test_removed_file_is_not_created_again(path: Path, engines: list[Engine]) -> None:
    path.unlink()
    for engine in engines * 2:
        with pytest.raises(DatabaseUnavailableError):
            words(engine)
        with pytest.raises(DatabaseUnavailableError):
            write(engine, "lost")
    assert not path.exists()


def test_file_that_is_put_back_is_used_again(path: Path, engines: list[Engine]) -> None:
    moved = path.with_suffix(".moved")
    path.rename(moved)
    check_writes_are_refused(engines)
    moved.rename(path)
    for engine in engines:
        write(engine, "after")
        assert "lost" not in words(engine)
    assert words(engines[0]).count("before") == 2
    assert words(engines[1]).count("after") == 2


@pytest.mark.parametrize("noticed_missing", [True, False])
def test_file_put_in_its_place_is_used_without_the_old_log(
    path: Path, engines: list[Engine], noticed_missing: bool
) -> None:
    """SQLite would apply the log of the old file to the new one, and damage it."""
    backup = path.with_suffix(".backup")
    with closing(connect(f"sqlite:///{backup}").raw_connection()) as raw:
        raw.cursor().execute("CREATE TABLE words (word TEXT)")
        raw.cursor().executemany("INSERT INTO words VALUES (?)", [["backup"]] * 5000)
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(1000):
        write(engines[number % 2], "not in the backup" * 20)
    path.unlink()
    if noticed_missing:
        for engine in engines:
            with pytest.raises(DatabaseUnavailableError):
                write(engine, "lost")
    shutil.copy(backup, path)
    for engine in engines:
        write(engine, "after")
    for engine in engines:
        assert words(engine) == ["backup"] * 5000 + ["after"] * 2
        with reading(engine) as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


_OTHER_PROCESS = """
import sys
from student_success.storage.engine import connect, writing

engine = connect(sys.argv[1])
with writing(engine) as connection:
    connection.exec_driver_sql("CREATE TABLE words (word TEXT)")
    connection.exec_driver_sql("INSERT INTO words VALUES ('by the other process')")
print("written", flush=True)
sys.stdin.read()
"""


def test_log_of_another_process_is_kept(path: Path, engines: list[Engine]) -> None:
    """A worker that notices the replacement late must not remove the log of the others."""
    for name in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        name.unlink()
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, f"sqlite:///{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"written\n"
        log = path.with_name(path.name + "-wal")
        inode = log.stat().st_ino
        for engine in engines:
            assert words(engine)[0] == "by the other process"
            write(engine, "by this process")
        assert log.stat().st_ino == inode


def test_log_is_the_newest_one_where_the_file_was_away_before(
    path: Path, engines: list[Engine]
) -> None:
    """The log that was open when the file was missed first is not the one to remove later."""
    backup, moved = path.with_suffix(".backup"), path.with_suffix(".moved")
    with closing(sqlite3.connect(path)) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    path.rename(moved)
    check_writes_are_refused(engines)
    moved.rename(path)
    write(engines[0], "after")
    for engine in engines:
        # The last connection that is closed removes the log; the next one makes another.
        engine.dispose()
    for number in range(1000):
        write(engines[number % 2], "not in the backup" * 20)
    backup.rename(path)
    for engine in engines:
        write(engine, "last")
    for engine in engines:
        assert words(engine) == ["before"] * 2 + ["last"] * 2
        with reading(engine) as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


_LATE_PROCESS = """
import sys
from student_success.storage.engine import connect, writing
from student_success.storage.sqlite_file import check_same_file

engine = connect(sys.argv[1])
with writing(engine) as connection:
    connection.exec_driver_sql("INSERT INTO words VALUES ('by the late process')")
with engine.connect() as connection:
    print("open", flush=True)
    sys.stdin.readline()
    try:
        check_same_file(connection.connection.info)
    except Exception:
        pass
engine.dispose()
print("noticed", flush=True)
sys.stdin.readline()
with writing(engine) as connection:
    connection.exec_driver_sql("INSERT INTO words VALUES ('by the late process')")
"""


def test_new_log_with_the_number_of_the_old_one_is_kept(path: Path, engines: list[Engine]) -> None:
    """File systems give the inode of a removed file to the next one that is created."""
    backup = path.with_suffix(".backup")
    with closing(sqlite3.connect(path)) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    late = subprocess.Popen(
        [sys.executable, "-c", _LATE_PROCESS, f"sqlite:///{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with late:
        assert late.stdin is not None
        assert late.stdout is not None
        assert late.stdout.readline() == "open\n"
        backup.rename(path)
        print("go on", file=late.stdin, flush=True)
        assert late.stdout.readline() == "noticed\n"
        engines[1].dispose()
        write(engines[0], "after")
        print("go on", file=late.stdin, flush=True)
    assert late.returncode == 0
    write(engines[0], "after")
    with closing(sqlite3.connect(path)) as fresh:
        found = [row[0] for row in fresh.execute("SELECT word FROM words")]
    assert found.count("after") == 2
    assert found.count("by the late process") == 1


def remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def remove_log_index(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def move_behind_a_link(path: Path) -> None:
    """Afterwards SQLite makes the log beside the file that the link leads to."""
    moved = path.with_suffix(".moved")
    path.rename(moved)
    path.symlink_to(moved)


@pytest.mark.parametrize("lose_log", [remove_log, remove_log_index, move_behind_a_link])
def test_database_without_its_log_is_unavailable_and_keeps_what_was_committed(
    path: Path, engines: list[Engine], lose_log: Callable[[Path], None]
) -> None:
    """Another connection would begin another log, and the two would damage the file."""
    for number in range(100):
        write(engines[number % 2], "committed")
    lose_log(path)
    check_writes_are_refused(engines * 2)
    for engine in engines:
        engine.dispose()
    with closing(sqlite3.connect(path)) as fresh:
        found = [row[0] for row in fresh.execute("SELECT word FROM words")]
        assert fresh.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found == ["before"] * 2 + ["committed"] * 100


def test_file_put_in_place_of_one_without_its_log_is_used(
    path: Path, engines: list[Engine]
) -> None:
    backup = path.with_suffix(".backup")
    with closing(sqlite3.connect(path)) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    remove_log(path)
    check_writes_are_refused(engines)
    backup.rename(path)
    for engine in engines:
        write(engine, "after")
    assert words(engines[0]) == ["before"] * 2 + ["after"] * 2


def test_file_that_was_away_holds_what_was_committed(path: Path, engines: list[Engine]) -> None:
    """The log is removed when something else is in the place of the file."""
    for number in range(100):
        write(engines[number % 2], "committed")
    moved = path.with_suffix(".moved")
    path.rename(moved)
    path.mkdir()
    check_writes_are_refused(engines * 2)
    path.rmdir()
    moved.rename(path)
    assert words(engines[0]) == ["before"] * 2 + ["committed"] * 100


def test_log_of_a_file_behind_a_link_is_not_applied_to_its_replacement(tmp_path: Path) -> None:
    path, target = tmp_path / "link.db", tmp_path / "elsewhere" / "one.db"
    target.parent.mkdir()
    path.symlink_to(target)
    engine = connect(f"sqlite:///{path}")
    backup = target.with_suffix(".backup")
    with closing(sqlite3.connect(backup)) as raw:
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("CREATE TABLE words (word TEXT)")
        raw.executemany("INSERT INTO words VALUES (?)", [["backup"]] * 5000)
        raw.commit()
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE words (word TEXT)")
    for _ in range(500):
        write(engine, "not in the backup" * 20)
    backup.rename(target)
    write(engine, "after")
    assert words(engine) == ["backup"] * 5000 + ["after"]
    engine.dispose()


def test_missing_file_is_created_if_the_schema_is_about_to_be_made(
    path: Path, engines: list[Engine]
) -> None:
    url = f"sqlite:///{path}"
    before = database_file(url)
    path.unlink()
    assert database_file(url) is None
    allow_creation(url)
    with reading(engines[0]):
        pass
    assert database_file(url) not in (None, before)
