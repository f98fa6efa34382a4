"""A bad artefact never replaces a good one: damaged, hostile, endless or fat ones are refused.

Each is a version of its own in a real registry. Those that are sealed have hashes that fit, as
somebody would see to who can write the registry.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from student_success.core.errors import ArtefactError
from student_success.core.settings import Settings
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from student_success.registry import versions as model_versions
from tests.faults import hostile, versions
from tests.faults.counts import counts
from tests.faults.versions import Alter
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "a bad artefact never replaces a good one"
SERVED = 1

DAMAGED = {
    "truncated": (hostile.truncated, False),
    "bit flipped": (hostile.bit_flipped, False),
    "file nobody recorded": (hostile.extra_file, False),
    "truncated, sealed": (hostile.truncated_and_sealed, True),
    "pickle beside it, sealed": (hostile.extra_file, True),
    "wrong schema": (hostile.wrong_schema, True),
    "NaN answers": (hostile.nan_answers, True),
    "NaN in a leaf": (hostile.nan_leaf, True),
    "other answers": (hostile.wrong_answers, True),
    "endless loop": (hostile.runs_for_ever, True),
    "trees in a circle": (hostile.trees_in_a_circle, True),
    "bursts when unpacked": (hostile.bursts_when_unpacked, True),
    "too much memory": (hostile.too_much_memory, True),
}
HOSTILE = {
    "pickle": hostile.hostile_pickle,
    "pickle named skops": hostile.pickle_named_skops,
    "skops": hostile.hostile_skops,
    "code": hostile.code_of_its_own,
}


class Watch:
    """Predicts without pause and notes every answer that is not the served version's."""

    def __init__(self, url: str, predictor: Predictor) -> None:
        self.answers = 0
        self.wrong: list[Any] = []
        self._url = url
        said = predictor.predict(StudentFeatures.model_validate(EXAMPLE))
        self._expected = (predictor.version, said.predicted_G3, said.pass_probability)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.wait(0.02):
                answer = client.post("/predict", json=EXAMPLE)
                said = answer.json()
                self.answers += 1
                found = tuple(
                    said.get(key) for key in ("model_version", "predicted_G3", "pass_probability")
                )
                if answer.status_code != 200 or found != self._expected:
                    self.wrong.append(said)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve version 1, and nothing else, with the alias on it."""
    with serving(versions.fresh_state(tmp_path_factory), TEST_ALIAS_CHECK_SECONDS="600") as running:
        answer = _promote(running, SERVED)
        assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture(scope="module")
def watch(server: Server) -> Iterator[Watch]:
    predictor = versions.predictors(server.state_dir)[str(SERVED)]
    with Watch(server.url, predictor) as watching:
        yield watching


def _promote(server: Server, version: int) -> httpx.Response:
    return httpx.post(
        f"{server.url}/promote", headers=server.admin, json={"version": version}, timeout=300
    )


def _state(server: Server) -> dict[str, Any]:
    """Return all that must not change: what is stored, deployed, named by the alias, left over."""
    store = server.state_dir / "bentoml" / "models" / versions.MODEL
    return {
        "stored": sorted(path.name for path in store.iterdir()),
        "deployments": httpx.get(f"{server.url}/deployments", headers=server.admin).json(),
        "alias": versions.alias_of(server.state_dir),
        "left": sorted(path.name for path in (server.state_dir / "tmp").iterdir()),
    }


def _is_refused(server: Server, watch: Watch, alter: Alter, *, sealed: bool) -> httpx.Response:
    version = versions.register_altered(
        Settings(state_dir=server.state_dir), 2, alter=alter, sealed=sealed
    )
    before, answered = _state(server), watch.answers
    answer = _promote(server, version)
    after = _state(server)
    kept = answer.status_code == 409 and after == before and not watch.wrong
    counts.add(
        promise=PROMISE,
        faults=1,
        requests=1 + watch.answers - answered,
        acknowledged=watch.answers - answered,
        lost=not kept,
    )
    assert (answer.status_code, answer.json()["error"]) == (409, "artefact_rejected"), answer.text
    assert after == before
    assert before["left"] == []
    assert before["alias"] == str(SERVED)
    assert not watch.wrong[:1]
    assert watch.answers > answered
    return answer


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged_version_is_refused_and_nothing_is_left_of_it(
    server: Server, watch: Watch, fault: str
) -> None:
    alter, sealed = DAMAGED[fault]
    _is_refused(server, watch, alter, sealed=sealed)


@pytest.mark.parametrize("kind", HOSTILE)
def test_code_in_a_version_is_refused_and_never_runs(
    server: Server, watch: Watch, tmp_path: Path, kind: str
) -> None:
    marker = tmp_path / "marker"
    _is_refused(server, watch, HOSTILE[kind](marker), sealed=True)
    assert not marker.exists()


def test_hostile_pickle_would_have_shown_itself(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    import pickle

    marker = tmp_path / "marker"
    pickle.loads(hostile.pickle_of(marker))
    assert marker.exists()


def test_version_with_another_hash_than_recorded_is_refused(server: Server, watch: Watch) -> None:
    """Its files fit each other, but not what the registry says of them."""

    def reseal(folder: Path) -> None:
        hostile.wrong_answers(folder)
        versions.write_smoke(folder / "serving")

    _is_refused(server, watch, reseal, sealed=False)


def test_version_without_evidence_is_refused(server: Server, watch: Watch) -> None:
    made = server.state_dir / "made" / str(SERVED)

    def alter(folder: Path) -> None:
        hostile.no_evaluation(folder, champion=verify(made))

    _is_refused(server, watch, alter, sealed=True)


def test_good_version_is_promoted_after_all_that(server: Server, watch: Watch) -> None:
    assert not watch.wrong
    watch.__exit__()
    # Its evidence is about the seed as the one to beat.
    reason = {"reason": "the end"}
    back = httpx.post(f"{server.url}/rollback", headers=server.admin, json=reason, timeout=60)
    assert back.status_code == 200, back.text
    answer = _promote(server, 2)
    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{server.url}/health").json()["model_version"] == "2"


def test_trial_that_hangs_is_ended(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is never read to its end stands for whatever else may not end."""
    os.mkfifo(tmp_path / "MLmodel")
    monkeypatch.setattr(model_versions, "CHECK_SECONDS", 3.0)
    started = time.monotonic()
    with pytest.raises(ArtefactError, match="stopped after 3 seconds"):
        model_versions.check_in_child(Settings(state_dir=server.state_dir), tmp_path, "9")
    took = time.monotonic() - started
    counts.add(promise=PROMISE, faults=1, lost=took > 30)
    assert took < 30
