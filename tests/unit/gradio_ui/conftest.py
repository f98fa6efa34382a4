"""A real API and a real interface in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Server, serving
from tests.ui_server import UiServer, interface


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return an API with its own state."""
    with serving(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture(scope="session")
def ui(api: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UiServer]:
    """Return the interface of that API."""
    with interface(tmp_path_factory.mktemp("ui"), api.url, UI_MAX_UPLOAD_MB="1") as server:
        yield server
