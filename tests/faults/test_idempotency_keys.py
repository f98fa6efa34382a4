"""A repeated request with the same Idempotency-Key creates one row and gets the same response."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.load import (
    LARGE_BATCH,
    SMALL_BATCH,
    ConnectionLostError,
    HttpConnection,
    HttpResponse,
    http_request,
    prediction_ids,
)
from student_success.domain.students import EXAMPLE
from tests.faults.database_file import check_integrity, count_predictions, session_predictions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

PROMISE = "a repeated request with the same Idempotency-Key creates one row"
AT_ONCE = 32
KEYS = repetitions(20, full=200)
CUTS = repetitions(60, full=600)
KILLS = repetitions(5, full=50)
KINDS = (
    ("/predict", EXAMPLE, 1),
    ("/predict_batch", SMALL_BATCH, 5),
    ("/predict_batch", LARGE_BATCH, 300),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("repeats"), WORKERS="2") as running:
        yield running


def keyed(number: int) -> tuple[str, bytes, int]:
    """Return a session of its own, a request in it, and how many rows it makes."""
    session = uuid.uuid4().hex
    path, body, rows = KINDS[number % len(KINDS)]
    headers = {"X-Session-Id": session, "Idempotency-Key": uuid.uuid4().hex}
    return session, http_request("POST", path, body, headers), rows


def ask(port: int, content: bytes) -> HttpResponse:
    """Ask on a new connection, so that either worker may take it."""
    with HttpConnection(port) as connection:
        return connection.exchange(content)


def test_simultaneous_repeats_create_one_row(server: Server) -> None:
    wrong = []
    for number in range(KEYS):
        session, content, rows = keyed(number)
        together = threading.Barrier(AT_ONCE)

        def once(content: bytes = content, together: threading.Barrier = together) -> HttpResponse:
            with HttpConnection(server.port) as connection:
                together.wait()
                return connection.exchange(content)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = [job.result() for job in [pool.submit(once) for _ in range(AT_ONCE)]]
        different_responses = {(answer.status, answer.body) for answer in answers}
        stored_ids = session_predictions(server.state_dir, session)
        if (
            len(different_responses) != 1
            or sorted(prediction_ids(answers[0])) != sorted(stored_ids)
            or len(stored_ids) != rows
        ):
            wrong.append((different_responses, stored_ids))
    sent = KEYS * AT_ONCE
    counts.add(promise=PROMISE, faults=KEYS, requests=sent, acknowledged=sent, lost=len(wrong))
    assert not wrong


def test_repeat_creates_one_row_after_connection_is_cut(server: Server) -> None:
    """Before or after the commit: whoever hung up cannot know, and asks again."""
    chance = random.Random(8)
    wrong = []
    before = 0
    for number in range(CUTS):
        session, content, rows = keyed(number)
        with HttpConnection(server.port) as connection:
            connection.send(content)
            if number % 2:
                wait_for_rows(server, session)
            else:
                time.sleep(chance.uniform(0, 0.005))
        before += bool(session_predictions(server.state_dir, session))
        answers = [ask(server.port, content) for _ in range(2)]
        stored_ids = session_predictions(server.state_dir, session)
        different_responses = {(answer.status, answer.body) for answer in answers}
        if (
            len(different_responses) != 1
            or sorted(prediction_ids(answers[0])) != sorted(stored_ids)
            or len(stored_ids) != rows
        ):
            wrong.append((different_responses, stored_ids))
    counts.add(
        promise=PROMISE,
        faults=CUTS,
        requests=3 * CUTS,
        acknowledged=2 * CUTS,
        lost=len(wrong),
    )
    assert not wrong
    assert before >= CUTS // 2


def test_repeat_creates_one_row_after_server_is_killed(tmp_path: Path) -> None:
    chance = random.Random(9)
    server = Server(tmp_path, WORKERS="2")
    server.start()
    requests = acknowledged = 0
    wrong = []
    try:
        for _ in range(KILLS):
            keyed_requests = [keyed(number) for number in range(24)]
            first: dict[str, HttpResponse] = {}

            def once(session: str, content: bytes, first: dict[str, HttpResponse] = first) -> None:
                try:
                    first[session] = ask(server.port, content)
                except (ConnectionLostError, OSError):
                    return

            with ThreadPoolExecutor(8) as pool:
                for session, content, _ in keyed_requests:
                    pool.submit(once, session, content)
                time.sleep(chance.uniform(0.005, 0.1))
                server.kill()
            server.start()
            assert check_integrity(tmp_path) == "ok"
            for session, content, rows in keyed_requests:
                again = ask(server.port, content)
                requests += 2
                acknowledged += 1 + (session in first)
                stored_ids = session_predictions(tmp_path, session)
                same = session not in first or first[session].body == again.body
                whole = len(stored_ids) == rows and sorted(prediction_ids(again)) == sorted(
                    stored_ids
                )
                if not same or not whole:
                    wrong.append((first.get(session), again, stored_ids))
        assert max(count_predictions(tmp_path).values()) == 1
    finally:
        server.stop()
        counts.add(
            promise=PROMISE,
            faults=KILLS,
            requests=requests,
            acknowledged=acknowledged,
            lost=len(wrong),
        )
    assert not wrong


def wait_for_rows(server: Server, session: str) -> None:
    end = time.monotonic() + 30
    while not session_predictions(server.state_dir, session):
        assert time.monotonic() < end, "the rows did not come"
        time.sleep(0.001)
