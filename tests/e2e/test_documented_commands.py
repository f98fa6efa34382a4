"""The commands of the documents are run as printed, each block in a shell of its own.

Each document has a copy of the checkout. Only placeholders differ, such as the port, because
another server may use 8000. `documented_commands.toml` lists the commands that are not run here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pandas as pd
import pytest

from student_success.domain.students import EXAMPLE, TARGET
from tests.documented_commands import Script, documents, listed, name_of, scripts
from tests.faults import registered_versions
from tests.scale.dask_cluster import dask_cluster
from tests.server import ADMIN_TOKEN, ROOT, Server, free_port
from training.data.dataset import SAMPLE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

ALL = [script for document in documents() for script in scripts(document)]
NAMES = sorted({name_of(line) for script in ALL for line in script.lines})
FAILURE = re.compile(r'"error": ?"|"rejected": ?\[\{')
PUPILS = 161
STOP_SECONDS = 40.0
TRAIN_SECONDS = 300.0
NAMED_PUPILS = {"class-3b": "P-0007", "SESSION": "PUPIL-17", "class": "imported"}
"""Sessions and references that the commands name."""
FILES = {
    "FILE": f"session_id,reference,{TARGET}\nclass,imported,11\n",
    "PREDICTIONS": f"reference,predicted_{TARGET}\np1,9.6\n",
}


def to_run() -> list[Script]:
    """Return the scripts without the commands that are listed; equal ones once."""
    found: dict[tuple[str, ...], Script] = {}
    for script in ALL:
        if left := tuple(line for line in script.lines if listed(line) is None):
            found.setdefault(left, Script(script.document, left))
    return list(found.values())


def entries(key: str) -> list[str]:
    return [name for name in NAMES if key in (listed(name) or {})]


def named() -> list[str]:
    """Return the names of commands in sentences."""
    return [name for name in NAMES if "--help" in (listed(name) or {}).get("reason", "")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server whose registry has versions 1 and 2, on a few pupils to train on."""
    lines = SAMPLE.read_text("utf-8").splitlines(keepends=True)[:PUPILS]
    few = tmp_path_factory.mktemp("data") / "few.csv"
    few.write_text("".join(lines), "utf-8")
    server = Server(
        registered_versions.fresh_state(tmp_path_factory),
        DATA_PATH=str(few),
        TRAIN_BUDGET_SECONDS="1",
    )
    server.start()
    for session, reference in NAMED_PUPILS.items():
        body = {**EXAMPLE, "reference": reference}
        headers = {"X-Session-Id": session}
        httpx.post(f"{server.url}/predict", json=body, headers=headers, timeout=60)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Return a function that returns the address of a cluster."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("cluster")

        @cache
        def address() -> str:
            return stack.enter_context(dask_cluster(folder, workers=1)).address

        yield address


def copy_checkout(folder: Path, **settings: str) -> Path:
    """Return a copy of the tracked files with `.venv`, `.env` and `bin/student-success`."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("."):
            (folder / ".venv" / path.name).symlink_to(path)
    # `make` installs nothing if these are newer than the requirements.
    for name in (".serve", ".full", ".dev"):
        (folder / ".venv" / name).touch()
    (folder / ".env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
    command = folder / "bin" / "student-success"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m student_success "$@"\n')
    command.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def checkout(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the copy of a document, with the files that it names."""

    @cache
    def of(document: str) -> Path:
        settings = server.settings | {"STATE_DIR": str(server.state_dir)}
        folder = copy_checkout(
            tmp_path_factory.mktemp("checkout"), **settings, ADMIN_TOKEN=ADMIN_TOKEN
        )
        pupils = pd.read_csv(server.settings["DATA_PATH"])
        pupils.to_csv(folder / "pupils.csv", index=False)
        pupils.to_parquet(folder / "pupils.parquet")
        for name, content in FILES.items():
            (folder / name).write_text(content, "utf-8")
        (folder / "district").mkdir()
        pupils.to_csv(folder / "district" / "school.csv", index=False)
        return folder

    return of


def training_job(server: Server) -> str:
    """Return the id of the newest training once it has ended; start one if there was none."""
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=60) as client:
        if "job_id" not in client.get("/train").json():
            client.post("/train")
        end = time.monotonic() + TRAIN_SECONDS
        while (job := client.get("/train").json())["state"] == "running":
            assert time.monotonic() < end, job
            time.sleep(0.5)
        return str(job["job_id"])


def environment(folder: Path) -> dict[str, str]:
    """Return what a shell has, with `student-success` and the virtual environment on the path."""
    path = f"{folder / 'bin'}:{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ["HOME"]}


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )


@pytest.mark.parametrize("script", to_run(), ids=lambda s: f"{s.document}: {s.lines[0][:60]}")
def test_commands_work_as_printed(
    server: Server, checkout: Callable[[str], Path], scheduler: Callable[[], str], script: Script
) -> None:
    folder = checkout(script.document)
    text = "\n".join(script.lines)
    if "/rollback" in text and "/promote" not in text:
        promote = {"version": 2, "reason": "to be rolled back"}
        httpx.post(f"{server.url}/promote", json=promote, headers=server.admin, timeout=120)
    if "scheduler:8786" in text:
        text = text.replace("tcp://scheduler:8786", scheduler())
    if "job_id=..." in text:
        text = text.replace("job_id=...", f"job_id={training_job(server)}")
    text = text.replace("localhost:8000", f"localhost:{server.port}")
    text = text.replace("/where/it/is/", f"{folder}/")
    if "$ADMIN_TOKEN" in text and "./.env" not in text:
        text = f"set -a; . ./.env; set +a\n{text}"
    done = run(folder, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(FAILURE, done.stdout)


@pytest.mark.parametrize("command", entries("server"))
def test_servers_answer_when_started_as_printed(
    command: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ports = {name: free_port() for name in ("PORT", "UI_PORT", "MLFLOW_UI_PORT")}
    settings = {name: str(port) for name, port in ports.items()}
    state = registered_versions.fresh_state(tmp_path_factory)
    folder = copy_checkout(
        tmp_path / "checkout", **settings, STATE_DIR=str(state), DRAIN_SECONDS="0"
    )
    text = command.replace("8000", settings["PORT"])
    entry = listed(command)
    assert entry is not None
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", text],
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{ports[entry['server']]}/", timeout=5)
                break
            said = (tmp_path / "log").read_text("utf-8")
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_SECONDS)


@pytest.mark.parametrize("command", named())
def test_commands_that_are_named_have_help(checkout: Callable[[str], Path], command: str) -> None:
    done = run(checkout("README.md"), f"{command} --help")
    assert done.returncode == 0, done.stderr
    assert re.search("usage", done.stdout, re.I)


def test_make_targets_exist(checkout: Callable[[str], Path]) -> None:
    folder = checkout("README.md")
    commands = [name for name in NAMES if re.match(r"(?:[A-Z_]+=\S* )*make ", name)]
    assert len(commands) > 15
    for command in commands:
        done = run(folder, f"{command} --dry-run")
        assert done.returncode == 0, done.stderr
