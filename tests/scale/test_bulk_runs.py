"""Whole bulk runs: killed and continued, on local processes and on a Dask cluster."""

from __future__ import annotations

import contextlib
import csv
import errno
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
from student_success.bulk.files import JOURNAL
from student_success.bulk.model_choice import Model
from student_success.bulk.scoring import Task
from student_success.cli.output import ExitCode
from student_success.core import dask_client
from student_success.core.errors import UnavailableError
from student_success.core.paths import ROOT
from student_success.domain.students import FEATURE_NAMES
from tests.scale.dask_cluster import DaskCluster, dask_cluster
from tests.server import serving
from tests.unit.bulk.test_rows import MODEL as SEED_MODEL
from tests.unit.bulk.test_rows import layout as bulk_layout

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
    """Return a file of several parts, some rows of which are not right."""
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


@pytest.fixture(scope="module")
def district(pupils: Path) -> Path:
    """Return a folder of files of different sizes."""
    lines = pupils.read_text().splitlines(keepends=True)
    folder = pupils.with_name("district")
    folder.mkdir()
    for number in range(8):
        count = len(lines) // 16 * (1 + number % 2)
        (folder / f"{number}.csv").write_text("".join([lines[0], *lines[-count:]]))
    return folder


def test_score_finishes_a_folder_with_the_same_bytes_after_repeated_kills(
    district: Path, tmp_path: Path
) -> None:
    out, expected = tmp_path / "out", tmp_path / "expected"
    env = environment(tmp_path)
    subprocess.run(command(district, expected, "--workers=1"), env=env, cwd=ROOT, check=True)
    chance = random.Random(8)
    kills = 0
    while True:
        process = subprocess.Popen(
            command(district, out, "--workers=2"),
            cwd=ROOT,
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        tree: list[psutil.Process] = []
        if kills < KILLS:
            before = len(finished(out))
            # From the start of the work on: once at once, else after the next finished file.
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                if len(finished(out)) > before or (not kills and list(out.glob(".*.part"))):
                    break
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.1))
            if process.poll() is None:
                tree = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGKILL)
                kills += 1
        said, problem = process.communicate(timeout=120)
        # Its workers go with it.
        psutil.wait_procs(tree, timeout=10)
        assert not any(one.is_running() and one.status() != "zombie" for one in tree)
        # A file is there whole or not at all.
        for path in out.glob("[0-9].csv"):
            assert path.read_bytes() == (expected / path.name).read_bytes()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, problem
    assert kills >= 3
    assert "of 8 files were scored before" in said
    # A file is scored twice only if the kill came between its last two steps.
    assert len(finished(out)) <= 8 + kills
    assert content_of(out) == content_of(expected)


def finished(out: Path) -> list[str]:
    journal = out / JOURNAL
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [json.loads(line)["output"] for line in lines if line.endswith("}")]


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != JOURNAL
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("step", ["complete", "rejects in place", "predictions in place"])
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
    assert out.exists() == (step == "predictions in place")
    assert not out.exists() or both(out) == whole
    done = run(pupils, out, *["--overwrite"] * out.exists())
    assert done.returncode == 0, done.stderr
    assert both(out) == whole
    assert not list(tmp_path.glob(".*.part"))


_STOPPING = """
import os, pathlib, signal, sys

def die():
    os.kill(os.getpid(), signal.SIGKILL)

replace = pathlib.Path.replace
def replacing(self, target):
    if self.name.endswith(".part"):
        if STEP == "complete":
            die()
        replace(self, target)
        if STEP == "rejects in place" or not target.name.endswith(".bad.csv"):
            die()
pathlib.Path.replace = replacing
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
        begun = tmp_path / ".out.csv.part"
        while process.poll() is None and not begun.exists():
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
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("[!.]*.*")
    )
    assert found == ["a.csv", "c.csv", "d.parquet", "north/b.csv"]
    assert "203" not in done.stdout
    assert "205 pupils" in done.stdout
    rows = rows_of(tmp_path / "out" / "c.csv")
    table = parquet.read_table(tmp_path / "out" / "d.parquet").to_pylist()
    assert [float(row["predicted_G3"]) for row in rows] == [row["predicted_G3"] for row in table]
    again = run(source, tmp_path / "out")
    assert again.returncode == 0
    assert "4 of 4 files were scored before" in again.stdout
    again = run(source, tmp_path / "out", "--with-inputs")
    assert again.returncode == ExitCode.REFUSED
    assert "--overwrite" in again.stderr
    assert run(source, tmp_path / "out", "--overwrite", "--to=csv").returncode == 0
    assert (tmp_path / "out" / "d.csv").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--engine=dask"], ExitCode.USAGE, "--scheduler"),
        (["--model=7"], ExitCode.REFUSED, "never deployed"),
        (["--model=/nowhere"], ExitCode.REFUSED, "incomplete or damaged"),
        (["--workers=0"], ExitCode.USAGE, "1 or more"),
        (["--encoding=of-none"], ExitCode.USAGE, "no encoding of-none"),
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


class _Ending:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_local_run_says_what_to_do_when_a_worker_is_killed() -> None:
    with (
        pytest.raises(UnavailableError, match=r"killed.*run the same command again"),
        executors.local(SEED_MODEL, 2) as (_, submit),
    ):
        submit(_Ending(), Task(bulk_layout())).result(60)  # type: ignore[arg-type]


def test_run_on_dask_says_what_to_do_when_the_scheduler_is_lost(tmp_path: Path) -> None:
    def lose_scheduler(cluster: DaskCluster) -> None:
        with executors.dask(SEED_MODEL, cluster.address) as (_, submit):
            cluster.scheduler.kill()
            cluster.scheduler.wait(10)
            submit(_Ending(), Task(bulk_layout())).result(120)  # type: ignore[arg-type]

    with (
        dask_cluster(tmp_path, workers=1) as cluster,
        pytest.raises(UnavailableError, match="run the same command again"),
    ):
        lose_scheduler(cluster)


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_full_disk_is_not_taken_for_a_lost_worker(tmp_path: Path, engine: str) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(OSError, match="No space left"))
        if engine == "dask":
            cluster = stack.enter_context(dask_cluster(tmp_path, workers=1))
            stack.enter_context(executors.dask(SEED_MODEL, cluster.address))
        else:
            stack.enter_context(executors.local(SEED_MODEL, 1))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_score_says_what_to_install_where_pyarrow_is_missing(tmp_path: Path) -> None:
    write_pupils(tmp_path / "in.csv", 5)
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "import student_success.cli.context as context\n"
        "context.find_spec = lambda name: None if name == 'pyarrow' else find(name)\n"
        "from student_success.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, *command(tmp_path / "in.csv", tmp_path / "out.csv")[3:]],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == ExitCode.USAGE
    assert "student-success[scale]" in told.stderr
    assert not (tmp_path / "out.csv").exists()


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
            "unusual": " ".join(told.get("unusual", [])),
        } == {name: row[name] for name in row if name not in ("line", "reference")}


def _typed(name: str, text: str) -> Any:
    if name in ("G1", "G2"):
        return float(text)
    return int(text) if text.isdecimal() else text
