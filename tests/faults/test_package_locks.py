"""Only locked packages are installed: with one wrong byte nothing is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.promise_counts import counts
from tests.server import ROOT

pytestmark = pytest.mark.faults

PROMISE = "only locked packages are installed"
LOCKED = "packaging"
"""Small, pure Python, needs nothing."""
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROGRAMS = [
    *(ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / ".ci" / "engine", ROOT / "bentofile.yaml"),
    *(ROOT / ".github" / "workflows").glob("*.yml"),
    *(path for path in (ROOT / "docker").rglob("*") if path.is_file()),
]


def pip() -> list[str]:
    """Return the words with which the Makefile installs."""
    match = re.search(r"^PIP := \$\(BIN\)/python (.*)$", MAKEFILE, re.MULTILINE)
    assert match is not None
    return [sys.executable, *match[1].split()]


def lock() -> str:
    """Return what the real lock file says of one package."""
    text = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    match = re.search(rf"^{LOCKED}==.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[0].rstrip() + "\n"


def install(folder: Path, requirements: str) -> subprocess.CompletedProcess[str]:
    listed = folder / "locked.txt"
    listed.write_text(requirements, "utf-8")
    return subprocess.run(
        [*pip(), "--target", str(folder / "into"), "--no-cache-dir", "-r", str(listed)],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15"},
        timeout=200,
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no package index can be reached: then nothing could be installed at all."""
    done = install(tmp_path_factory.mktemp("right"), lock())
    if "No matching distribution" in done.stderr or "Could not fetch" in done.stderr:
        pytest.skip("no package index is reachable: nothing can be installed, right or wrong")
    assert done.returncode == 0, done.stderr


def test_locked_package_is_installed(index: None, tmp_path: Path) -> None:
    assert install(tmp_path, lock()).returncode == 0
    assert (tmp_path / "into" / LOCKED).is_dir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: re.sub(r"sha256:(.)", flipped, text), "DO NOT MATCH THE HASHES"),
        (lambda text: text.partition(" ")[0] + "\n", "hash"),
        (lambda text: text + "wheel==0.45.1\n", "hash"),
    ],
    ids=["another hash", "no hash", "one package more"],
)
def test_package_that_differs_from_lock_is_not_installed(
    index: None, tmp_path: Path, change: object, said: str
) -> None:
    assert callable(change)
    changed = change(lock())
    assert changed != lock()
    done = install(tmp_path, changed)
    counts.add(promise=PROMISE, faults=1, requests=1, lost=int(done.returncode == 0))
    assert done.returncode != 0
    assert re.search(said, done.stderr, re.IGNORECASE), done.stderr
    assert not (tmp_path / "into" / LOCKED).exists()


def flipped(match: re.Match[str]) -> str:
    return f"sha256:{int(match[1], 16) ^ 1:x}"


def test_every_install_command_requires_hashes() -> None:
    installs = 0
    for path in PROGRAMS:
        for line in path.read_text("utf-8", "replace").replace("\\\n", " ").splitlines():
            if re.search(r"\bpip3? .*\b(install|download|wheel)\b|\buv pip (install|sync)\b", line):
                installs += 1
                assert "--require-hashes" in line, f"{path.name}: {line.strip()}"
            assert not re.search(r"\b(pipx|easy_install|curl|wget)\b.*(install|http)", line), line
    assert installs >= 4
    # Each use of the variable is of a lock file.
    for line in MAKEFILE.splitlines():
        if "$(PIP)" in line:
            named = re.findall(r"-r (\S+)", line)
            assert named
            assert all((ROOT / name).suffix == ".txt" for name in named)
            assert all("--hash=sha256:" in (ROOT / name).read_text("utf-8") for name in named)


def test_manifest_of_seed_lists_every_file() -> None:
    """What is served first was locked as well."""
    folder = ROOT / "student_success" / "seed"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["files"]
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "manifest.json",
        *manifest["files"],
    }


@pytest.mark.parametrize(
    ("weaknesses", "skipped", "must", "code", "said"),
    [
        ([], False, "", 0, "1 of 1 packages"),
        ([{"id": "X-1", "fix_versions": ["2.0"]}], False, "", 1, "X-1, mended in 2.0"),
        ([{"id": "X-2", "fix_versions": []}], False, "", 0, "X-2, not mended"),
        ([], True, "", 0, "NO ADVISORIES WERE REACHED"),
        ([], True, "1", 1, "NO ADVISORIES WERE REACHED"),
    ],
)
def test_audit_fails_on_fixable_weakness_and_reports_missing_advisories(
    tmp_path: Path, weaknesses: list[object], skipped: bool, must: str, code: int, said: str
) -> None:
    package = {"name": "x", "version": "1.0", "vulns": weaknesses}
    answer = {"dependencies": [{"name": "x", "skip_reason": "away"} if skipped else package]}
    (tmp_path / "pip_audit.py").write_text(f"print({json.dumps(json.dumps(answer))})", "utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "audit")],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MUST_REACH": must},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout


def test_audit_runs_at_every_change() -> None:
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    assert re.search(r"^make\b.* audit\b", text, re.MULTILINE)
    assert shutil.which(str(ROOT / ".ci" / "audit"))
