"""Each response comes from one version and names it; workers that do not follow are reported.

Two workers, a real registry, promotions and rollbacks under load. Each prediction is computed again
with the version that the response names.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.load import Exchange, Load, LoadRequest, random_pupils
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor
from tests.faults import registered_versions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ONE_VERSION = "each response comes from exactly one version and names it"
FOLLOWED = "all workers follow a promotion within 2 s, or it is reported"
FOLLOW_SECONDS = 2.0
WORKERS = 2
CLIENTS = 2
PAUSE_SECONDS = 0.02
PUPILS = 60
EVERYBODY = random_pupils(PUPILS, seed=7)
BATCH = 7


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = registered_versions.fresh_state(tmp_path_factory)
    with serving(state, WORKERS=str(WORKERS), TEST_ALIAS_CHECK_SECONDS="5") as running:
        yield running


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, Predictor]:
    return registered_versions.predictors(server.state_dir)


def predict_in_turn(session_id: str, number: int) -> LoadRequest:
    """Predict one pupil after another, and a batch every sixth time."""
    if number % 6 == 5:
        start = number % (PUPILS - BATCH)
        return LoadRequest("/predict_batch", {"students": EVERYBODY[start : start + BATCH]})
    return LoadRequest("/predict", EVERYBODY[number % PUPILS])


def predictions_of(exchanges: list[Exchange]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each pupil with the prediction for it."""
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for exchange in exchanges:
        if exchange.request.path == "/predict":
            pairs.append((exchange.request.body, exchange.response))
        else:
            students = exchange.request.body["students"]
            pairs += zip(students, exchange.response["predictions"], strict=True)
    return pairs


def is_from(predictor: Predictor, pupil: dict[str, Any], prediction: dict[str, Any]) -> bool:
    """Tell whether this version gives this answer, and no other."""
    expected: Prediction = predictor.predict(StudentFeatures.model_validate(pupil))
    return prediction["model_version"] == prediction[
        "mlflow_model_version"
    ] and expected == Prediction(
        prediction["predicted_G3"],
        prediction["decision"],
        prediction["pass_probability"],
        prediction["interval"]["low"],
        prediction["interval"]["high"],
        prediction["horizon"],
        prediction["at_risk"],
    )


def admin(server: Server, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", headers=server.admin, json=body, timeout=180)


def test_versions_differ_in_most_predictions(known: dict[str, Predictor]) -> None:
    """Otherwise the next test would show nothing."""
    for one, other in itertools.combinations(known.values(), 2):
        students = [StudentFeatures.model_validate(pupil) for pupil in EVERYBODY]
        differ = sum(
            a != b
            for a, b in zip(one.predict_many(students), other.predict_many(students), strict=True)
        )
        assert differ > PUPILS / 2


def test_every_prediction_equals_that_of_the_version_it_names(
    server: Server, known: dict[str, Predictor]
) -> None:
    moves = repetitions(12, full=50)
    refused = []
    with Load(
        server.port,
        clients=CLIENTS,
        requests=predict_in_turn,
        pause=PAUSE_SECONDS,
        requests_per_connection=6,
        keep_exchanges=True,
    ) as load:
        for move in range(moves):
            if move % 2 == 0:
                answer = admin(server, "/promote", version=1 + move // 2 % 2, reason="to and fro")
            else:
                answer = admin(server, "/rollback", reason="to and fro")
            if answer.status_code != 200 or answer.json().get("workers_behind"):
                refused.append(answer.text)
    result = load.result
    failures = result.requests - result.statuses[200] + result.refused_connections
    predictions = predictions_of([each for each in result.exchanges if each.status == 200])
    wrong = [
        (pupil, prediction)
        for pupil, prediction in predictions
        if not is_from(known[prediction["model_version"]], pupil, prediction)
    ]
    counts.add(
        promise=ONE_VERSION,
        faults=moves,
        requests=result.requests,
        acknowledged=result.statuses[200],
        lost=len(wrong) + failures,
    )
    assert not refused
    assert not failures
    assert {prediction["model_version"] for _, prediction in predictions} == {"seed", "1", "2"}
    assert not wrong[:3]
    rows = httpx.get(f"{server.url}/deployments", headers=server.admin).json()
    assert len(rows) == moves


def health(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/health", timeout=30).json()
    return found


def versions_of_predictions(server: Server, requests: int = 30) -> Counter[str]:
    """Ask on new connections, as many as make it sure that every worker that can has answered."""
    versions: Counter[str] = Counter()
    for _ in range(requests):
        answer = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=30)
        versions[answer.json()["model_version"]] += 1
    return versions


def test_stopped_worker_is_reported_until_it_follows(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == WORKERS
    assert health(server)["workers_behind"] == 0
    stopped = _stop_one_that_can_be_spared(server, workers)
    try:
        promoted = admin(server, "/promote", version=1)
        reported = health(server)
        versions = versions_of_predictions(server)
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
    assert set(versions) == {"1"}
    assert (after["workers_behind"], after["status"]) == (0, "ok")
    assert took < FOLLOW_SECONDS
    assert set(versions_of_predictions(server)) == {"1"}
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


def test_restarted_worker_serves_promoted_version(server: Server) -> None:
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
    assert set(versions_of_predictions(server)) == {"1"}
