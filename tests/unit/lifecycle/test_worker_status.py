"""What workers see of one another: living, stopped and dead ones."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from student_success.core.paths import ROOT
from student_success.lifecycle.worker_status import WorkerStatus

OTHER_WORKER = """
import sys, time
from pathlib import Path
from student_success.lifecycle.worker_status import WorkerStatus
WorkerStatus(Path(sys.argv[1])).write(int(sys.argv[2]))
print("written", flush=True)
time.sleep(600)
"""


def test_count_behind_counts_workers_that_serve_another_deployment(tmp_path: Path) -> None:
    first, second = WorkerStatus(tmp_path), WorkerStatus(tmp_path)
    assert first.count_behind(3) == 0, "no worker has a file yet"
    first.write(3)
    second.write(2)
    assert first.count_behind(3) == second.count_behind(3) == 1
    second.write(3)
    assert first.count_behind(3) == 0
    # A shorter number overwrites a longer one completely.
    first.write(12345)
    first.write(-1)
    assert first.count_behind(-1) == 1
    first.close()
    second.close()
    assert second.count_behind(3) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_dead_worker_is_not_counted_and_its_file_is_deleted(tmp_path: Path, end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(tmp_path), "1"], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        status = WorkerStatus(tmp_path)
        status.write(2)
        assert status.count_behind(2) == 1
        getattr(process, end)()
        process.wait(10)
        assert status.count_behind(2) == 0
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        process.kill()
        process.communicate()


def test_write_logs_that_the_disk_is_full_and_counts_as_behind_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = WorkerStatus(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        status.write(3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "worker_status_not_written" in caplog.text
    assert status.count_behind(3) == 1
    status.write(3)
    assert status.count_behind(3) == 0
    status.close()


def test_count_behind_keeps_files_that_belong_to_no_worker(tmp_path: Path) -> None:
    """The folder may be one that somebody uses for other things as well."""
    file = tmp_path / "payroll.csv"
    file.touch()
    assert WorkerStatus(tmp_path).count_behind(3) == 0
    assert file.exists()
