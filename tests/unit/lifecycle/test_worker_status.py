"""Who serves what, seen from any worker: the living, the stopped, the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from student_success.core.settings import ROOT
from student_success.lifecycle.worker_status import Attendance

OTHER = """
import sys, time
from pathlib import Path
from student_success.lifecycle.worker_status import Attendance
Attendance(Path(sys.argv[1])).note(int(sys.argv[2]))
print("entered", flush=True)
time.sleep(600)
"""


def test_those_that_serve_something_else_are_counted(tmp_path: Path) -> None:
    one, other = Attendance(tmp_path), Attendance(tmp_path)
    assert one.behind(3) == 0, "nobody is there"
    one.note(3)
    other.note(2)
    assert one.behind(3) == other.behind(3) == 1
    other.note(3)
    assert one.behind(3) == 0
    # A longer number does not leave its tail behind, nor does a shorter one.
    one.note(12345)
    one.note(-1)
    assert one.behind(-1) == 1
    one.leave()
    other.leave()
    assert other.behind(3) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_dead_worker_is_not_counted_and_its_entry_goes(tmp_path: Path, end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path), "1"], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"entered\n"
        mine = Attendance(tmp_path)
        mine.note(2)
        assert mine.behind(2) == 1
        getattr(process, end)()
        process.wait(10)
        assert mine.behind(2) == 0
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        process.kill()
        process.communicate()
