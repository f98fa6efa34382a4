from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from student_success.core.errors import ArtefactError
from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor

SEED = ROOT / "student_success" / "seed"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEED, tmp_path / "serving"))


@pytest.fixture(scope="module")
def seed() -> Predictor:
    return Predictor.load(SEED, version="seed")


def test_seed_answers_its_smoke_cases(seed: Predictor) -> None:
    seed.check_smoke()


def test_seed_answers_the_documented_example_sensibly(seed: Predictor) -> None:
    said = seed.predict(StudentFeatures.model_validate(EXAMPLE))
    assert 8 <= said.grade <= 11
    assert said.horizon == "G1+G2"


def test_figures_have_flat_names(seed: Predictor) -> None:
    assert (
        seed.artefact.metrics["G1+G2/candidate/crps"] < seed.artefact.metrics["G1+G2/baseline/crps"]
    )
    assert (
        seed.artefact.metrics["none/candidate/crps"] < seed.artefact.metrics["none/baseline/crps"]
    )


def test_seed_is_small() -> None:
    assert sum(path.stat().st_size for path in SEED.iterdir()) < 2_000_000


def test_seed_was_trained_on_real_pupils(seed: Predictor) -> None:
    assert seed.artefact.dataset["synthetic"] is False
    assert seed.artefact.dataset["rows"] == 662


@pytest.mark.parametrize("name", ["trees-G1-G2.onnx.gz", "serving.json", "evaluation.json"])
def test_altered_file_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=name):
        Predictor.load(copy, version="1")


@pytest.mark.parametrize("name", ["trees-none.onnx.gz", "manifest.json"])
def test_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtefactError):
        Predictor.load(copy, version="1")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99, "files": {}}', "null"])
def test_manifest_of_another_kind_is_refused(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ArtefactError):
        Predictor.load(copy, version="1")


def test_manifest_cannot_name_a_file_elsewhere(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../other"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="outside"):
        Predictor.load(copy, version="1")


def test_higher_recall_rings_no_fewer_alarms(seed: Predictor) -> None:
    eager = Predictor.load(SEED, version="seed", alarm_recall=0.99)
    lazy = Predictor.load(SEED, version="seed", alarm_recall=0.5)
    for grade in (6.0, 8.0, 9.0, 10.0, 11.0, 14.0):
        student = StudentFeatures.model_validate(dict(EXAMPLE) | {"G1": grade, "G2": grade})
        assert lazy.predict(student).at_risk <= eager.predict(student).at_risk


def test_two_threads_get_their_own_answers(seed: Predictor) -> None:
    students = [
        StudentFeatures.model_validate(dict(EXAMPLE) | {"G1": g / 2, "G2": g / 2})
        for g in range(41)
    ]
    expected = [seed.predict(student) for student in students]
    wrong: list[Prediction] = []

    def many() -> None:
        for _ in range(50):
            said = seed.predict_many(students)
            wrong.extend(a for a, b in zip(said, expected, strict=True) if a != b)

    thread = Thread(target=many)
    thread.start()
    for _ in range(50):
        said = [seed.predict(student) for student in students]
        wrong.extend(a for a, b in zip(said, expected, strict=True) if a != b)
    thread.join()
    assert wrong == []


def test_serving_needs_no_training_library() -> None:
    code = (
        "import sys; import student_success.model.predictor; "
        "print([m for m in ('sklearn', 'pandas', 'mlflow', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
