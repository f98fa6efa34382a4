"""MLflow's own library, as the child processes use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from student_success.core.settings import ROOT

PROCESSES = 3


def test_versions_is_empty_when_several_processes_open_a_new_registry_at_once(
    tmp_path: Path,
) -> None:
    """Each process creates MLflow's tables if there are none, and MLflow does not lock them."""
    environment = {**os.environ, "STATE_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "student_success", "child", "versions"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    assert [json.loads(out.splitlines()[-1]) for out, _ in outputs] == [
        {"event": "result", "versions": []}
    ] * PROCESSES
