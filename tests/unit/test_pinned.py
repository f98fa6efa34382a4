"""What is fetched from elsewhere is named exactly: actions by commit, images by version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from student_success.core.paths import ROOT

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


def workflow(name: str) -> dict[str, Any]:
    path = ROOT / ".github" / "workflows" / name
    loaded: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded


def steps_with(job: dict[str, Any], action: str) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if step.get("uses", "").startswith(action)]


IMAGES = {
    "student-success" + ("" if path.stem == "api" else f"-{path.stem}")
    for path in (ROOT / "docker").glob("*.Dockerfile")
}


@pytest.mark.parametrize(("name", "job"), [("ci.yml", "image"), ("release.yml", "push")])
def test_every_image_is_scanned(name: str, job: str) -> None:
    scans = steps_with(workflow(name)["jobs"][job], "aquasecurity/trivy-action@")
    assert {scan["with"]["image-ref"] for scan in scans} == {f"{image}:test" for image in IMAGES}
    assert {scan["with"]["exit-code"] for scan in scans} == {"1"}
    assert {scan["with"]["severity"] for scan in scans} == {"HIGH,CRITICAL"}


def test_every_released_image_has_materials_provenance_and_signature() -> None:
    jobs = workflow("release.yml")["jobs"]
    (push,) = (step["run"] for step in jobs["push"]["steps"] if step.get("id") == "push")
    assert set(re.findall(r"student-success[\w-]*", push)) == IMAGES
    sign = jobs["sign"]
    assert set(sign["strategy"]["matrix"]["image"]) == IMAGES
    # By digest: a tag may move.
    assert "digests" in sign["env"]["DIGEST"]
    (materials,) = steps_with(sign, "aquasecurity/trivy-action@")
    assert materials["with"]["format"] == "cyclonedx"
    (attached,) = steps_with(sign, "actions/attest-sbom@")
    assert attached["with"]["sbom-path"] == materials["with"]["output"]
    (provenance,) = steps_with(sign, "actions/attest-build-provenance@")
    for step in (attached, provenance):
        assert step["with"]["subject-digest"] == "${{ env.DIGEST }}"
        assert step["with"]["push-to-registry"] is True
    assert sign["steps"][-1]["run"] == 'cosign sign --yes "$NAME@$DIGEST"'
    assert sign["permissions"]["id-token"] == sign["permissions"]["attestations"] == "write"


def test_every_folder_of_tests_runs_on_github() -> None:
    steps = [step for job in workflow("ci.yml")["jobs"].values() for step in job["steps"]]
    run = {
        target for step in steps for target in re.findall(r"make ([a-z -]+)", step.get("run", ""))
    }
    makefile = (ROOT / "Makefile").read_text("utf-8")
    # `make test` runs all but these, and some of them at its end.
    apart = re.search(r"foreach apart,([a-z ]+),--ignore", makefile)
    at_the_end = re.findall(r"pytest tests/([a-z]+) \|\| status=1", makefile)
    assert apart is not None
    assert at_the_end == ["browser", "speed"]
    others = set(apart[1].split()) - set(at_the_end)
    assert others == {"faults", "scale", "stack"}
    assert {"test", *(f"test-{folder}" for folder in others)} <= run
    for folder in others:
        assert re.search(rf"^\t.*pytest.* tests/{folder}$", makefile, re.MULTILINE)
    # Without them the tests of alerts, replicas and the proxy are skipped.
    installed = " ".join(step.get("run", "") for step in steps if "apt-get" in step.get("run", ""))
    for package in ("prometheus", "prometheus-alertmanager", "postgresql", "caddy", "strace"):
        assert f" {package} " in f"{installed} "
