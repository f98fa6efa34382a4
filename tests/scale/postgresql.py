"""Start a PostgreSQL server for tests: Debian's binaries, a temporary folder, a free port."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from student_success.core.subprocesses import die_with_parent
from tests.server import free_port

READY_SECONDS = 60.0
Mode = Literal["fast", "immediate"]
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_numbers = itertools.count(1)


def binaries() -> Path:
    """Return the folder with `initdb` and `postgres`, or skip."""
    named = shutil.which("initdb")
    folders = [Path(named).resolve().parent] if named else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


class PostgreSQL:
    """A server as installed: it waits for the disk at each commit."""

    def __init__(self) -> None:
        self.bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="student-success-postgresql-"))
        self.port = free_port()
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        subprocess.run(
            [
                self.bin / "initdb",
                "--pgdata=" + str(self.data),
                "--username=tester",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            **self.account,
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def server_url(self) -> str:
        """SQLAlchemy URL without a database's name."""
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}"

    def url(self, database: str) -> str:
        return f"{self.server_url}/{database}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.bin / "postgres",
                    "-D",
                    self.data,
                    "-p",
                    str(self.port),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "unix_socket_directories=",
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                **self.account,
            )
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text("utf-8", "replace")
            try:
                self.query("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"PostgreSQL is not ready after {READY_SECONDS} s")

    def stop(self, mode: Mode = "fast") -> None:
        """End it as `pg_ctl stop -m MODE` does; "immediate" is a crash, without a last flush."""
        assert self.process is not None
        self.process.send_signal(_SIGNALS[mode])
        self.process.wait(60)
        self.process = None

    def restart(self, mode: Mode, *, away_seconds: float = 0.0) -> None:
        self.stop(mode)
        time.sleep(away_seconds)
        self.start()

    def close(self) -> None:
        if self.process is not None:
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def query(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction; return its rows."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="tester",
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Make an empty database; return its name."""
        name = f"test_{next(_numbers)}"
        self.query(f"CREATE DATABASE {name}")
        return name
