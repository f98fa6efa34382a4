"""The whole life of a model of another school: train, gate, promote, serve, watch and roll back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from student_success.domain.profile import Profile
from student_success.domain.profile_file import read_profile
from tests.schools import write_profile, write_pupils
from tests.server import ROOT, Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PUPILS = 800
CLASS = 40
QUICK = {"budget_seconds": 1}
"""The default of each family."""
COVERAGE = (0.86, 0.94)
MAX_ECE = 0.06
FOLLOW_SECONDS = 10.0


@dataclass(frozen=True)
class School:
    """A running server with the profile and the pupils of a school."""

    server: Server
    http: httpx.Client
    profile: Profile
    profile_path: Path
    table: Path
    pupils: pd.DataFrame

    def students(self, pupils: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the rows as a request holds them, with a reference of their own each."""
        names = [f.column for f in self.profile.feature]
        names += [p.column for p in self.profile.period]
        whole = [f.column for f in self.profile.feature if f.kind == "integer"]
        rows = []
        for number, row in enumerate(pupils[names].to_dict("records")):
            known = {k: None if pd.isna(v) else v for k, v in row.items()}
            known |= {k: int(known[k]) for k in whole if known[k] is not None}
            rows.append({**known, "reference": f"P-{number}"})
        return rows

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "student_success", *arguments],
            cwd=ROOT,
            env=dict(self.server.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def draft(table: Path, to: Path) -> Profile:
    """Let the program propose the profile, as a school does; `final` is the target."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "student_success", "profile", "draft", str(table)),
            *("--target", "final", "-o", str(to)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_profile(to)


@pytest.fixture(scope="module", params=["lower-is-better", "microeconomics"])
def school(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[School]:
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "school.toml"
    if request.param == "microeconomics":
        real = request.getfixturevalue("real_data_dir") / "schools" / "microeconomics.csv"
        if not real.is_file():
            pytest.skip("STUDENT_DATA_DIR has no schools/microeconomics.csv")
        table, profile = real, draft(real, path)
    else:
        profile = write_profile(path, request.param)
        table = write_pupils(folder / "pupils.csv", profile, pupils=PUPILS)
    settings = {"PROFILE_PATH": str(path), "DATA_PATH": str(table), "MONITOR_SECONDS": "2"}
    server = Server(folder / "state", **settings)
    server.start(wait=False)
    try:
        with httpx.Client(base_url=server.url, headers=server.admin, timeout=300) as http:
            end = time.monotonic() + 60
            while True:
                try:
                    http.get("/livez")
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < end, server.tail()
                    time.sleep(0.1)
            yield School(server, http, profile, path, table, pd.read_csv(table))
    finally:
        server.stop()


def answered(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def serve(school: School, version: int) -> None:
    """Promote a version and wait until it answers."""
    answered(school.http.post("/promote", json={"version": version, "reason": "test"}))
    wait_for(school, str(version))


def wait_for(school: School, version: str) -> None:
    end = time.monotonic() + FOLLOW_SECONDS
    while school.http.get("/health").json()["model_version"] != version:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_life_of_a_model_of_another_school(school: School) -> None:
    versions = [answered(school.http.post("/train", json=QUICK))["version"] for _ in range(2)]
    check_figures(school)
    evidence = answered(school.http.get("/evidence", params={"version": versions[0]}))
    assert evidence["passed"], [c for c in evidence["conditions"] if not c["passed"]]
    serve(school, versions[0])

    students = school.students(school.pupils.head(CLASS))
    session = {"X-Session-Id": "class"}
    ranked = answered(
        school.http.post("/predict_batch", json={"students": students}, headers=session)
    )
    first = ranked["predictions"][0]
    one = answered(school.http.post("/predict", json=students[0]))
    grade = f"predicted_{school.profile.grade.column}"
    assert one[grade] == first[grade]
    assert first["interval"]["low"] <= first[grade] <= first["interval"]["high"]
    check_reasons(school, students)
    check_bulk_scores(school, [row[grade] for row in ranked["predictions"]])
    check_outcomes(school)
    check_drift(school)

    serve(school, versions[1])
    back = answered(school.http.post("/rollback", json={"reason": "test"}))
    assert back["version"] == str(versions[0])
    wait_for(school, str(versions[0]))
    assert answered(school.http.post("/predict", json=students[0]))[grade] == one[grade]
    check_life_by_command_line(school)


def check_life_by_command_line(school: School) -> None:
    """Train, judge, promote, score, record outcomes and roll back, beside the running server."""
    served = school.http.get("/health").json()["model_version"]
    table = school.server.state_dir.parent / "by-command.csv"
    pupils = school.pupils.head(CLASS).assign(reference=[f"C-{n}" for n in range(CLASS)])
    pupils.to_csv(table, index=False)
    trained = commanded(school, "train", "--budget-seconds", "1")
    version = str(trained["version"])
    assert commanded(school, "evidence", version)["passed"]
    commanded(school, "promote", version, "--reason", "by command")
    wait_for(school, version)
    grade = f"predicted_{school.profile.grade.column}"
    students = [
        {**student, "reference": f"C-{n}"} for n, student in enumerate(school.students(pupils))
    ]
    answers = school.http.post(
        "/predict_batch", json={"students": students}, headers={"X-Session-Id": "by-command"}
    )
    scored = table.with_name("by-command-scores.csv")
    done = school.run("score", str(table), str(scored))
    assert done.returncode == 0, done.stderr
    expected = [row[grade] for row in answered(answers)["predictions"]]
    assert list(pd.read_csv(scored)[grade]) == pytest.approx(expected)
    grades = commanded(school, "outcomes", "import", str(table), "--session", "by-command")
    assert grades["accepted"] == CLASS
    assert commanded(school, "rollback", "--reason", "by command")["version"] == served
    wait_for(school, served)


def commanded(school: School, *arguments: str) -> Any:
    """Run a command and return its JSON document."""
    done = school.run(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check_figures(school: School) -> None:
    """On held-out pupils: better than the rule of thumb, intervals that hold, honest chances."""
    [path] = sorted(school.server.state_dir.rglob("evaluation.json"))[:1]
    evaluation = json.loads(path.read_text("utf-8"))
    assert evaluation["calibration"]["ece"] <= MAX_ECE
    earlier = float("inf")
    periods = [period.column for period in school.profile.period]
    for known in range(len(periods) + 1):
        horizon = "+".join(periods[:known]) or "none"
        figures = evaluation["horizons"][horizon]
        ours, thumb = figures["candidate"], figures["baseline"]
        error = ours["mae"]["mean"]
        assert error < thumb["mae"]["mean"], horizon
        assert error < earlier, f"{horizon}: who knows more must not do worse"
        earlier = error
        assert COVERAGE[0] <= ours["coverage"]["mean"] <= COVERAGE[1], horizon
        assert ours["crps"]["mean"] < thumb["crps"]["mean"], horizon


def check_reasons(school: School, students: list[dict[str, Any]]) -> None:
    """A reason says "better" where the grade gets better, whichever end of the scale that is."""
    up, down = ("raises", "lowers")
    if school.profile.grade.better == "lower":
        up, down = ("worsens", "improves")
    target = school.profile.grade.column
    said = set()
    for student in students[:5]:
        explanation = answered(school.http.post("/explain", json=student))
        parts = explanation["contributions"]
        assert sum(part["share"] for part in parts) == pytest.approx(
            explanation[f"predicted_{target}"] - explanation[f"baseline_{target}"],
            abs=1e-3,
        )
        for part, sentence in zip(parts, explanation["reasons"]["en"], strict=False):
            word = up if part["share"] > 0 else down
            assert f" {word} the estimated grade" in sentence
            said.add(word)
    assert said == {up, down}


def check_bulk_scores(school: School, expected: list[float]) -> None:
    """The command line scores the same pupils as the API does."""
    folder = school.server.state_dir.parent
    school.pupils.head(CLASS).to_csv(folder / "class.csv", index=False)
    done = school.run("score", str(folder / "class.csv"), str(folder / "scores.csv"))
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(folder / "scores.csv")
    assert list(scores[f"predicted_{school.profile.grade.column}"]) == pytest.approx(expected)


def check_outcomes(school: School) -> None:
    grades = school.pupils[school.profile.grade.column].head(CLASS).tolist()
    whole = school.profile.grade.scale.is_whole
    actual = f"actual_{school.profile.grade.column}"
    outcomes = [
        {
            "session_id": "class",
            "reference": f"P-{number}",
            actual: int(grade) if whole else float(grade),
        }
        for number, grade in enumerate(grades)
    ]
    saved = answered(school.http.post("/outcomes", json={"outcomes": outcomes}))
    assert saved == {"accepted": CLASS, "rejected": []}
    wrong = {"outcomes": [{**outcomes[0], actual: school.profile.grade.maximum + 1}]}
    assert school.http.post("/outcomes", json=wrong).status_code == 422


def check_drift(school: School) -> None:
    """Pupils as in training are no drift; pupils who all have the highest value of one are."""
    pupils = school.pupils.sample(300, random_state=1)
    answered(school.http.post("/predict_batch", json={"students": school.students(pupils)}))
    drift_becomes(school, "stable")
    feature = next(f.column for f in school.profile.feature if f.kind == "integer")
    shifted = school.students(pupils.assign(**{feature: pupils[feature].max()}))
    for _ in range(3):
        answered(school.http.post("/predict_batch", json={"students": shifted}))
    assert drift_becomes(school, "drift")["features"][feature]["verdict"] == "drift"


def drift_becomes(school: School, verdict: str) -> Any:
    end = time.monotonic() + FOLLOW_SECONDS
    while (found := answered(school.http.get("/drift")))["verdict"] != verdict:
        assert time.monotonic() < end, json.dumps(found)
        time.sleep(0.5)
    return found
