"""A promotion survives a crash at every step: the old or the new version is served afterwards.

The promoting process stops at a step (see pause_promotion/sitecustomize.py), then every process of
the server is killed at once. Only what is on disk remains.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from tests.faults import registered_versions
from tests.faults.promise_counts import counts
from tests.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

PROMISE = "a promotion survives a crash at every step"
OLD, NEW = "1", "3"
PAUSE_MODULE = Path(__file__).parent / "pause_promotion"
HOLDS_THE_DATABASE = "half recorded"
"""Step with an open transaction, which blocks every other write."""
STEP_SECONDS = 120.0
SETTLE_SECONDS = 60.0

BEFORE = (
    *("begun", "fetched", "tried", "judged", "keeping", "half kept", "kept", "verified"),
    HOLDS_THE_DATABASE,
)
"""Steps before the row is committed: the old version must be served."""
AFTER = ("committed", "recorded", "result", "remembered", "moving", "moved", "aligned")
"""Steps from the commit on: the new version must be served."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve version 1, with a version that was compared with it to go to."""
    state = registered_versions.fresh_state(tmp_path_factory)

    def compared(folder: Path) -> None:
        champion = verify(state / "made" / OLD)
        registered_versions.edit(folder / "serving" / "evaluation.json", champion=champion)
        registered_versions.write_manifest(folder / "serving")

    settings = Settings(state_dir=state)
    registered = registered_versions.register_altered(settings, 2, alter=compared, sealed=True)
    assert str(registered) == NEW
    running = Server(
        state,
        TEST_ALIAS_CHECK_SECONDS="0.5",
        PYTHONPATH=f"{PAUSE_MODULE}:{ROOT}",
        PAUSE_FILE=str(state / "pause"),
    )
    running.start()
    answer = promote(running, OLD)
    assert answer.status_code == 200, answer.text
    yield running
    running.stop()


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, Predictor]:
    predictors = registered_versions.predictors(server.state_dir)
    return {OLD: predictors[OLD], NEW: predictors["2"]}


def promote(server: Server, version: str) -> httpx.Response:
    body = {"version": int(version)}
    return httpx.post(f"{server.url}/promote", headers=server.admin, json=body, timeout=180)


def agreed(server: Server) -> dict[str, Any]:
    """Return which version each place names."""
    rows = httpx.get(f"{server.url}/deployments", headers=server.admin, timeout=30).json()
    health = httpx.get(f"{server.url}/health", timeout=30).json()
    prediction = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=30).json()
    return {
        "deployment": rows[0]["to_version"],
        "alias": registered_versions.alias_of(server.state_dir),
        "health": health["model_version"] if health["status"] == "ok" else health,
        "answer": prediction["model_version"],
    }


def settled(server: Server) -> dict[str, Any]:
    """Wait until all agree; the alias may need a moment."""
    end = time.monotonic() + SETTLE_SECONDS
    while len(set(map(str, (found := agreed(server)).values()))) > 1:
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return found


def crash_at(server: Server, step: str) -> None:
    """Let a promotion get to the step, then kill everything."""
    pause = server.state_dir / "pause"
    reached = pause.with_name("pause.reached")
    reached.unlink(missing_ok=True)
    pause.write_text(step)
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(promote(server, NEW).text)
        except httpx.HTTPError as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    end = time.monotonic() + STEP_SECONDS
    while not reached.exists():
        assert time.monotonic() < end, f"{step} was not reached: {outcome} {server.tail()}"
        assert asking.is_alive(), f"{step} was passed: {outcome}"
        time.sleep(0.01)
    status = 200
    if step != HOLDS_THE_DATABASE:
        # The promotion stands still; predictions go on.
        status = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=30).status_code
    server.kill()
    asking.join()
    assert status == 200


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_crash_during_promotion_leaves_old_or_new_version(
    server: Server, known: dict[str, Predictor], step: str
) -> None:
    assert set(settled(server).values()) == {OLD}
    crash_at(server, step)
    server.start()
    found = settled(server)
    expected = OLD if step in BEFORE else NEW
    pupil = StudentFeatures.model_validate(EXAMPLE)
    answer = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=30).json()
    right = answer["predicted_G3"] == known[expected].predict(pupil).grade
    stored = verify(_stored(server, expected)) if expected == NEW else None
    if expected == NEW:
        # Nobody moved the alias by hand: the way back must stay the way back.
        _roll_back(server)
    after = settled(server)
    time.sleep(1.5)
    kept = agreed(server)
    counts.add(
        promise=PROMISE,
        faults=1,
        requests=1,
        acknowledged=right,
        lost=not (right and set(found.values()) == {expected} and set(kept.values()) == {OLD}),
    )
    assert found == dict.fromkeys(found, expected)
    assert right
    if stored is not None:
        rows = httpx.get(f"{server.url}/deployments", headers=server.admin).json()
        assert rows[1]["to_version"] == NEW
        assert stored == _fingerprint(server, NEW)
    assert after == kept == dict.fromkeys(kept, OLD)


def _stored(server: Server, version: str) -> Path:
    store = server.state_dir / "bentoml" / "models" / registered_versions.MODEL
    return store / f"v{version}" / "mlflow_model" / "serving"


def _fingerprint(server: Server, version: str) -> str:
    import sqlite3

    path = server.state_dir / "student_success.db"
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = database.execute(
        "SELECT fingerprint FROM deployments WHERE to_version = ? ORDER BY id DESC", (version,)
    ).fetchone()
    database.close()
    return str(found[0])


def _roll_back(server: Server) -> None:
    body = {"reason": "after the crash"}
    answer = httpx.post(f"{server.url}/rollback", headers=server.admin, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == OLD


def test_promotion_works_after_crashes_and_leaves_no_files(server: Server) -> None:
    answer = promote(server, NEW)
    assert answer.status_code == 200, answer.text
    assert set(settled(server).values()) == {NEW}
    assert list((server.state_dir / "tmp").iterdir()) == []
    done = subprocess.run(
        [sys.executable, "-m", "student_success", "verify"],
        cwd=ROOT,
        env=dict(server.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "The record of deployments is whole.\n")
