"""Other users of the machine cannot read the state directory of a real server."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def _umask_of_most_users() -> Iterator[None]:
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def open_to_others(state: Path) -> dict[str, str]:
    """Return the paths to which other users have access, with their modes."""
    modes = {path: path.lstat().st_mode for path in (state, *state.rglob("*"))}
    return {
        str(path): stat.filemode(mode)
        for path, mode in modes.items()
        if mode & 0o077 and not stat.S_ISLNK(mode)
    }


def test_state_directory_is_closed_to_other_users_after_each_step(tmp_path: Path) -> None:
    """Whether it is new or was created with the umask 022 by an earlier version."""
    state = tmp_path / "new" / "state"
    server = Server(tmp_path / "log", STATE_DIR=str(state), TRAIN_BUDGET_SECONDS="1", WORKERS="2")
    try:
        server.start()
        with httpx.Client(base_url=server.url, headers=server.admin, timeout=300) as http:
            assert http.post("/predict", json=EXAMPLE).status_code == 200
            assert open_to_others(state) == {}
            trained = http.post("/train", json={})
            assert trained.status_code == 200, trained.text
            assert open_to_others(state) == {}
            version = trained.json()["version"]
            body = {"version": version, "reason": "a test", "allow_synthetic": True}
            promoted = http.post("/promote", json=body)
            assert promoted.status_code in (200, 409), promoted.text
            assert open_to_others(state) == {}
        expected = {"student_success.db", "mlflow.db", "mlflow-artefacts", "bentoml", "locks"}
        assert expected <= {path.name for path in state.iterdir()}
        assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700

        server.kill()
        for path in (state, *state.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        server.start()
        assert open_to_others(state) == {}
        assert f"files and folders of STATE_DIR {state}" in server.log.read_text("utf-8")
    finally:
        server.stop()
