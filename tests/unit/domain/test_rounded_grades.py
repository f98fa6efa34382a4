"""A profile that rounds final grades does so wherever they come in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from student_success.core.settings import ROOT
from tests.schools import SCHOOLS

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
    profile.write_text(
        SCHOOLS["points"].replace("step = 0.5", "step = 0.5\nrounded = true"), "utf-8"
    )
    table = tmp_path / "pupils.csv"
    table.write_text(
        "n0,n1,n2,n3,n4,n5,final\n1,0.5,2,0.5,3,0.5,84.43\n2,0.5,2,0.5,3,0.5,12.3\n", "utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(table)],
        cwd=ROOT,
        env=dict(os.environ, PROFILE_PATH=str(profile)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [84.5, 85.0, [84.5, 12.5]]
