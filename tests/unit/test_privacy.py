"""No library calls home, and none leaves a number that tells this machine from others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from student_success.core.paths import ROOT

LOAD = """
from student_success.model.predictor import Predictor
from student_success.core.configuration.settings import Settings
Predictor.load(Settings().seed_model_path, version="seed")
"""


def test_the_model_runtime_keeps_and_sends_nothing_when_a_model_is_loaded(tmp_path: Path) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CI", "GITHUB_", "ORT_", "XDG_", "PYTEST"))
    }
    run = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={**kept, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 0, run.stderr
    assert "telemetry" not in run.stderr.lower()
    assert not [path for path in tmp_path.rglob("*") if "onnx" in str(path).lower()]
