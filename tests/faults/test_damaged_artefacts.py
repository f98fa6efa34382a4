"""A bad artefact never replaces a good one: damaged, hostile, endless and huge ones are refused.

Each is a version in a real registry. "Sealed" ones have matching hashes, as somebody with write
access to the registry could make them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load import Load, single_predictions
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from student_success.registry import versions as model_versions
from tests.faults import damaged_artefacts, registered_versions
from tests.faults.promise_counts import counts
from tests.faults.registered_versions import Alter
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "a bad artefact never replaces a good one"
SERVED = 1

DAMAGED = {
    "truncated": (damaged_artefacts.truncated, False),
    "bit flipped": (damaged_artefacts.bit_flipped, False),
    "file nobody recorded": (damaged_artefacts.extra_file, False),
    "truncated, sealed": (damaged_artefacts.truncated_with_matching_hashes, True),
    "pickle beside it, sealed": (damaged_artefacts.extra_file, True),
    "wrong schema": (damaged_artefacts.wrong_schema, True),
    "NaN answers": (damaged_artefacts.nan_answers, True),
    "NaN in a leaf": (damaged_artefacts.nan_leaf, True),
    "other answers": (damaged_artefacts.wrong_answers, True),
    "endless loop": (damaged_artefacts.runs_for_ever, True),
    "trees in a circle": (damaged_artefacts.trees_in_a_circle, True),
    # The same in other valid encodings, which our former decoder read as empty lists.
    "trees in a circle, packed": (damaged_artefacts.packed_trees_in_a_circle, True),
    "NaN in a leaf, packed": (damaged_artefacts.packed_nan_leaf, True),
    "NaN in a leaf, reordered": (damaged_artefacts.reordered_nan_leaf, True),
    "bursts when unpacked": (damaged_artefacts.bursts_when_unpacked, True),
    "too much memory": (damaged_artefacts.too_much_memory, True),
}
HOSTILE = {
    "pickle": damaged_artefacts.hostile_pickle,
    "pickle named skops": damaged_artefacts.pickle_named_skops,
    "skops": damaged_artefacts.hostile_skops,
    "code": damaged_artefacts.code_of_its_own,
}


class Watch:
    """A load of predictions that checks each of them against the served version.

    Parameters
    ----------
    port
        Port of the server.
    predictor
        The served version.
    """

    def __init__(self, port: int, predictor: Predictor) -> None:
        self.load = Load(
            port,
            clients=1,
            requests=single_predictions,
            pause=0.02,
            keep_exchanges=True,
            max_seconds=3600,
        )
        prediction = predictor.predict(StudentFeatures.model_validate(EXAMPLE))
        self._expected = {
            "model_version": predictor.version,
            "predicted_G3": prediction.grade,
            "pass_probability": prediction.pass_probability,
        }

    @property
    def answers(self) -> int:
        """Number of responses so far."""
        return len(self.load.result.exchanges)

    @property
    def wrong(self) -> list[Any]:
        """Everything so far that is not the prediction of the served version."""
        result = self.load.result
        return [*result.lost_connections, *[None] * result.refused_connections] + [
            exchange.response
            for exchange in result.exchanges
            if exchange.status != 200 or not self._expected.items() <= exchange.response.items()
        ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve version 1, and nothing else, with the alias on it."""
    with serving(
        registered_versions.fresh_state(tmp_path_factory), TEST_ALIAS_CHECK_SECONDS="600"
    ) as running:
        answer = _promote(running, SERVED)
        assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture(scope="module")
def watch(server: Server) -> Iterator[Watch]:
    predictor = registered_versions.predictors(server.state_dir)[str(SERVED)]
    watching = Watch(server.port, predictor)
    with watching.load:
        yield watching


def _promote(server: Server, version: int) -> httpx.Response:
    return httpx.post(
        f"{server.url}/promote", headers=server.admin, json={"version": version}, timeout=300
    )


def _state(server: Server) -> dict[str, Any]:
    """Return all that must not change: what is stored, deployed, named by the alias, left over."""
    store = server.state_dir / "bentoml" / "models" / registered_versions.MODEL
    return {
        "stored": sorted(path.name for path in store.iterdir()),
        "deployments": httpx.get(f"{server.url}/deployments", headers=server.admin).json(),
        "alias": registered_versions.alias_of(server.state_dir),
        "left": sorted(path.name for path in (server.state_dir / "tmp").iterdir()),
    }


def _is_refused(server: Server, watch: Watch, alter: Alter, *, sealed: bool) -> httpx.Response:
    version = registered_versions.register_altered(
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
def test_promote_refuses_damaged_version_and_leaves_no_trace(
    server: Server, watch: Watch, fault: str
) -> None:
    alter, sealed = DAMAGED[fault]
    _is_refused(server, watch, alter, sealed=sealed)


@pytest.mark.parametrize("kind", HOSTILE)
def test_promote_refuses_version_with_code_and_never_runs_it(
    server: Server, watch: Watch, tmp_path: Path, kind: str
) -> None:
    marker = tmp_path / "marker"
    _is_refused(server, watch, HOSTILE[kind](marker), sealed=True)
    assert not marker.exists()


def test_hostile_pickle_creates_its_marker_when_loaded(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    import pickle

    marker = tmp_path / "marker"
    pickle.loads(damaged_artefacts.pickle_of(marker))
    assert marker.exists()


def test_promote_refuses_version_with_unrecorded_hash(server: Server, watch: Watch) -> None:
    """Its files fit each other, but not what the registry says of them."""

    def reseal(folder: Path) -> None:
        damaged_artefacts.wrong_answers(folder)
        registered_versions.write_smoke(folder / "serving")

    _is_refused(server, watch, reseal, sealed=False)


def test_promote_refuses_version_without_evaluation(server: Server, watch: Watch) -> None:
    served_artefact = server.state_dir / "made" / str(SERVED)

    def alter(folder: Path) -> None:
        damaged_artefacts.no_evaluation(folder, champion=verify(served_artefact))

    _is_refused(server, watch, alter, sealed=True)


def test_promote_accepts_good_version_after_refusals(server: Server, watch: Watch) -> None:
    assert not watch.wrong
    watch.load.stop()
    # Its evidence is about the seed as the one to beat.
    reason = {"reason": "the end"}
    back = httpx.post(f"{server.url}/rollback", headers=server.admin, json=reason, timeout=60)
    assert back.status_code == 200, back.text
    answer = _promote(server, 2)
    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{server.url}/health").json()["model_version"] == "2"


def test_artefact_check_is_stopped_when_it_hangs(
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
