"""What is fetched from elsewhere is named exactly: actions by commit, images by version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from student_success.core.settings import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
OURS = {"API_IMAGE", "UI_IMAGE", "MLFLOW_IMAGE"}
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_action_is_pinned_by_commit_and_says_its_release(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert used
    for line in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v?\d+\.\d+\.\d+", line), line


def test_image_of_others_is_pinned_by_version() -> None:
    images = dict(re.findall(r"image: \$\{([A-Z0-9_]+):-([^}]+)\}", COMPOSE))
    assert len(images) == len(set(re.findall(r"image: (.+)", COMPOSE)))
    for name, image in images.items():
        assert EXACT.fullmatch(image) or name in OURS, image


@pytest.mark.parametrize("name", ["api", "ui", "mlflow"])
def test_images_have_one_base(name: str) -> None:
    base = re.search(r"base_image: (\S+)", (ROOT / "bentofile.yaml").read_text("utf-8"))
    assert base is not None
    assert EXACT.fullmatch(base[1])
    dockerfile = (ROOT / "docker" / f"{name}.Dockerfile").read_text("utf-8")
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {base[1]}


def test_no_lock_file_is_without_hashes_or_names_an_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        lines = path.read_text("utf-8").splitlines()
        assert not [line for line in lines if "://" in line or line.startswith("--index")], path
        pinned = [number for number, line in enumerate(lines) if re.match(r"^[\w.-]+.*==", line)]
        assert pinned
        assert all("--hash=sha256:" in lines[number + 1] for number in pinned), path
