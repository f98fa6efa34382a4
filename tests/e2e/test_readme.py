"""Every command of README.md is run as printed, in a shell of its own and a copy of the checkout.

Only the port differs, because another server may use 8000.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import registered_versions
from tests.server import ADMIN_TOKEN, ROOT, Server
from training.data.dataset import SAMPLE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

BLOCKS = re.findall(r"^```bash\n(.*?)\n```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
PUPILS = 161
NOT_RUN = "make serve"
"""The block of the two commands: the server of these tests is started in its place."""


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
    yield server
    server.stop()


@pytest.fixture(scope="module")
def checkout(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tracked files with `.venv`, `.env` and a file of pupils."""
    folder = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    settings = server.settings | {"STATE_DIR": str(server.state_dir), "ADMIN_TOKEN": ADMIN_TOKEN}
    (folder / ".env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()), "utf-8")
    shutil.copy2(server.settings["DATA_PATH"], folder / "pupils.csv")
    return folder


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda n: BLOCKS[n].split("\n")[0][:60])
def test_commands_of_the_readme_work_as_printed(
    server: Server, checkout: Path, number: int
) -> None:
    block = BLOCKS[number]
    if block.startswith(NOT_RUN):
        return
    done = subprocess.run(
        ["bash", "-euc", block.replace("localhost:8000", f"localhost:{server.port}")],
        cwd=checkout,
        env={name: os.environ[name] for name in ("PATH", "HOME")},
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout
