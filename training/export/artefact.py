"""Write the artefact: compiled trees, tables, evidence, model card, and their checksums."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from student_success.core.statistics import rounded
from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.students import (
    EXAMPLE,
    FEATURES,
    HORIZONS,
    NUMERIC,
    PASS_GRADE,
    PERIODS,
    PREDICTED,
    PROFILE,
    StudentFeatures,
)
from student_success.model.artefact import FORMAT, MANIFEST, finite_json, trees_file
from student_success.model.predictor import Predictor
from training.export.compile import compile_model
from training.fitting.families import hide, levels_of
from training.fitting.fit import Fitted

SMOKE_CASES = 12
RELATED_SHARE = 0.5
"""Two numbers are strongly related if one explains so much of the variance of the other."""
RELATED_PUPILS = 30
"""Fewest pupils of whom both are known."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON deterministically, so that equal content has an equal checksum."""
    text = json.dumps(
        finite_json(content), ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False
    )
    path.write_text(text + "\n", encoding="utf-8")


def write_artefact(
    folder: Path,
    fitted: Fitted,
    frame: pd.DataFrame,
    *,
    recipe: Mapping[str, Any],
    evidence: Mapping[str, Any],
    card: tuple[Mapping[str, Any], str],
    drift_reference: Mapping[str, Any],
) -> None:
    """Write all files of the artefact into an empty folder.

    Parameters
    ----------
    frame
        The pupils that the model was fitted on; no row of it is written.
    card
        The model card, as data and as Markdown.
    """
    compiled = compile_model(fitted.model)
    for horizon, trees in compiled.trees.items():
        # No time stamp: equal trees have equal bytes.
        packed = gzip.compress(trees, compresslevel=9, mtime=0)
        (folder / trees_file(horizon)).write_bytes(packed)
    rows, _, horizons = hide(frame)
    write_json(
        folder / "serving.json",
        {
            "inputs": compiled.inputs,
            "base": fitted.model.base_,
            "level": INTERVAL_LEVEL,
            "threshold": PASS_GRADE,
            "horizons": {
                horizon: {
                    "mass": table.mass,
                    "residuals": table.residuals,
                    "widening": table.widening,
                    "last": last,
                    "average": _average(rows[horizons == horizon], last),
                    "alarm": fitted.alarms[horizon],
                }
                for (horizon, table), last in zip(
                    fitted.tables.items(), fitted.model.last_, strict=True
                )
            },
        },
    )
    write_json(folder / "profile.json", PROFILE.model_dump(mode="json"))
    write_json(folder / "recipe.json", recipe)
    write_json(folder / "evaluation.json", evidence)
    write_json(folder / "card.json", card[0])
    (folder / "card.md").write_text(card[1], encoding="utf-8")
    write_json(folder / "drift_reference.json", drift_reference)
    write_json(folder / "smoke.json", {"cases": []})
    write_manifest(folder, dataset=recipe["data"])
    # The complete artefact is loaded to record its expected predictions.
    predictor = Predictor.load(folder, version="candidate")
    cases = []
    for student in smoke_students():
        prediction = predictor.predict(StudentFeatures.model_validate(student))
        expected = prediction._asdict()
        expected[PREDICTED] = expected.pop("grade")
        del expected["at_risk"]
        cases.append({"student": student, "expected": expected})
    write_json(folder / "smoke.json", {"cases": cases})
    write_manifest(folder, dataset=recipe["data"])


def _average(rows: pd.DataFrame, last: str | None) -> dict[str, float]:
    """Return the level of the last grade of the average pupil, with whom an explanation starts."""
    if last is None or not len(rows):
        return {}
    return {"last": float(levels_of(rows[last].to_numpy(dtype=np.float64)).mean())}


def write_manifest(folder: Path, *, dataset: Mapping[str, Any]) -> None:
    """Record the SHA-256 of every file of the folder."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files, "dataset": dict(dataset)})


def random_students(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Return random pupils within the bounds, of all horizons, with grades of any precision."""
    rng = np.random.default_rng(seed)
    students = []
    for _ in range(count):
        student: dict[str, Any] = {}
        for feature in FEATURES:
            if feature.kind == "category":
                student[feature.name] = str(rng.choice(feature.categories))
            elif feature.kind == "integer":
                low, high = feature.bounds
                student[feature.name] = int(rng.integers(int(low), int(high) + 1))
            elif not feature.is_period:
                student[feature.name] = float(rng.uniform(*feature.bounds))
            if feature.nullable and not feature.is_period and rng.random() < 0.1:
                student[feature.name] = None
        precision = int(rng.integers(4))
        known = int(rng.integers(len(HORIZONS)))
        for number, feature in enumerate(f for f in FEATURES if f.is_period):
            grade = float(rng.uniform(*feature.bounds))
            if precision < 3:
                parts = (1.0, 2.0, 10.0)[precision]
                low, high = feature.bounds
                grade = min(max(round(grade * parts) / parts, low), high)
            student[feature.name] = grade if number < known else None
        students.append(student)
    return students


def smoke_students() -> list[dict[str, Any]]:
    """Return a dozen pupils of all horizons: the documented example, variants and random ones."""
    students = [
        EXAMPLE | dict.fromkeys(PERIODS[known:]) for known in reversed(range(len(HORIZONS)))
    ]
    return students + random_students(SMOKE_CASES - len(students), seed=12)


def drift_reference(
    frame: pd.DataFrame, predicted: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """Count the values of the training pupils, to compare later ones; no row is kept.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.
    predicted
        Held-out predictions by horizon, in grades.
    """
    return {
        "features": {
            feature.name: _counted(frame[feature.name].dropna().tolist()) for feature in FEATURES
        },
        "predictions": {
            horizon: _counted(values.astype(np.float64).tolist())
            for horizon, values in predicted.items()
        },
        "related": related_numbers(frame),
    }


def related_numbers(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how far apart the values of strongly related numbers lie, for each pair of them.

    A value of the second is expected at `slope` times that of the first; `low`, `high` and
    `deviation` are the range and the standard deviation of what is left.
    """
    pairs = []
    for first, second in combinations(NUMERIC, 2):
        known = frame[[first, second]].dropna().to_numpy(dtype=np.float64)
        if len(known) < RELATED_PUPILS or (known == known[0]).all(axis=0).any():
            continue
        (variance, covariance), (_, other) = np.cov(known, rowvar=False)
        if covariance**2 < RELATED_SHARE * variance * other:
            continue
        slope = round(float(covariance / variance), 4)
        rest = known[:, 1] - slope * known[:, 0]
        found = {"low": rest.min(), "high": rest.max(), "deviation": rest.std()}
        rest_range = {name: round(float(value), 4) for name, value in found.items()}
        pairs.append({"features": [first, second], "slope": slope} | rest_range)
    return pairs


def _counted(values: Sequence[Any]) -> dict[str, Any]:
    counts = Counter(rounded(value) for value in values)
    return {
        "kind": "counts",
        "n": len(values),
        "counts": {str(value): count for value, count in sorted(counts.items())},
    }
