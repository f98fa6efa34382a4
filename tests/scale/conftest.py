"""Fixtures of the tests of scaling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scale.postgresql import PostgreSQL


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Return a running database server, or skip where none is installed."""
    server = PostgreSQL()
    try:
        server.start()
        yield server
    finally:
        server.close()
