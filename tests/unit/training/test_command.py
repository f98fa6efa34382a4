"""`python -m training`: output and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from student_success.cli import training_commands as command
from student_success.core.paths import ROOT
from training.data.dataset import SAMPLE


@pytest.fixture(autouse=True)
def _own_process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the folder and the variable that a command changes."""
    monkeypatch.setenv("STUDENT_SUCCESS_FOLDER", "")
    monkeypatch.chdir(ROOT)


def test_sample_writes_the_shipped_file_to_the_given_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["sample", "--to", str(tmp_path / "s.csv")]) == 0
    assert "1000 synthetic pupils" in capsys.readouterr().out
    assert (tmp_path / "s.csv").read_bytes() == SAMPLE.read_bytes()


def test_prepare_merges_the_files_of_a_folder(
    real_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "final.csv"
    assert command.main(["prepare", "--from", str(real_data_dir), "--to", str(target)]) == 0
    output = capsys.readouterr().out
    assert "662 pupils" in output
    assert "as published" in output


def test_error_is_printed_without_a_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "training", "prepare", "--from", str(tmp_path / "absent")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("Error: Nothing was changed: student-mat.csv and student-por.csv ")
    assert run.stderr.count("\n") == 1


def test_error_lists_every_bad_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.data import sample
    from training.data.dataset import read

    bad = tmp_path / "bad.csv"
    bad.write_text(SAMPLE.read_text().replace("MS,18", "XX,99", 1))
    monkeypatch.setattr(sample, "write", lambda _: read(bad))
    assert command.main(["sample"]) == 2
    output = capsys.readouterr().err.splitlines()
    assert output == [
        "Error: bad.csv has 2 bad cells in 1 row; nothing was read.",
        "  row 2, column age: Enter a whole number from 15 to 22.",
        "  row 2, column school: Enter one of these values: GP, MS.",
    ]


def test_error_names_an_invalid_setting_without_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_MIN_R2", "seven")
    assert command.main(["seed"]) == 2
    output = capsys.readouterr().err
    assert output.startswith("Error: the settings are not valid.\n  GATE_MIN_R2: ")
    assert "seven" not in output


def test_help_imports_none_of_the_training_libraries() -> None:
    code = (
        "import sys\n"
        "from student_success.cli.training_commands import main\n"
        "main(['--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('pandas', 'sklearn', 'mlflow')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
