"""A start that cannot succeed is refused in one sentence with exit status 2."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.server import ROOT, Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Case = Callable[[Path], dict[str, str]]


def in_place_of(*names: str, make: Callable[[Path], object]) -> Case:
    def make_case(state: Path) -> dict[str, str]:
        path = state.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        return {}

    return make_case


def folder_in_place_of(*names: str) -> Case:
    return in_place_of(*names, make=Path.mkdir)


def file_in_place_of(*names: str) -> Case:
    return in_place_of(*names, make=lambda path: path.write_text("something else"))


def link_in_place_of(*names: str, to: str) -> Case:
    """A link that leads nowhere does not exist for `Path.exists`, but prevents `mkdir`."""
    return in_place_of(*names, make=lambda path: path.symlink_to(to))


def pipe_in_place_of(*names: str) -> Case:
    """A program that opens a pipe to read waits until another one opens it to write."""
    return in_place_of(*names, make=os.mkfifo)


def damaged_database(state: Path) -> dict[str, str]:
    newer_schema(state)
    file = state / "student_success.db"
    content = bytearray(file.read_bytes())
    content[100:4000] = b"\xff" * 3900
    file.write_bytes(content)
    return {}


def setting(**values: str) -> Case:
    return lambda _: values


def newer_schema(state: Path) -> dict[str, str]:
    state.mkdir()
    with closing(sqlite3.connect(state / "student_success.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    return {}


CASES: dict[str, tuple[Case, str]] = {
    "model name with a blank": (setting(MODEL_NAME="my model"), "MODEL_NAME"),
    "model name in capitals": (setting(MODEL_NAME="Grades"), "MODEL_NAME"),
    "alias like a version": (setting(MODEL_ALIAS="v1"), "MODEL_ALIAS"),
    "alias of MLflow": (setting(MODEL_ALIAS="latest"), "MODEL_ALIAS"),
    "URL that is none": (setting(DATABASE_URL="not a url s3cret"), "DATABASE_URL"),
    "database of another kind": (setting(DATABASE_URL="mysql://u:s3cret@h/d"), "mysql is neither"),
    "registry of another kind": (
        setting(MLFLOW_TRACKING_URI="postgresql://h/m"),
        "MLFLOW_TRACKING",
    ),
    "missing driver": (setting(DATABASE_URL="postgresql+psycopg2://u:s3cret@h/d"), "driver"),
    "database is a folder": (folder_in_place_of("student_success.db"), "is not a file"),
    "database is a pipe": (pipe_in_place_of("student_success.db"), "is not a file"),
    "database is a device": (link_in_place_of("student_success.db", to="/dev/zero"), "not a file"),
    "database is a circle": (
        link_in_place_of("student_success.db", to="student_success.db"),
        "cannot be opened (Too many levels of symbolic links)",
    ),
    "database is damaged": (damaged_database, "is damaged"),
    "log is a folder": (folder_in_place_of("student_success.db-wal"), "-wal is not a file"),
    "index of the log": (pipe_in_place_of("student_success.db-shm"), "-shm is not a file"),
    "database is a text": (file_in_place_of("student_success.db"), "is not an SQLite database"),
    "folder of the database": (setting(DATABASE_URL="sqlite:////dev/null/one.db"), "its folder"),
    "newer schema": (newer_schema, "newer version"),
    "state directory is a file": (file_in_place_of(), "STATE_DIR"),
    "state directory is a circle": (
        link_in_place_of(to="state"),
        "Too many levels of symbolic links",
    ),
    "state directory is too long": (
        setting(STATE_DIR="/tmp/" + "x" * 300),
        "cannot be read (File name too long)",
    ),
    "home folder of a user that does not exist": (
        setting(STATE_DIR="~nobody-here/state"),
        "STATE_DIR: Value error",
    ),
    "settings are a folder": (folder_in_place_of(".env"), ".env is a folder"),
    "Bento store is a file": (file_in_place_of("bentoml"), "BENTOML_HOME"),
    "status of the workers": (
        link_in_place_of("workers", to="nowhere"),
        "workers must be a folder",
    ),
    "recorded profile": (pipe_in_place_of("profile.json"), "profile.json must be a file"),
    "audit file": (pipe_in_place_of("deployments.anchor"), "deployments.anchor must be a file"),
    "server lock": (folder_in_place_of("server.lock"), "server.lock must be a file"),
    "migration lock": (folder_in_place_of("migration.lock"), "migration.lock must be a file"),
    "training lock": (folder_in_place_of("locks", "training.lock"), "training.lock must be a file"),
    "folder of locks": (file_in_place_of("locks"), "locks must be a folder"),
    "address of another machine": (setting(HOST="203.0.113.1", API_TOKEN="t" * 40), "203.0.113.1"),
}


def start(state: Path, settings: dict[str, str]) -> str:
    """Start a server, which must exit with status 2; return what it prints."""
    server = Server(state, **settings)
    ended = subprocess.run(
        [sys.executable, "-m", "student_success", "serve"],
        env=dict(server.environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    text = ended.stdout + ended.stderr
    assert ended.returncode == 2, text
    assert "Traceback" not in text
    assert "s3cret" not in text
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith("Other users")]
    assert len(errors) <= 2, text
    return text


@pytest.mark.parametrize("name", CASES)
def test_start_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    case, expected = CASES[name]
    state = tmp_path / "state"
    assert expected in start(state, case(state))


@pytest.mark.parametrize("port", ["PORT", "UI_PORT"])
def test_start_is_refused_on_a_port_in_use(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        settings = {port: number, "UI_ENABLED": "true"}
        assert f"{port} {number} on 127.0.0.1" in start(tmp_path / "state", settings)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the rights to become another user")
def test_start_is_refused_in_the_state_directory_of_another_user() -> None:
    code = """
import os, sys
from pathlib import Path
from student_success.core.errors import ConfigurationError
from student_success.core.state_files import check_state_dir
os.setuid(65534)
try:
    check_state_dir(Path(sys.argv[1]))
except ConfigurationError as error:
    print(error.message)
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        state = Path(folder, "state")
        state.mkdir(mode=0o700)
        message = subprocess.run(
            [sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    assert f"this user may not write STATE_DIR {state}" in message
