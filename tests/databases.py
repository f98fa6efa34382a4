"""Databases for the tests: SQLite, or a PostgreSQL server where one is named.

With TEST_DATABASE_SERVER=postgresql+psycopg://user@host:port, each test that needs a database gets
its own on that server, which is dropped after the test.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

SERVER = os.environ.get("TEST_DATABASE_SERVER")


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def connected(url: str) -> psycopg.Connection[Any]:
    """Connect with the database driver, without SQLAlchemy; each statement commits."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


@contextlib.contextmanager
def database(template: str | None = None) -> Iterator[str]:
    """Create a database on the server for the block, as a copy of the template if one is given."""
    assert SERVER is not None
    name = f"test_{uuid.uuid4().hex}"
    source = f" TEMPLATE {make_url(template).database}" if template else ""
    with connected(f"{SERVER}/postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}{source}".encode())
        try:
            yield f"{SERVER}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def ids(url: str) -> list[int]:
    """Return the numbers of the predictions in the history, oldest first."""
    query = "SELECT prediction_id FROM inference_logs ORDER BY id"
    if not is_sqlite(url):
        with connected(url) as server:
            return [int(text, 16) for (text,) in server.execute(query)]
    with contextlib.closing(sqlite3.connect(file_of(url))) as connection:
        return [int(text, 16) for (text,) in connection.execute(query)]


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Prevent all other connections from writing during the block."""
    if not is_sqlite(url):
        tables = "inference_logs, outcomes, idempotency_keys, jobs, deployments, health_probe"
        with connected(url) as server, server.transaction():
            server.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE".encode())
            yield
        return
    holder = sqlite3.connect(file_of(url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.rollback()
        holder.close()
