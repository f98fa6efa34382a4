"""The README says what is true: every setting, the routes it names, its example."""

from __future__ import annotations

import json
import re
from pathlib import Path

from student_success.api.endpoints import ENDPOINTS
from student_success.core.settings import Settings
from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.schemas.prediction import PredictionAnswer
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.model.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_answer_shown_is_the_answer_of_the_seed() -> None:
    found = re.search(r'```json\n(\{"prediction_id".*?)\n```', README, re.DOTALL)
    assert found is not None
    shown = json.loads(found.group(1))
    said = Predictor.load(Settings().seed_model_path, version="seed").predict(
        StudentFeatures.model_validate(EXAMPLE)
    )
    assert set(shown) == set(PredictionAnswer.model_fields)
    assert shown["interval"] == {"low": said.low, "high": said.high, "level": INTERVAL_LEVEL}
    for name in ("predicted_G3", "decision", "pass_probability", "horizon", "at_risk"):
        assert shown[name] == getattr(said, name), name


def test_figures_are_those_of_the_report() -> None:
    report = (ROOT / "docs" / "model-report.md").read_text("utf-8")
    parts = {part.split("\n", 1)[0]: part for part in report.split("### Known: ")[1:]}
    words = {"both period grades": "G1+G2", "the first one": "G1", "none yet": "none"}
    shown = re.findall(
        r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.M
    )
    assert {row[0] for row in shown} == set(words)
    for known, *figures in shown:
        for name, (ours, rule) in {"MAE": figures[:2], "pass/fail accuracy": figures[2:]}.items():
            line = rf"^\| {name} \| {ours} ± [\d.]+ \| {rule} ± [\d.]+ \|$"
            assert re.search(line, parts[words[known]], re.M), (known, name)


def test_every_path_in_a_command_is_a_route() -> None:
    paths = {endpoint.path for endpoint in ENDPOINTS}
    named = set(re.findall(r"localhost:8000(/[a-z_]+)", README))
    assert named
    assert named <= paths


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", " ".join(re.findall(r"`[^`]*`|```.*?```", README))))
    assert named
    assert named <= targets
