"""What the card of the seed model says about its data holds for the model."""

from __future__ import annotations

from itertools import pairwise

from student_success.core.paths import ROOT
from student_success.domain.students import PERIODS, PROFILE, StudentFeatures
from student_success.model.predictor import Predictor
from training.export.artefact import random_students

SEED = Predictor.load(ROOT / "student_success" / "seed", version="seed")


def test_card_says_from_when_counts_are_and_what_it_does_to_early_predictions() -> None:
    [limit] = [text for text in SEED.artefact.card["limits"] if "end of the year" in text]
    assert limit.startswith(f"{', '.join(PROFILE.training.unrecorded_when_not_finished)}: ")
    assert "no grade is known, it changes no prediction" in limit
    assert "rather too good" in limit
    pupils = random_students(300, seed=4)
    for known in range(len(PERIODS) + 1):
        by_count = []
        for count in (0, 6, 12, 40):
            changed = [one | dict.fromkeys(PERIODS[known:]) | {"absences": count} for one in pupils]
            if known:
                # Of some of these pupils no grade is known.
                changed = [one | {p: one[p] or 11.0 for p in PERIODS[:known]} for one in changed]
            students = [StudentFeatures.model_validate(one) for one in changed]
            by_count.append([said.grade for said in SEED.predict_many(students)])
        for fewer, more in pairwise(by_count):
            assert all(a >= b for a, b in zip(fewer, more, strict=True))
        if not known:
            assert by_count[0] == by_count[-1]
