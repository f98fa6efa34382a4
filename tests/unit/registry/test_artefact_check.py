"""The parts that the artefact check allows are exactly those of our own model families."""

from __future__ import annotations

from pathlib import Path

import pytest
import skops.io

from student_success.domain.students import FEATURE_NAMES, TARGET
from student_success.registry.artefact_check import NODE_KINDS, TYPES, parts
from training.data.dataset import SAMPLE, read
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe, fit_model

pytestmark = pytest.mark.model
PUPILS = 80


def test_allowed_parts_are_exactly_those_of_all_families(tmp_path: Path) -> None:
    data = read(SAMPLE).frame.head(PUPILS)
    found: set[str] = set()
    for name, family in FAMILIES.items():
        recipe = Recipe(name, dict(family.default), 1)
        model = fit_model(data[list(FEATURE_NAMES)], data[TARGET].to_numpy(float), recipe)
        path = tmp_path / f"{name}.skops"
        skops.io.dump(model, path)
        found |= parts(path)
    assert found == NODE_KINDS | TYPES
