"""Commands change the state of their process; here it is restored after each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STUDENT_SUCCESS_FOLDER", "BENTOML_HOME", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("BENTOML_HOME")
    monkeypatch.chdir(Path.cwd())
