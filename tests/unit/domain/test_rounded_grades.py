"""Final grades of any profile are rounded, or refused as a whole, wherever they come in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from student_success.core.paths import ROOT
from tests.schools import SCHOOLS

ROUNDED = SCHOOLS["points"].replace("step = 0.5", "step = 0.5\nrounded = true")
_READ = """
import json, sys
from pathlib import Path
from student_success.domain.schemas.history import Outcome
from student_success.domain.tables.outcomes import read_outcomes
from training.data.dataset import read

outcome = Outcome.model_validate({"prediction_id": "0" * 32, "actual_final": 84.43})
table = read_outcomes(b"reference;final\\nP-1;84,75", session="s")
[(_, written)] = table.outcomes
print(json.dumps([
    outcome.model_dump()["actual_final"],
    written.model_dump()["actual_final"],
    read(Path(sys.argv[1])).frame["final"].tolist(),
]))
"""


def test_grades_between_two_steps_are_rounded_in_requests_and_tables(tmp_path: Path) -> None:
    profile = tmp_path / "school.toml"
    profile.write_text(ROUNDED, "utf-8")
    table = tmp_path / "pupils.csv"
    table.write_text(
        "n0,n1,n2,n3,n4,n5,final\n1,0.5,2,0.5,3,0.5,84.43\n2,0.5,2,0.5,3,0.5,12.3\n", "utf-8"
    )
    assert _run(_READ, profile, str(table)) == [84.5, 85.0, [84.5, 12.5]]


_REFUSE = """
import json, sys
from student_success.core.errors import DatasetError
from student_success.domain.students import TARGET
from student_success.domain.tables.outcomes import read_outcomes
from training.data.csv_table import read_pupil_table

found = []
for grades in sys.argv[1:]:
    rows = [f"P-{n};{grade}" for n, grade in enumerate(grades.split())]
    data = "\\n".join([f"reference;{TARGET}", *rows]).encode()
    table = read_outcomes(data, session="s")
    try:
        read_pupil_table("pupils.csv", data)
    except DatasetError as error:
        columns = {detail["column"]: detail["problem"] for detail in error.details}
    codes = [problem.code for problem in table.invalid]
    found.append([len(table.outcomes), codes, "another scale" in columns.get(TARGET, "")])
print(json.dumps(found))
"""
FINE = SCHOOLS["many-schools"].replace("maximum = 10", "maximum = 10\nstep = 0.01")


@pytest.mark.parametrize(
    ("school", "right", "others"),
    [
        (None, "1 0 20 12", ["0.5 1 0 1", "60 12 45 80"]),
        (ROUNDED, "0.5 1 84.43 50", ["0.5 1 0 1", "0.85 0.6", "60 120 450 80"]),
        (FINE, "0.5 1 9.99 0", ["0.5 1 0 1", "60 12 4.5 80"]),
        (SCHOOLS["lower-is-better"], "1 1.5 6 2", ["0.5 1 0 1", "12 15 3 2"]),
    ],
    ids=["shipped", "rounded", "hundredths", "lower is better"],
)
def test_final_grades_on_another_scale_are_refused_as_a_whole(
    school: str | None, right: str, others: list[str], tmp_path: Path
) -> None:
    profile = None
    if school is not None:
        profile = tmp_path / "school.toml"
        profile.write_text(school, "utf-8")
    refused = [0, ["other_scale"], True]
    assert _run(_REFUSE, profile, right, *others) == [[4, [], False], *[refused] * len(others)]


def _run(script: str, profile: Path | None, *arguments: str) -> Any:
    """Run a script with a profile, or with the shipped one; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | ({} if profile is None else {"PROFILE_PATH": str(profile)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
