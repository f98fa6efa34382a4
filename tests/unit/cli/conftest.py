"""Commands change the state of their process; here it is restored after each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("STUDENT_SUCCESS_FOLDER", "BENTOML_HOME", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("BENTOML_HOME")
    monkeypatch.chdir(Path.cwd())
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
