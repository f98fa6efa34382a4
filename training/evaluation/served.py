"""A served version that this program can no longer refit, run as it is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    StudentFeatures,
)
from student_success.model.artefact import FORMAT, MANIFEST
from student_success.model.predictor import Predictor
from training.fitting.calibration import Calibrated, calibrated
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
        return calibrated(*predictor.distributions(_students(rows)), mass)


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
