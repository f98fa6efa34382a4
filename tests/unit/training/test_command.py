"""`python -m training`: what a person at a terminal sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from student_success.core.settings import ROOT
from training import __main__ as command
from training.data.dataset import SAMPLE


def test_sample_is_written_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["sample", "--to", str(tmp_path / "s.csv")]) == 0
    assert "1000 synthetic pupils" in capsys.readouterr().out
    assert (tmp_path / "s.csv").read_bytes() == SAMPLE.read_bytes()


def test_real_data_is_prepared_from_a_folder(
    real_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "final.csv"
    assert command.main(["prepare", "--from", str(real_data_dir), "--to", str(target)]) == 0
    told = capsys.readouterr().out
    assert "662 pupils" in told
    assert "as published" in told


def test_refusal_is_told_in_plain_words_without_a_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "training", "prepare", "--from", str(tmp_path / "absent")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "Error: The data file student-mat.csv does not exist.\n"


def test_every_bad_cell_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.data.dataset import read

    bad = tmp_path / "bad.csv"
    bad.write_text(SAMPLE.read_text().replace("MS,18", "XX,99", 1))
    monkeypatch.setattr(command, "sample", lambda args: str(read(bad)))
    assert command.main(["sample"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "Error: bad.csv has 2 bad cells in 1 row; nothing was read.",
        "  row 2, column age: must be a whole number from 15 to 22",
        "  row 2, column school: must be one of: GP, MS",
    ]


def test_bad_setting_is_told_by_name_and_never_by_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_MIN_R2", "seven")
    monkeypatch.setattr(command, "sample", lambda args: str(command.read_settings()))
    assert command.main(["sample"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: the settings are not right.\n  GATE_MIN_R2: ")
    assert "seven" not in told


def test_help_needs_none_of_the_training_libraries() -> None:
    code = (
        "import sys\n"
        "from training.__main__ import parser\n"
        "parser()\n"
        "sys.exit(any(name in sys.modules for name in ('pandas', 'sklearn', 'mlflow')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
