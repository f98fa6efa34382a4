"""Limits on connections, and how they are installed in uvicorn."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import uvicorn.config

from student_success.server import uvicorn_connection
from student_success.server.uvicorn_connection import RESERVED_DESCRIPTORS, Connection, install


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    copy: dict[str, Any] = dict(uvicorn.config.HTTP_PROTOCOLS)
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", copy)
    return copy


@pytest.mark.parametrize(
    ("limits", "raised_to", "max_connections"),
    [
        ((1024, 1 << 20), 4096 + RESERVED_DESCRIPTORS, 4096),
        ((1024, 2048), 2048, 2048 - RESERVED_DESCRIPTORS),
        ((1024, resource.RLIM_INFINITY), 4096 + RESERVED_DESCRIPTORS, 4096),
        ((1 << 20, 1 << 20), None, 4096),
        ((128, 128), 128, 64),
    ],
)
def test_connection_limit_reserves_file_descriptors(
    protocols: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    raised_to: int | None,
    max_connections: int,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(uvicorn_connection.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(
        uvicorn_connection.resource, "setrlimit", lambda _, pair: set_to.append(pair)
    )
    install(3.5)
    protocol = protocols["auto"]
    assert issubclass(protocol, Connection)
    assert (protocol.timeout_seconds, protocol.max_connections) == (3.5, max_connections)
    assert set_to == ([] if raised_to is None else [(raised_to, limits[1])])
