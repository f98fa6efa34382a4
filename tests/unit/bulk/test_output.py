"""Lines and columns of predictions on any scale of grades."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schools import SCHOOLS, run_with_profile, write_profile

WRITE = """
import numpy as np
import pyarrow as pa
from student_success.bulk.output import csv_lines, table_of
from student_success.model.prediction import Predictions

# The second grade from the worst and the best one, with an interval of three grades each.
highest, parts = {highest}, {parts}
predictions = Predictions(
    np.array([parts, highest * parts]), np.array([False, True]), np.array([0.1, 0.9]),
    np.array([0, highest - 2]), np.array([2, highest]), np.array([0, 0]), np.array([True, False]),
)
unusual = {{"a": np.array([True, False]), "b": np.array([True, False])}}
table = table_of(np.array([2, 3]), pa.array(["a", "b"]), predictions, "4", unusual=unusual)
print(csv_lines(table).decode(), end="")
print(table.column("interval_low").type)
"""


@pytest.mark.parametrize(
    ("school", "levels", "expected"),
    [
        (
            "lower-is-better",
            {"highest": 10, "parts": 50},
            "2,a,5.5,echec,0.1,5.0,6.0,none,true,4,a b\n"
            "3,b,1.0,reussite,0.9,1.0,2.0,none,false,4,\n"
            "double\n",
        ),
        (
            "many-schools",
            {"highest": 10, "parts": 100},
            "2,a,1.0,echec,0.1,0,2,none,true,4,a b\n"
            "3,b,10.0,reussite,0.9,8,10,none,false,4,\nint8\n",
        ),
    ],
)
def test_lines_hold_grades_of_the_scale_with_the_lower_number_first(
    tmp_path: Path, school: str, levels: dict[str, int], expected: str
) -> None:
    write_profile(tmp_path / "school.toml", school)
    written = subprocess.run(
        [sys.executable, "-c", WRITE.format(**levels)],
        env={**os.environ, "PROFILE_PATH": str(tmp_path / "school.toml")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert written.stdout == expected


def test_highest_grade_fits_into_the_type_of_whole_grades(tmp_path: Path) -> None:
    text = SCHOOLS["many-schools"].replace("maximum = 10\n", "maximum = 128\n", 1)
    (tmp_path / "school.toml").write_text(text, "utf-8")
    code = "from student_success.bulk.output import _GRADES; print(_GRADES.max())"
    assert run_with_profile(tmp_path / "school.toml", code) == 128
