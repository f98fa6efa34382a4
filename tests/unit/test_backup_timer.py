"""The systemd units of the nightly backup: valid, and what their commands do."""

from __future__ import annotations

import datetime as dt
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from student_success.core.paths import ROOT

UNITS = ROOT / "deploy" / "systemd"
DAY = 86_400


def command(name: str) -> list[str]:
    """Return a command of the service as systemd starts it, without its environment variables."""
    text = (UNITS / "student-success-backup.service").read_text("utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}=")]
    return shlex.split(line.removeprefix(f"{name}=").replace("$$", "$").replace("%%", "%"))


def test_units_are_valid(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for path in UNITS.iterdir():
        # Outside the units of this machine, which may lack docker.service.
        text = path.read_text("utf-8").replace("Requires=docker.service\n", "")
        (tmp_path / path.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        [analyze, "verify", *units], capture_output=True, text=True, check=False, timeout=60
    )
    assert "student-success" not in done.stderr, done.stderr


def test_service_backs_up_into_a_folder_of_the_day_and_deletes_old_ones(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = tmp_path / "docker" / "backup"
    script.write_text('#!/bin/sh\nmkdir "$1"\n')
    script.chmod(0o755)
    assert os.access(ROOT / "docker" / "backup", os.X_OK)
    folder = tmp_path / "backups"
    for name, days in {"2026-01-01": 40, "2026-01-20": 20, "kept by hand": 40}.items():
        (folder / name).mkdir(parents=True)
        then = time.time() - days * DAY
        os.utime(folder / name, (then, then))
    # With the time zone of this process, so that both take the same day for today.
    environment = {**os.environ, "BACKUP_FOLDER": str(folder), "BACKUP_KEEP_DAYS": "30"}
    days = {dt.datetime.now().date().isoformat()}
    for name in ("ExecStart", "ExecStartPost"):
        subprocess.run(command(name), cwd=tmp_path, env=environment, check=True, timeout=20)
    days.add(dt.datetime.now().date().isoformat())
    left = {path.name for path in folder.iterdir()}
    assert left - days == {"2026-01-20", "kept by hand"}
    assert left & days
