"""No secret leaks: search everything that a run leaves for marked tokens and pupils."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.faults.promise_counts import counts
from tests.server import ROOT, Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "no secret leaks"
ADMIN = "adm1n-marked-7c1e5f0b9a"
API = "ap1-marked-3d8e2c6f41"
WRONG = "wr0ng-marked-9b0c7a5e22"
SESSION = "sess1on-marked-51ce0d"
REFERENCE = "pup1l-marked-8842aa"
KEY = "k3y-marked-c0ffee11"
HEADER = "head3r-marked-77"
TOKENS = (ADMIN, API, WRONG)
PERSONAL = (SESSION, REFERENCE, KEY, HEADER)
DATABASE = re.compile(r"student_success\.db(-wal|-shm)?")
PUPILS = 20


class MarkedServer(Server):
    """A server with tokens of this test's own."""

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {ADMIN}"}


def pupil(number: int) -> dict[str, Any]:
    """Return one of some pupils like no other; all their values together are a mark as well."""
    return {
        **EXAMPLE,
        "absences": 301 + number,
        "G1": 13.371 + number / 1000,
        "G2": 14.242 + number / 1000,
    }


def values(number: int) -> tuple[str, ...]:
    made = pupil(number)
    return (str(made["G1"]), str(made["G2"]), f'"absences":{made["absences"]}')


class Run:
    """Everything that was seen from outside, by where it was seen."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def note(self, where: str, answer: httpx.Response) -> httpx.Response:
        self.seen[f"{where} #{len(self.seen)}"] = f"{answer.headers}\n{answer.text}"
        return answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, Run]:
    """Live through predictions, bad requests, outcomes, a training, a promotion and crashes."""
    folder = tmp_path_factory.mktemp("leaks")
    # A training of a minute would tell no more than one of seconds.
    data = folder / "some.csv"
    some = (ROOT / "data" / "sample.csv").read_text("utf-8").splitlines()[:301]
    data.write_text("\n".join(some), "utf-8")
    server = MarkedServer(
        folder / "state", ADMIN_TOKEN=ADMIN, API_TOKEN=API, LOG_LEVEL="DEBUG", DATA_PATH=str(data)
    )
    server.start()
    run = Run()
    try:
        with httpx.Client(base_url=server.url, timeout=280) as client:
            live(server, client, run)
        crash(server)
        server.start()
        with httpx.Client(base_url=server.url, timeout=60) as client:
            run.note("health after the crash", client.get("/health"))
            break_database(server)
            broken = client.get("/history", params={"session_id": SESSION}, headers=holder())
            assert run.note("a fault of ours", broken).status_code == 500
            run.note("metrics", client.get("/metrics"))
    finally:
        server.stop()
    return server, run


def holder(**headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {API}", **headers}


def live(server: Server, client: httpx.Client, run: Run) -> None:
    session = {"X-Session-Id": SESSION}
    for number in range(PUPILS):
        made = {**pupil(number), "reference": f"{REFERENCE}-{number}"}
        keyed = {"Idempotency-Key": f"{KEY}-{number}"} if number % 2 else {}
        answer = client.post("/predict", json=made, headers=holder(**session, **keyed))
        assert answer.status_code == 200
    batch = {"students": [pupil(number) for number in range(PUPILS)]}
    assert client.post("/predict_batch", json=batch, headers=holder(**session)).status_code == 200
    explained = client.post("/explain", json=pupil(0), headers=holder(**session))
    assert explained.status_code == 200
    bad(client, run)
    outcomes = [
        {"session_id": SESSION, "reference": f"{REFERENCE}-{number}", "actual_G3": 12}
        for number in range(PUPILS)
    ]
    recorded = client.post("/outcomes", json={"outcomes": outcomes}, headers=holder())
    assert recorded.json()["accepted"] == PUPILS
    run.note("drift", client.get("/drift"))
    trained = client.post(
        "/train", json={"family": "boosting", "budget_seconds": 0.5}, headers=server.admin
    )
    assert run.note("train", trained).status_code == 200, trained.text
    run.note("job", client.get("/train", headers=server.admin))
    promoted = client.post(
        "/promote",
        json={
            "version": trained.json()["version"],
            "reason": "tried",
            "fairness_override": "test",
            "allow_synthetic": True,
        },
        headers=server.admin,
    )
    assert run.note("promote", promoted).status_code in (200, 409)
    run.note("versions", client.get("/versions", headers=server.admin))
    run.note("deployments", client.get("/deployments", headers=server.admin))
    run.note("model", client.get("/model"))
    run.note("metrics", client.get("/metrics"))


def bad(client: httpx.Client, run: Run) -> None:
    """Ask wrongly with what must not be said back, in every place where one can put it."""
    tried = [
        client.post(
            "/predict", json={**pupil(1), "age": 99, "school": REFERENCE}, headers=holder()
        ),
        # The name of a field that is unknown is said back, its value never.
        client.post("/predict", json={"unknown": SESSION}, headers=holder()),
        client.post("/predict", content=f'{{"age": {REFERENCE}', headers=holder()),
        client.post("/predict", json=pupil(2), headers={"Authorization": f"Bearer {WRONG}"}),
        client.post("/predict", json=pupil(2), headers={"Authorization": WRONG}),
        client.post(f"/{REFERENCE}", json=pupil(2), headers=holder()),
        client.get(f"/history?{REFERENCE}={SESSION}&{REFERENCE}=2", headers=holder()),
        client.get("/history", params={"session_id": f"{SESSION} é"}, headers=holder()),
        client.request(HEADER.upper(), "/predict"),
        client.get("/health", params={"token": WRONG}),
        client.get("/health", headers={"Cookie": f"token={WRONG}", "X-Request-Id": f"{HEADER} x"}),
        client.post(
            "/predict_batch",
            json={"students": [pupil(1), {"unknown": REFERENCE}]},
            headers=holder(),
        ),
        client.post("/outcomes", json={"outcomes": [{"unknown": SESSION}]}, headers=holder()),
        client.delete("/history", params={"session_id": SESSION}, headers=holder()),
    ]
    for number, answer in enumerate(tried):
        assert answer.status_code >= 400 or answer.request.url.path == "/health"
        run.note(f"bad request {number}", answer)


def crash(server: Server) -> None:
    """Kill a worker, which is replaced, and then everything."""
    [worker] = server.workers()
    worker.kill()
    worker.wait(20)
    end = time.monotonic() + 60
    while time.monotonic() < end and not [one for one in server.workers() if one != worker]:
        time.sleep(0.1)
    server.wait_ready()
    server.kill()


def break_database(server: Server) -> None:
    """Make a row that cannot be read, so that a request crashes beside a pupil's values."""
    with sqlite3.connect(server.state_dir / "student_success.db", timeout=20) as database:
        database.execute("UPDATE inference_logs SET inputs_json = inputs_json || '}'")
    database.close()


def spelled(secret: str) -> set[bytes]:
    """Return a secret as it may be written."""
    plain = secret.encode()
    return {
        plain,
        secret.upper().encode(),
        base64.b64encode(plain).rstrip(b"="),
        plain.hex().encode(),
        urllib.parse.quote(secret, safe="").encode(),
        secret.encode("utf-16-le"),
        hashlib.sha256(plain).hexdigest().encode(),
        repr(secret).encode(),
    }


def files(server: Server) -> Iterator[tuple[str, bytes]]:
    for path in sorted(server.state_dir.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(server.state_dir)), path.read_bytes()


def test_responses_contain_no_token_or_input_value(run: tuple[Server, Run]) -> None:
    _, seen = run
    assert len(seen.seen) > 20
    for where, text in seen.seen.items():
        for secret in (*TOKENS, *PERSONAL, *values(1), *values(2)):
            assert secret not in text, where
        assert "Traceback" not in text


def test_files_contain_no_token(run: tuple[Server, Run]) -> None:
    server, _ = run
    looked = list(files(server))
    leaks = [
        (name, spelling)
        for name, content in looked
        for token in TOKENS
        for spelling in spelled(token)
        if spelling in content
    ]
    counts.add(promise=PROMISE, requests=len(looked), lost=len(leaks))
    assert {"student_success.db", "mlflow.db", "server.log"} <= {name for name, _ in looked}
    assert leaks == []


def test_pupils_are_stored_in_the_database_only(run: tuple[Server, Run]) -> None:
    """Not in the log, not in MLflow's database, not in what a training leaves."""
    server, _ = run
    leaks = []
    looked = 0
    for name, content in files(server):
        if DATABASE.fullmatch(name):
            continue
        looked += 1
        spaceless = content.replace(b" ", b"")
        for mark in PERSONAL:
            leaks += [(name, mark) for spelling in spelled(mark) if spelling in content]
        for number in range(PUPILS):
            # A histogram of the training data may have one such number as its end: not two.
            matching_values = [one for one in values(number) if one.encode() in spaceless]
            if len(matching_values) > 1:
                leaks.append((name, str(matching_values)))
    counts.add(promise=PROMISE, requests=looked, lost=len(leaks))
    assert looked > 10
    assert leaks == []
    # They can be found where they should be, so the search finds what is there.
    content = (server.state_dir / "student_success.db").read_bytes()
    assert REFERENCE.encode() in content
    assert values(0)[0].encode() in content


def test_log_contains_crash_without_pupil_values(run: tuple[Server, Run]) -> None:
    server, _ = run
    log = server.log.read_text("utf-8", "replace")
    [crashed] = [line for line in server.log_lines() if line.get("event") == "request_crashed"]
    assert "JSONDecodeError" in crashed["exception"]
    for number in range(PUPILS):
        for value in values(number)[:2]:
            assert value not in log
        assert f": {301 + number}," not in log
    assert "Extra data" in crashed["exception"]


def test_mlflow_database_contains_no_pupil_or_token(run: tuple[Server, Run]) -> None:
    server, _ = run
    with sqlite3.connect(server.state_dir / "mlflow.db") as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = {
            name: str(database.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables
        }
    database.close()
    assert rows["tags"] != "[]"
    assert rows["params"] != "[]"
    assert rows["model_versions"] != "[]"
    for name, text in rows.items():
        for secret in (*TOKENS, *PERSONAL):
            assert secret not in text, name


def test_metrics_contain_no_session_key_token_or_path(run: tuple[Server, Run]) -> None:
    _, seen = run
    texts = [text for where, text in seen.seen.items() if where.startswith("metrics")]
    assert len(texts) == 2
    assert "student_success_predictions_total" in texts[0]
    for text in texts:
        for secret in (*TOKENS, *PERSONAL, HEADER.upper()):
            assert secret not in text


def test_settings_hide_tokens_when_printed() -> None:
    from student_success.core.configuration.settings import Settings

    made = Settings(
        admin_token=ADMIN,
        api_token=API,
        database_url=f"postgresql+psycopg://u:{WRONG}@h/d",
        mlflow_tracking_uri=f"https://u:{WRONG}@h",
    )
    for token in TOKENS:
        assert token not in repr(made)
        assert token not in str(made)
    assert json.loads(made.model_dump_json(include={"admin_token"}))["admin_token"] != ADMIN
