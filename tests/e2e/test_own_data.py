"""A school trains a model on its own CSV file, and the next one on the recorded outcomes too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from student_success.domain.students import FEATURE_NAMES
from tests.server import ROOT, Server, serving
from training.data.dataset import SAMPLE, read

pytestmark = pytest.mark.e2e

IN_FILE, IN_HISTORY = 120, 60
QUICK = {"family": "boosting", "budget_seconds": 0.5}


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server whose data is a CSV file as a spreadsheet writes it."""
    folder = tmp_path_factory.mktemp("school")
    path = folder / "our pupils.csv"
    pupils = read(SAMPLE).frame.head(IN_FILE).assign(sex="F", class_name="3b")
    pupils.to_csv(path, sep=";", decimal=",", index=False)
    with serving(folder / "state", DATA_PATH=str(path)) as server:
        yield server


def versions(server: Server) -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/versions", headers=server.admin, timeout=120)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


def test_train_uses_the_own_file(school: Server) -> None:
    answer = httpx.post(f"{school.url}/train", headers=school.admin, json=QUICK, timeout=300)
    assert answer.status_code == 200, answer.text
    data = answer.json()["dataset"]
    assert (data["name"], data["rows"], data["synthetic"]) == ("our pupils.csv", IN_FILE, False)
    [version] = versions(school)
    assert version["dataset"]["sha256"] == data["sha256"]


def test_train_with_outcomes_adds_the_recorded_grades(school: Server) -> None:
    """The school predicts during the year, records the outcomes and trains with both."""
    pupils = read(SAMPLE).frame.tail(IN_HISTORY).to_dict("records")
    students = [
        {**{name: row[name] for name in FEATURE_NAMES}, "reference": f"P-{number}"}
        for number, row in enumerate(pupils)
    ]
    with httpx.Client(base_url=school.url, headers=school.admin, timeout=60) as http:
        session = {"X-Session-Id": "year"}
        for batch in ([{**student, "G2": None} for student in students], students):
            assert http.post("/predict_batch", json={"students": batch}, headers=session).is_success
        outcomes = [
            {"session_id": "year", "reference": f"P-{number}", "actual_G3": int(row["G3"])}
            for number, row in enumerate(pupils)
        ]
        answer = http.post("/outcomes", json={"outcomes": outcomes})
        assert answer.json() == {"accepted": IN_HISTORY, "rejected": []}

    run = subprocess.run(
        [
            *(sys.executable, "-m", "training", "run", "--with-outcomes"),
            *("--family=boosting", "--budget-seconds=0.5"),
        ],
        cwd=ROOT,
        env=dict(school.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    data = result["dataset"]
    assert data["name"] == "our pupils.csv + outcomes"
    assert data["rows"] == IN_FILE + IN_HISTORY
    assert data["outcomes"]["rows"] == IN_HISTORY
    newest = versions(school)[0]
    assert newest["version"] == result["version"]
    assert newest["dataset"]["name"] == data["name"]
    assert newest["dataset"]["sha256"] == data["sha256"] != data["outcomes"]["file_sha256"]
    # The served version has not moved.
    assert httpx.get(f"{school.url}/model").json()["model_version"] == "seed"
