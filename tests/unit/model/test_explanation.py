"""Why: shares that add up, sentences, and what-if, on the committed seed model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import (
    EXAMPLE,
    FEATURE_NAMES,
    HORIZONS,
    PERIODS,
    StudentFeatures,
)
from student_success.model.explanation import CHANGEABLE, NOISE, Explainer
from student_success.model.explanation_text import sentence_en, sentence_fr
from student_success.model.predictor import Predictor
from student_success.services.explanation import _explain
from training.data.dataset import read
from training.export.artefact import random_students

SEED = ROOT / "student_success" / "seed"


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(Predictor.load(SEED, version="seed"))


def pupil(**changes: object) -> StudentFeatures:
    return StudentFeatures.model_validate(dict(EXAMPLE) | changes)


PUPILS = [
    pupil(),
    pupil(G1=10.5, G2=9.5),
    pupil(G2=None),
    pupil(G1=None, G2=None),
    pupil(G1=4.5, G2=0.0, failures=3, absences=0),
    pupil(G1=20.0, G2=20.0),
    pupil(G1=0.0, G2=0.0),
]


@pytest.mark.parametrize("student", PUPILS)
def test_shares_add_up_to_the_prediction(explainer: Explainer, student: StudentFeatures) -> None:
    said = explainer.explain(student)
    total = sum(item.share for item in said.contributions)
    assert total == pytest.approx(said.grade - said.baseline, abs=1e-3)
    assert sorted(item.feature for item in said.contributions) == sorted(FEATURE_NAMES)


@pytest.mark.parametrize("student", PUPILS)
def test_rounding_is_all_that_the_shares_leave_over(
    explainer: Explainer, student: StudentFeatures
) -> None:
    known = ("none", "G1", "G1+G2").index(student.horizon)
    shares, baseline = explainer._shares(student, known)
    said = explainer._predictor.estimate([student])[0]
    assert baseline + shares.sum() == pytest.approx(said, abs=1e-4)


def test_unknown_grades_have_no_share(explainer: Explainer) -> None:
    shares = {c.feature: c.share for c in explainer.explain(pupil(G2=None)).contributions}
    assert shares["G2"] == 0


@pytest.mark.parametrize("student", PUPILS)
def test_what_if_changes_only_what_can_be_changed_and_helps(
    explainer: Explainer, student: StudentFeatures
) -> None:
    said = explainer.explain(student)
    for item in said.what_if:
        assert set(item.change) <= {feature.name for feature in CHANGEABLE}
        assert 1 <= len(item.change) <= 2
        assert item.grade > said.grade
        changed = StudentFeatures.model_validate(student.model_dump() | dict(item.change))
        assert explainer._predictor.predict(changed).grade == item.grade
        if "absences" in item.change:
            assert int(item.change["absences"]) < student.absences


def test_reasons_are_whole_sentences_in_both_languages(explainer: Explainer) -> None:
    said = explainer.explain(pupil())
    assert len(said.reasons["fr"]) == len(said.reasons["en"]) >= 1
    assert said.reasons["fr"][0].startswith("Note de la 2e période (G2) : 9,8.")
    assert said.reasons["en"][0].startswith("Second-period grade (G2): 9.8.")
    assert all(re.search(r"\d", sentence) for sentence in said.reasons["en"])
    assert "cause" in said.note["fr"]
    assert "cause" in said.note["en"]


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_sentence_of_an_unknown_value_fits_a_label_of_any_gender(name: str) -> None:
    assert " : non connu. " in sentence_fr(name, None, 0.5)
    assert ": not known. " in sentence_en(name, None, 0.5)


def best_possible(name: str, value: object) -> bool:
    """Return whether a value of the shipped profile cannot be better, as it declares."""
    help_given = {"schoolsup", "famsup", "paid", "activities"}
    ends = {"failures": 0, "absences": 0, "goout": 1, "studytime": 4, "G1": 20, "G2": 20}
    return (name in help_given and value == "yes") or ends.get(name, "none") == value


def check_reasons_and_what_ifs(explainer: Explainer, student: StudentFeatures) -> None:
    now, said = explainer._predictor.predict(student), explainer.explain(student)
    for sentence in said.reasons["en"]:
        if "lowers" in sentence:
            named = [
                item
                for item in said.contributions
                if sentence_en(item.feature, item.value, item.share) == sentence
            ]
            assert not any(best_possible(item.feature, item.value) for item in named), sentence
    for item in said.what_if:
        assert item.grade >= now.grade + NOISE - 1e-9
        assert item.pass_probability >= now.pass_probability
        for name, value in item.change.items():
            before = getattr(student, name)
            better = {"absences": -1, "goout": -1, "studytime": 1}.get(name)
            assert value == "yes" if better is None else better * (value - before) > 0


def test_reasons_and_what_ifs_are_plausible_for_any_pupil(explainer: Explainer) -> None:
    for student in random_students(150, seed=8):
        check_reasons_and_what_ifs(explainer, StudentFeatures.model_validate(student))


def test_reasons_and_what_ifs_are_plausible_for_all_real_pupils(
    explainer: Explainer, real_data_dir: Path
) -> None:
    pupils = read(real_data_dir / "final.csv").frame[list(FEATURE_NAMES)].to_dict("records")
    assert len(pupils) == 662
    for pupil_ in pupils:
        for known in range(len(HORIZONS)):
            values = pupil_ | dict.fromkeys(PERIODS[known:])
            check_reasons_and_what_ifs(explainer, StudentFeatures.model_validate(values))


_SHARES = """
import json
from tests.unit.model.test_explanation import PUPILS, SEED
from student_success.model.explanation import Explainer
from student_success.model.predictor import Predictor

explainer = Explainer(Predictor.load(SEED, version="seed"))
known = [("none", "G1", "G1+G2").index(pupil.horizon) for pupil in PUPILS]
print(json.dumps([explainer._shares(*each)[0].tolist() for each in zip(PUPILS, known)]))
"""


def test_shares_do_not_depend_on_the_processor() -> None:
    """Each kind adds the terms of a matrix product in another order."""
    shares = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _SHARES],
                cwd=ROOT,
                env={**os.environ, "OPENBLAS_CORETYPE": kind},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for kind in ("Haswell", "Prescott")
    ]
    np.testing.assert_allclose(*shares, rtol=0, atol=1e-12)


def test_chance_of_not_finishing_is_part_of_the_distribution(explainer: Explainer) -> None:
    predictor = explainer._predictor
    students = [*PUPILS, *map(StudentFeatures.model_validate, random_students(100, seed=9))]
    chances = [predictor.not_finished(student) for student in students]
    _, at_most = predictor.distributions(students)
    for chance, lowest in zip(chances, at_most[:, 0], strict=True):
        assert chance is not None
        assert 0 <= chance <= lowest + 1e-4
    assert chances[4] > 0.5  # A second grade of 0.
    assert chances[5] < 0.1
    answer = _explain(predictor, explainer, PUPILS[4])
    assert answer.not_finished_probability == chances[4]
    answer = answer.model_copy(update={"not_finished_probability": None})
    assert "not_finished_probability" not in answer.model_dump_json()
