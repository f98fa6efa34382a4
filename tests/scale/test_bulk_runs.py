"""Whole bulk runs: killed and continued, on local processes and on a Dask cluster."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.bulk import write_pupils
from student_success.bulk import executors
from student_success.bulk.checkpoint import work_folder_of
from student_success.bulk.model_choice import Model
from student_success.cli.output import ExitCode
from student_success.core import dask_client
from student_success.core.errors import UnavailableError
from student_success.core.settings import ROOT
from student_success.domain.students import FEATURE_NAMES
from tests.scale.dask_cluster import dask_cluster
from tests.server import serving

ROWS = 200_000
KILLS = 5


def command(source: Path, target: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "student_success", "score", str(source), str(target), *options]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def score(
        source: Path, target: Path, *options: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(source, target, *options),
            cwd=tmp_path,
            env={**environment(tmp_path), **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return score


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def pupils(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of several slices, some rows of which are not right."""
    path = tmp_path_factory.mktemp("bulk") / "pupils.csv"
    write_pupils(path, ROWS)
    lines = path.read_text().splitlines()
    for number in range(1, len(lines), 997):
        lines[number] = lines[number].replace(",GP,", ",XX,").replace(",MS,", ",YY,")
    lines[5000:5000] = ["", '"A quoted\nreference",GP']
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def whole(pupils: Path) -> tuple[bytes, bytes]:
    """Return what a run on one process, without interruption, makes of it."""
    out = pupils.with_name("whole.csv")
    env = environment(pupils.parent)
    subprocess.run(command(pupils, out, "--workers=1"), env=env, cwd=ROOT, check=True)
    return out.read_bytes(), out.with_name("whole.bad.csv").read_bytes()


def both(out: Path) -> tuple[bytes, bytes]:
    return out.read_bytes(), out.with_name(f"{out.stem}.bad.csv").read_bytes()


def test_score_writes_same_bytes_after_repeated_kills(
    pupils: Path, whole: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    chance = random.Random(8)
    kills, resumed = 0, 0
    while True:
        process = subprocess.Popen(
            # A checkpoint after every slice, so that each run gets a little further.
            [sys.executable, "-c", _EAGER, *command(pupils, out, "--workers=2")[3:]],
            cwd=ROOT,
            env=environment(tmp_path),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        tree: list[psutil.Process] = []
        if kills < KILLS:
            journal = work_folder_of(out) / "journal.jsonl"
            before = journal.stat().st_size if journal.exists() else 0
            # From the start of the work on: once at once, else after the next step of it.
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                if journal.exists() and journal.stat().st_size > before + 2:
                    break
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.1))
            if process.poll() is None:
                tree = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGKILL)
                kills += 1
        _, said = process.communicate(timeout=120)
        # Its workers go with it.
        psutil.wait_procs(tree, timeout=10)
        assert not any(one.is_running() and one.status() != "zombie" for one in tree)
        resumed += "Continuing the interrupted run" in said
        # Nothing of it, or all of it.
        assert not out.exists() or out.read_bytes() == whole[0]
        if process.returncode == 0 or not work_folder_of(out).exists():
            break
        assert process.returncode == -signal.SIGKILL, said
    assert kills >= 3
    assert resumed >= 2
    assert both(out) == whole
    assert not work_folder_of(out).exists()


_EAGER = """
import sys
from student_success.bulk import command, run
score_files = command.score_files
command.score_files = lambda *a, **k: score_files(*a, **k, checkpoint_seconds=0.0)
from student_success.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("step", ["commit noted", "refused in place", "answers in place"])
def test_score_finishes_when_killed_while_moving_the_output(
    pupils: Path, whole: tuple[bytes, bytes], run: Any, tmp_path: Path, step: str
) -> None:
    out = tmp_path / "out.csv"
    code = _STOPPING.replace("STEP", repr(step))
    arguments = command(pupils, out, "--workers=1")[3:]
    stopped = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment(tmp_path),
        timeout=120,
        check=False,
    )
    assert stopped.returncode == -signal.SIGKILL
    assert out.exists() == (step == "answers in place")
    done = run(pupils, out)
    assert done.returncode == 0, done.stderr
    assert both(out) == whole
    assert not work_folder_of(out).exists()


_STOPPING = """
import os, pathlib, signal, sys
from student_success.bulk.checkpoint import WorkFolder

def die():
    os.kill(os.getpid(), signal.SIGKILL)

note, replace = WorkFolder.record_commit, pathlib.Path.replace
def noting(self):
    note(self)
    if STEP == "commit noted":
        die()
def replacing(self, target):
    replace(self, target)
    if self.parent.name == "ready":
        if STEP == "refused in place" or not target.name.endswith(".bad.csv"):
            die()
WorkFolder.record_commit, pathlib.Path.replace = noting, replacing
from student_success.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_score_on_dask_writes_same_bytes_when_a_worker_is_killed(
    pupils: Path, whole: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    with dask_cluster(tmp_path) as cluster:
        process = subprocess.Popen(
            command(pupils, out, "--engine=dask", f"--scheduler={cluster.address}"),
            cwd=ROOT,
            env=environment(tmp_path),
        )
        journal = work_folder_of(out) / "journal.jsonl"
        parts = work_folder_of(out) / "000000.predictions"
        while process.poll() is None and not (parts.exists() and journal.exists()):
            time.sleep(0.01)
        cluster.kill_worker()
        assert process.wait(120) == 0
        assert cluster.workers[1].poll() is None
    assert both(out) == whole


def test_score_writes_one_output_for_each_file_of_a_folder(run: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import csv as arrow_csv

    source = tmp_path / "in"
    (source / "north").mkdir(parents=True)
    for number, name in enumerate(("a.csv", "north/b.csv", "c.csv")):
        write_pupils(source / name, 50 + number, seed=number)
    parquet.write_table(arrow_csv.read_csv(source / "c.csv"), source / "d.parquet")
    (source / "notes.txt").write_text("none of these")
    done = run(source, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")
    )
    assert found == ["a.csv", "c.csv", "d.parquet", "north/b.csv"]
    assert "203" not in done.stdout
    assert "205 pupils" in done.stdout
    rows = rows_of(tmp_path / "out" / "c.csv")
    table = parquet.read_table(tmp_path / "out" / "d.parquet").to_pylist()
    assert [float(row["predicted_G3"]) for row in rows] == [row["predicted_G3"] for row in table]
    again = run(source, tmp_path / "out")
    assert again.returncode == ExitCode.REFUSED
    assert "--overwrite" in again.stderr
    assert run(source, tmp_path / "out", "--overwrite", "--to=csv").returncode == 0
    assert (tmp_path / "out" / "d.csv").exists()
    assert not (tmp_path / "out" / "d.parquet").exists()


def test_score_starts_again_when_the_input_changed(run: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    write_pupils(source, 20)
    work = work_folder_of(out)
    work.mkdir()
    (work / "plan.json").write_text(json.dumps({"of": "another"}))
    (work / "000000.predictions").write_text("left over")
    done = run(source, out)
    assert "Starting again" in done.stderr
    assert len(out.read_text().splitlines()) == 21


def test_score_refuses_output_that_another_run_writes(run: Any, tmp_path: Path) -> None:
    import fcntl

    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    write_pupils(source, 20)
    work_folder_of(out).mkdir()
    with (work_folder_of(out) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(source, out)
    assert done.returncode == ExitCode.REFUSED
    assert "Another run" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--engine=dask"], ExitCode.USAGE, "--scheduler"),
        (["--model=7"], ExitCode.REFUSED, "never deployed"),
        (["--model=/nowhere"], ExitCode.REFUSED, "incomplete or damaged"),
        (["--workers=0"], ExitCode.USAGE, "1 or more"),
        (["--encoding=utf-16"], ExitCode.USAGE, "--encoding"),
    ],
)
def test_score_explains_invalid_options(
    run: Any, tmp_path: Path, options: list[str], code: ExitCode, message: str
) -> None:
    source = tmp_path / "in.csv"
    write_pupils(source, 5)
    done = run(source, tmp_path / "out.csv", *options)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_train_command_names_unreachable_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_client, "CONNECT_SECONDS", 0.5)
    model = Model("seed", "0" * 64, 0.9, ROOT)
    with (
        pytest.raises(UnavailableError, match="No Dask scheduler answers"),
        executors.dask(model, "tcp://127.0.0.1:1"),
    ):
        pass


def test_score_needs_pyarrow_for_parquet_only(tmp_path: Path) -> None:
    write_pupils(tmp_path / "in.csv", 200_000 // 10)
    hidden = "import sys; sys.modules['pyarrow'] = sys.modules['tqdm'] = None\n"
    code = hidden + "from student_success.cli.main import main; sys.exit(main(sys.argv[1:]))"
    told = {}
    for name in ("out.csv", "out.parquet"):
        arguments = command(tmp_path / "in.csv", tmp_path / name, "--workers=1")[3:]
        told[name] = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    assert told["out.csv"].returncode == 0, told["out.csv"].stderr
    assert told["out.parquet"].returncode == ExitCode.USAGE
    assert "requirements/full.txt" in told["out.parquet"].stderr


def test_score_shows_progress_bar_only_on_a_terminal(run: Any, tmp_path: Path) -> None:
    write_pupils(tmp_path / "in.csv", 100)
    assert run(tmp_path / "in.csv", tmp_path / "quiet.csv").stderr == ""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        command(tmp_path / "in.csv", tmp_path / "out.csv"),
        cwd=ROOT,
        env=environment(tmp_path),
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    seen = b""
    # The terminal is gone once nobody has it open.
    with contextlib.suppress(OSError):
        while True:
            seen += os.read(ours, 1 << 16)
    os.close(ours)
    assert process.wait(60) == 0
    assert b"100%" in seen


def test_score_returns_predictions_of_the_running_service(run: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    write_pupils(source, 400)
    with serving(tmp_path / "state") as server:
        rows = rows_of(source)
        students = [
            {name: _typed(name, row[name]) for name in FEATURE_NAMES if row[name]} for row in rows
        ]
        answer = httpx.post(f"{server.url}/predict_batch", json={"students": students}, timeout=60)
        # Beside the running service, with the database it uses.
        done = run(source, out)
    assert done.returncode == 0, done.stderr
    for told, row in zip(answer.json()["predictions"], rows_of(out), strict=True):
        assert {
            "predicted_G3": repr(told["predicted_G3"]),
            "decision": told["decision"],
            "pass_probability": repr(told["pass_probability"]),
            "interval_low": str(told["interval"]["low"]),
            "interval_high": str(told["interval"]["high"]),
            "horizon": told["horizon"],
            "at_risk": str(told["at_risk"]).lower(),
            "model_version": told["model_version"],
        } == {name: row[name] for name in row if name not in ("line", "reference")}


def _typed(name: str, text: str) -> Any:
    if name in ("G1", "G2"):
        return float(text)
    return int(text) if text.isdecimal() else text
