"""The web server's protocol that is changed here is as it was when that was written."""

from __future__ import annotations

import importlib.metadata
import inspect
import resource
from typing import Any

import pytest
import uvicorn.config
from uvicorn.protocols.http import auto, httptools_impl

from student_success.server import uvicorn_connection
from student_success.server.uvicorn_connection import OTHER_DESCRIPTORS, Connection, install


def test_version_is_one_these_changes_were_made_for() -> None:
    assert importlib.metadata.version("uvicorn").startswith("0.54."), (
        "look at student_success/server/uvicorn_connection.py again, then at this line"
    )
    assert auto.AutoHTTPProtocol is httptools_impl.HttpToolsProtocol


def test_protocol_has_the_parts_that_are_used_here() -> None:
    source = inspect.getsource(httptools_impl)
    for part in (
        "self.connections.add(self)",
        "self.send_400_response(msg)",
        "self.cycle.more_body = False",
        "self.scope = {",
        "scope=self.scope,",
        "self.pipeline.appendleft",
        "self.disconnected = False",
        "self.message_event = message_event",
        "self.response_started = False",
        "self.response_complete = False",
        "def _should_upgrade_to_ws(self) -> bool:",
    ):
        assert part in source


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = dict(uvicorn.config.HTTP_PROTOCOLS)
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", found)
    return found


@pytest.mark.parametrize(
    ("limits", "asked", "most"),
    [
        ((1024, 1 << 20), 4096 + OTHER_DESCRIPTORS, 4096),
        ((1024, 2048), 2048, 2048 - OTHER_DESCRIPTORS),
        ((1024, resource.RLIM_INFINITY), 4096 + OTHER_DESCRIPTORS, 4096),
        ((1 << 20, 1 << 20), None, 4096),
        ((128, 128), 128, 64),
    ],
)
def test_connections_leave_descriptors_to_the_rest(
    protocols: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    asked: int | None,
    most: int,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(uvicorn_connection.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(
        uvicorn_connection.resource, "setrlimit", lambda _, pair: set_to.append(pair)
    )
    install(3.5)
    kind = protocols["auto"]
    assert issubclass(kind, Connection)
    assert (kind.patience, kind.most) == (3.5, most)
    assert set_to == ([] if asked is None else [(asked, limits[1])])
