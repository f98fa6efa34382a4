"""MLflow's own library, as the child processes use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from student_success.core.settings import ROOT, Settings
from student_success.registry import mlflow_client

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


def test_versions_marks_only_the_version_to_which_the_alias_points(tmp_path: Path) -> None:
    """MLflow's search of versions returns them without their aliases."""
    settings = Settings(_env_file=None, state_dir=tmp_path)
    with mlflow_client.open_client(settings) as client:
        client.create_registered_model(settings.model_name)
        for _ in range(3):
            client.create_model_version(settings.model_name, source=str(tmp_path))
    assert [row["alias"] for row in mlflow_client.versions(settings)] == [False] * 3

    mlflow_client.move_alias(settings, "2")
    marked = {row["version"]: row["alias"] for row in mlflow_client.versions(settings)}
    assert marked == {3: False, 2: True, 1: False}

    mlflow_client.move_alias(settings, None)
    assert [row["alias"] for row in mlflow_client.versions(settings)] == [False] * 3
