"""A served version that this program can no longer refit, run as it is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    PASS_LEVEL,
    StudentFeatures,
)
from student_success.model.artefact import FORMAT, MANIFEST
from student_success.model.grading import (
    PARTS,
    grid_indices,
    intervals,
    nearest_levels,
    pass_probabilities,
)
from student_success.model.predictor import Predictor
from training.fitting.calibration import Calibrated
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe

_WHOLE = [feature.name for feature in FEATURES if feature.kind == "integer"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An artefact, by its folder; each fold loads it in its own process.

    It may have been trained on the pupils it is shown, which can only flatter it.
    """

    folder: Path

    def predict(self, rows: pd.DataFrame, horizon: str) -> Calibrated:
        """Return its predictions as served for pupils of one horizon."""
        predictor = Predictor.load(self.folder, version="champion")
        mass = next(model.mass for model in predictor.models if model.horizon == horizon)
        levels, cdf = predictor.distributions(_students(rows))
        indices = grid_indices(levels)
        nearest = nearest_levels(indices)
        low, high = intervals(cdf, nearest, np.full(len(cdf), mass))
        return Calibrated(
            grade=indices / PARTS,
            probability=pass_probabilities(cdf[:, PASS_LEVEL - 1], nearest >= PASS_LEVEL),
            low=low.astype(np.float64),
            high=high.astype(np.float64),
            cdf=cdf,
        )


def champion_model(recipe: Mapping[str, Any]) -> Recipe | ServedModel:
    """Return the champion's recipe, or its artefact if there is no such family of models any more.

    Parameters
    ----------
    recipe
        Content of its recipe.json, with the ``"folder"`` of its artefact if that can be run.
    """
    folder = recipe.get("folder")
    if folder is None:
        return Recipe.from_json(recipe)
    manifest = json.loads((Path(folder) / MANIFEST).read_text("utf-8"))
    if recipe["family"] in FAMILIES and manifest["format"] == FORMAT:
        return Recipe.from_json(recipe)
    return ServedModel(Path(folder))


def _students(rows: pd.DataFrame) -> list[StudentFeatures]:
    students = []
    for row in rows[list(FEATURE_NAMES)].to_dict("records"):
        values: dict[str, Any] = {
            str(name): None if value != value else value for name, value in row.items()
        }
        for name in _WHOLE:
            if values[name] is not None:
                values[name] = int(values[name])
        # Checked already; what a pupil left unrecorded may be a value that a request must name.
        students.append(StudentFeatures.model_construct(**values))
    return students
