"""What `bentoml build` packs: what the service needs, and nothing that happens to lie about."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from student_success.core.paths import ROOT

DECOYS = (
    ".env",
    "data/final.csv",
    "data/raw/student-mat.csv",
    "student_success/seed/history.db",
    "student_success/private.csv",
    "training/notes.txt",
    "server.log",
    "tests/secret.py",
    "mlruns/0/meta.yaml",
)
MADE = {"bento.yaml", "README.md", "apis/openapi.yaml", "apis/schema.json", "src/bentofile.yaml"}
ENVIRONMENT = {"env/docker", "env/python"}


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build in a copy of the checkout with things in it that must not get out."""
    folder = tmp_path_factory.mktemp("bento")
    checkout = folder / "checkout"
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    for name in DECOYS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("SECRET=not-for-others\n", "utf-8")
    (folder / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", "--version", "test"],
        cwd=checkout,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BENTOML_HOME": str(folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
            "STATE_DIR": str(folder / "state"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder / "home" / "bentos" / "student_success" / "test"


def packed(bento: Path) -> set[str]:
    return {str(path.relative_to(bento)) for path in bento.rglob("*") if path.is_file()}


def test_only_tracked_files_of_the_service_are_packed(bento: Path) -> None:
    allowed = ("service.py", "grade_models.py", "data/sample.csv", "student_success/", "training/")
    source = {
        name.removeprefix("src/")
        for name in packed(bento) - MADE
        if not any(name.startswith(folder) for folder in ENVIRONMENT)
    }
    assert source <= set(tracked())
    assert all(name.startswith(allowed) for name in source)
    assert not {name for name in packed(bento) if name.removeprefix("src/") in DECOYS}


def test_everything_the_service_needs_is_packed(bento: Path) -> None:
    needed = {
        name
        for name in tracked()
        if name.startswith(("student_success/", "training/")) and "__pycache__" not in name
    }
    assert {f"src/{name}" for name in needed} <= packed(bento)


def test_no_secret_is_in_the_bento(bento: Path) -> None:
    for name in packed(bento):
        assert b"not-for-others" not in (bento / name).read_bytes(), name


def test_requirements_are_locked_by_hash_and_name_no_address(bento: Path) -> None:
    requirements = (bento / "env" / "python" / "requirements.txt").read_text("utf-8")
    ours = (ROOT / "requirements" / "image.txt").read_text("utf-8")
    # BentoML sets quotes and lines in its own way; names, versions and hashes are what counts.
    kept = re.compile(r"^[\w.-]+==[\w.]+|--hash=sha256:\w+", re.MULTILINE)
    assert set(kept.findall(requirements)) == set(kept.findall(ours))
    assert "--hash=sha256:" in requirements
    assert "://" not in requirements


def test_bento_carries_the_contract(bento: Path) -> None:
    paths = yaml.safe_load((bento / "apis" / "openapi.yaml").read_text("utf-8"))["paths"]
    assert {"/predict", "/history", "/train", "/promote", "/rollback", "/health"} <= set(paths)


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    pins = [line.split(";")[0].rstrip(" \\").split("==") for line in lines if "==" in line]
    return {pin[0].split("[")[0]: pin[1].strip() for pin in pins if not pin[0].startswith(" ")}


def test_image_has_the_versions_that_were_tested() -> None:
    image, tested = locked("image"), locked("dev")
    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}


def test_mlflow_server_is_of_the_version_of_its_clients() -> None:
    assert (
        locked("mlflow")["mlflow"] == locked("image")["mlflow-skinny"] == locked("full")["mlflow"]
    )
