"""What the trial lets through is what our own families fit, all of it and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import skops.io

from student_success.domain.students import FEATURE_NAMES, TARGET
from student_success.registry.artefact_check import KINDS, TYPES, parts
from training.data.dataset import SAMPLE, read
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe, fit_model

pytestmark = pytest.mark.model
PUPILS = 80


def test_parts_of_every_family_are_known_and_no_other_is(tmp_path: Path) -> None:
    data = read(SAMPLE).frame.head(PUPILS)
    found: set[str] = set()
    for name, family in FAMILIES.items():
        recipe = Recipe(name, dict(family.default), 1)
        model = fit_model(data[list(FEATURE_NAMES)], data[TARGET].to_numpy(float), recipe)
        path = tmp_path / f"{name}.skops"
        skops.io.dump(model, path)
        found |= parts(path)
    assert found == KINDS | TYPES
