"""Each answer comes from one version and names it; all workers follow a promotion, or it is said.

Two workers, a real registry, promotions and rollbacks under load. What is answered is worked out
again here with the version that the answer names.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import psutil
import pytest

from student_success.domain.students import EXAMPLE, FEATURES, StudentFeatures
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor
from tests.clients import Clients
from tests.faults import versions
from tests.faults.counts import counts, times
from tests.faults.wire import CutError, Wire, request
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ONE_VERSION = "each answer comes from exactly one version and names it"
FOLLOWED = "all workers follow a promotion within 2 s, or it is reported"
FOLLOW_SECONDS = 2.0
WORKERS = 2
CLIENTS = 2
PAUSE_SECONDS = 0.02
PUPILS = 60
BATCH = 7


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = versions.fresh_state(tmp_path_factory)
    with serving(state, WORKERS=str(WORKERS), TEST_ALIAS_CHECK_SECONDS="5") as running:
        yield running


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, Predictor]:
    return versions.predictors(server.state_dir)


def pupils() -> list[dict[str, Any]]:
    random = Random(7)
    found = []
    for number in range(PUPILS):
        pupil = {
            feature.name: random.choice(feature.categories)
            if feature.categories
            else random.randint(int(feature.low or 0), min(20, int(feature.high or 0)))
            for feature in FEATURES
        }
        found.append(pupil | dict.fromkeys(("G1", "G2")[number % 3 :]))
    return found


class Load(Clients):
    """Clients that predict all kinds of pupils, alone and together, on connections of five."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.failed: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port, number)) for number in range(CLIENTS)
        ]

    def _run(self, port: int, first: int) -> None:
        everybody = pupils()
        rounds = itertools.count(first)
        while not self._stop.is_set():
            # New connections, so that every worker gets its share.
            wire = Wire(port)
            for number in itertools.islice(rounds, 5):
                pupil = everybody[number % PUPILS]
                if said := self._ask(wire, "/predict", pupil):
                    self.answers.append((pupil, said))
                self._stop.wait(PAUSE_SECONDS)
            start = next(rounds) % (PUPILS - BATCH)
            together = everybody[start : start + BATCH]
            if said := self._ask(wire, "/predict_batch", {"students": together}):
                self.answers += zip(together, said["predictions"], strict=True)
            wire.close()

    def _ask(self, wire: Wire, path: str, body: object) -> dict[str, Any]:
        try:
            answer = wire.ask(request("POST", path, body))
        except CutError:
            self.failed["cut"] += 1
            return {}
        if answer.status != 200:
            self.failed[str(answer.status)] += 1
            return {}
        said: dict[str, Any] = json.loads(answer.body)
        return said


def is_from(predictor: Predictor, pupil: dict[str, Any], said: dict[str, Any]) -> bool:
    """Tell whether this version gives this answer, and no other."""
    expected: Prediction = predictor.predict(StudentFeatures.model_validate(pupil))
    return said["model_version"] == said["mlflow_model_version"] and expected == Prediction(
        said["predicted_G3"],
        said["decision"],
        said["pass_probability"],
        said["interval"]["low"],
        said["interval"]["high"],
        said["horizon"],
        said["at_risk"],
    )


def admin(server: Server, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers=server.admin, json=body, timeout=180)


def test_versions_can_be_told_apart_by_their_answers(known: dict[str, Predictor]) -> None:
    """Otherwise the next test would show nothing."""
    for one, other in itertools.combinations(known.values(), 2):
        students = [StudentFeatures.model_validate(pupil) for pupil in pupils()]
        differ = sum(
            a != b
            for a, b in zip(one.predict_many(students), other.predict_many(students), strict=True)
        )
        assert differ > PUPILS / 2


def test_every_answer_is_the_one_of_the_version_it_names(
    server: Server, known: dict[str, Predictor]
) -> None:
    moves = times(12, full=50)
    refused = []
    with Load(server.port) as load:
        for move in range(moves):
            if move % 2 == 0:
                answer = admin(server, "/promote", version=1 + move // 2 % 2, reason="to and fro")
            else:
                answer = admin(server, "/rollback", reason="to and fro")
            if answer.status_code != 200 or answer.json().get("workers_behind"):
                refused.append(answer.text)
    wrong = [
        (pupil, said)
        for pupil, said in load.answers
        if not is_from(known[said["model_version"]], pupil, said)
    ]
    counts.add(
        promise=ONE_VERSION,
        faults=moves,
        requests=len(load.answers) + load.failed.total(),
        acknowledged=len(load.answers),
        lost=len(wrong) + load.failed.total(),
    )
    assert not refused
    assert not load.failed
    assert {said["model_version"] for _, said in load.answers} == {"seed", "1", "2"}
    assert not wrong[:3]
    rows = httpx.get(f"{server.url}/deployments", headers=server.admin).json()
    assert len(rows) == moves


def health(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/health", timeout=30).json()
    return found


def versions_said(server: Server, requests: int = 30) -> Counter[str]:
    """Ask on new connections, as many as make it sure that every worker that can has answered."""
    said: Counter[str] = Counter()
    for _ in range(requests):
        answer = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=30)
        said[answer.json()["model_version"]] += 1
    return said


def test_worker_that_does_not_follow_is_reported_until_it_does(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == WORKERS
    assert health(server)["workers_behind"] == 0
    stopped = _stop_one_that_can_be_spared(server, workers)
    try:
        promoted = admin(server, "/promote", version=1)
        reported = health(server)
        said = versions_said(server)
    finally:
        stopped.send_signal(signal.SIGCONT)
    continued = time.monotonic()
    while health(server)["workers_behind"] and time.monotonic() < continued + 60:
        time.sleep(0.02)
    took = time.monotonic() - continued
    after = health(server)
    counts.add(
        promise=FOLLOWED,
        faults=1,
        requests=1,
        acknowledged=promoted.status_code == 200,
        lost=promoted.json().get("workers_behind") != 1,
    )
    assert promoted.status_code == 200, promoted.text
    assert promoted.json()["workers_behind"] == 1
    assert (reported["workers_behind"], reported["status"]) == (1, "degraded")
    # The one that runs answers with what was promoted.
    assert set(said) == {"1"}
    assert (after["workers_behind"], after["status"]) == (0, "ok")
    assert took < FOLLOW_SECONDS
    assert set(versions_said(server)) == {"1"}
    assert [line for line in server.log_lines() if line.get("event") == "workers_behind"]


def _stop_one_that_can_be_spared(server: Server, workers: list[psutil.Process]) -> psutil.Process:
    """Stop a worker; requests that were with it already are nobody's."""
    for process in workers:
        process.send_signal(signal.SIGSTOP)
        try:
            httpx.get(f"{server.url}/livez", timeout=5).raise_for_status()
            return process
        except httpx.HTTPError:
            process.send_signal(signal.SIGCONT)
    raise AssertionError("no worker can be stopped without the other one hanging")


def test_worker_that_is_started_anew_is_neither_missed_nor_behind(server: Server) -> None:
    victim = server.workers()[0]
    victim.kill()
    assert health(server)["workers_behind"] == 0
    end = time.monotonic() + 60
    while len(server.workers()) < WORKERS and time.monotonic() < end:
        time.sleep(0.1)
    server.wait_ready()
    deadline = time.monotonic() + 30
    while len(list((server.state_dir / "workers").iterdir())) < WORKERS:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert health(server)["workers_behind"] == 0
    assert set(versions_said(server)) == {"1"}
