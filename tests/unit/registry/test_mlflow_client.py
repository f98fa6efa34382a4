"""The registry's door: what happens before MLflow itself has anything to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from student_success.core.settings import ROOT

PROCESSES = 3


def test_processes_that_open_a_new_registry_at_once_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    """Each makes MLflow's tables if there are none, and MLflow does not lock them."""
    environment = {**os.environ, "STATE_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "student_success", "versions"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, said
    assert [json.loads(out.splitlines()[-1]) for out, _ in said] == [
        {"event": "result", "versions": []}
    ] * PROCESSES
