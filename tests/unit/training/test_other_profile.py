"""What is only about the pupils of the shipped profile is refused with another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from student_success.core.paths import ROOT
from tests.schools import write_profile


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a training command in a process that works with a made-up school."""
    write_profile(folder / "school.toml", "lower-is-better")
    return subprocess.run(
        [sys.executable, "-m", "training", *arguments],
        cwd=ROOT,
        env=dict(
            os.environ, PROFILE_PATH=str(folder / "school.toml"), STATE_DIR=str(folder / "state")
        ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("sample", "The synthetic sample"),
        ("prepare", "The merged UCI file"),
        ("report", "The model report"),
    ],
)
def test_command_about_the_shipped_pupils_is_refused(
    command: str, result: str, tmp_path: Path
) -> None:
    done = run(tmp_path, command, "--to", str(tmp_path / "result"))
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: {result} was not made: it is about the pupils of the profile that ships, and the "
        "profile in use is lower-is-better. Unset PROFILE_PATH to make it.\n"
    )
    assert not (tmp_path / "result").exists()


def test_dictionary_describes_any_profile_in_a_file_of_its_own(tmp_path: Path) -> None:
    refused = run(tmp_path, "dictionary")
    assert refused.returncode == 2
    assert "The data dictionary of this folder was not made" in refused.stderr
    assert run(tmp_path, "dictionary", "--to", str(tmp_path / "columns.md")).returncode == 0
    text = (tmp_path / "columns.md").read_text("utf-8")
    assert "| `n1` | **n1.** n1 | a number from 0 to 1; empty while not known |" in text
    assert "a grade from 1 to 6 in steps of 0.5 |" in text
    assert "`spring` without `winter` is an error." in text
    assert "sample.csv" not in text
    assert "Cortez" not in text


def test_training_without_data_says_what_to_set(tmp_path: Path) -> None:
    done = run(tmp_path, "run")
    assert "There is no data for the profile lower-is-better. Set DATA_PATH" in done.stdout
