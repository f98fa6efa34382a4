"""Explanations of another school's model: a short scale, and a period no training pupil has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.schools import SCHOOLS, make_pupils, run_with_profile, write_profile

pytestmark = pytest.mark.model

_FIT = """
import json, sys
from pathlib import Path
import pandas as pd
from student_success.domain.students import FEATURE_NAMES, HORIZONS, PERIODS, StudentFeatures
from student_success.model.explanation import Explainer
from student_success.model.predictor import Predictor
from student_success.services.explanation import _explain
from training.export.artefact import write_artefact
from training.export.compile import frame_of
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe, fit

rows, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
grades = pd.Series([row.pop("final") for row in rows]).to_numpy(float)
frame = frame_of([row | {PERIODS[-1]: None} for row in rows])
fitted = fit(frame, grades, Recipe("boosting", FAMILIES["boosting"].default | {"max_iter": 40}, 1))
texts = {"recipe": {"data": {}}, "evidence": {}, "card": ({}, "")}
write_artefact(folder, fitted, frame, drift_reference={}, **texts)
predictor = Predictor.load(folder, version="1")
explainer, answers = Explainer(predictor), []
for number, row in enumerate(rows):
    known = number % len(HORIZONS)
    names = [*FEATURE_NAMES[:-len(PERIODS)], *PERIODS[:known]]
    student = StudentFeatures(**{name: row[name] for name in names})
    answers.append(_explain(predictor, explainer, student).model_dump(mode="json"))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the explanations of pupils of all horizons, in turn."""
    folder = tmp_path_factory.mktemp("school")
    profile = write_profile(folder / "school.toml", "lower-is-better")
    text = SCHOOLS["lower-is-better"].replace(
        'kind = "number"', 'kind = "number"\nchange = { step = 0.05, better = "higher" }'
    )
    (folder / "school.toml").write_text(text, "utf-8")
    rows = make_pupils(profile, pupils=120)
    for row in rows:
        del row["reference"]
    (folder / "artefact").mkdir()
    found: list[dict[str, Any]] = run_with_profile(
        folder / "school.toml", _FIT, json.dumps(rows), str(folder / "artefact")
    )
    return found


def test_explanation_starts_from_the_last_grade_that_training_pupils_have(
    answers: list[dict[str, Any]],
) -> None:
    assert {answer["horizon"] for answer in answers[:4]} == {
        *("none", "autumn", "autumn+winter", "autumn+winter+spring")
    }
    for answer in answers:
        total = sum(item["share"] for item in answer["contributions"])
        assert total == pytest.approx(
            answer["predicted_final"] - answer["baseline_final"], abs=1e-3
        )


def test_what_if_may_change_a_number_between_two_whole_ones(answers: list[dict[str, Any]]) -> None:
    changes = [item["change"] for answer in answers for item in answer["what_if"]]
    assert any(value % 1 for change in changes for value in change.values())


def test_share_of_a_short_scale_is_written_with_the_decimals_that_it_needs(
    answers: list[dict[str, Any]],
) -> None:
    for answer in answers:
        by_size = sorted(answer["contributions"], key=lambda item: -abs(item["share"]))
        shares = {f"{abs(item['share']):.2f}".rstrip("0").rstrip(".") for item in by_size}
        for sentence in answer["reasons"]["en"]:
            size = sentence.rpartition("by about ")[2].split()[0]
            assert size in shares
            assert float(size) > 0
