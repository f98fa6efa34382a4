"""A verified model in memory: features in, prediction out; nothing else knows how it computes.

The trees run in onnxruntime; what comes before and after them is exact float64. Grades enter the
trees as the number of cut points below them, whole numbers as they are, categories as 0 and 1: all
of these are exact in float32, so a compiled tree takes the very branch that the fitted scikit-learn
tree takes, half grades included.
"""

from __future__ import annotations

import hashlib
import json
import struct
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from student_success.errors import ArtefactError
from student_success.grading import Answers, Decision, answers, grid_index, grid_indices
from student_success.students import FEATURE_NAMES, Horizon, StudentFeatures

FORMAT = 1
MANIFEST = "manifest.json"
SMOKE_TOLERANCE = 1e-3
CHUNK = 4096
"""Rows a run of the trees: bounds the memory of a large batch."""

HORIZONS: tuple[Horizon, ...] = (Horizon.NONE, Horizon.G1, Horizon.G1_G2)


class Prediction(NamedTuple):
    """What is known about one pupil's final grade.

    Attributes
    ----------
    predicted_G3
        0 to 20, two decimals; `decision` is taken on it.
    pass_probability
        0 to 1, calibrated; at least 0.5 exactly when the decision is to pass.
    low, high
        Whole grades; the 90 % interval, `predicted_G3` rounded half up is within it.
    at_risk
        The alarm for counsellors, see `alarm_recall`.
    """

    predicted_G3: float
    decision: Decision
    pass_probability: float
    low: int
    high: int
    horizon: Horizon
    at_risk: bool


class Predictor:
    """Answer for one version; make it with `load`. Safe to use from several threads.

    Attributes
    ----------
    version
        ``"seed"``, or the MLflow version number as text.
    fingerprint
        SHA-256 of the manifest: names every byte of the artefact.
    """

    def __init__(
        self, folder: Path, *, version: str, fingerprint: str, serving: Any, alarm_recall: float
    ) -> None:
        self.version = version
        self.fingerprint = fingerprint
        self.folder = folder
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(folder / "trees.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._run = session.run
        inputs = serving["inputs"]
        self._categories: list[dict[str, tuple[float, ...]]] = [
            {value: tuple(code) for value, code in item["codes"].items()}
            for item in inputs["categories"]
        ]
        names = [item["name"] for item in inputs["categories"]] + inputs["integers"] + ["G1", "G2"]
        if sorted(names) != sorted(FEATURE_NAMES):
            raise ArtefactError("The model was made for other features than this program's.")
        self._pick = itemgetter(*names)
        self._n_categories = len(self._categories)
        self._cuts1: list[float] = inputs["cuts"]["G1"]
        self._cuts2: list[float] = inputs["cuts"]["G2"]
        self._missing1 = float(bisect_left(self._cuts1, inputs["fill"]))
        self._missing2 = float(bisect_left(self._cuts2, inputs["fill"]))
        width = sum(len(next(iter(table.values()))) for table in self._categories)
        width += len(inputs["integers"]) + 2
        self._width = width
        self._pack = struct.Struct(f"{width}f").pack
        self._base = float(serving["base"])
        self._answers: list[Answers] = []
        self._alarm: list[float] = []
        for horizon in HORIZONS:
            table = serving["horizons"][horizon]
            self._answers.append(answers(table["residuals"], table["lower"], table["upper"]))
            self._alarm.append(_alarm_level(table["alarm"], alarm_recall))
        # Everything that depends on the grade shown alone, ready made.
        self._said: list[list[Prediction]] = [
            [
                Prediction(*said, horizon, said[2] < level)
                for said in zip(a.grade, a.decision, a.pass_probability, a.low, a.high, strict=True)
            ]
            for horizon, a, level in zip(HORIZONS, self._answers, self._alarm, strict=True)
        ]

    @classmethod
    def load(cls, folder: Path, *, version: str, alarm_recall: float = 0.9) -> Predictor:
        """Verify every file of the artefact and load it.

        Parameters
        ----------
        alarm_recall
            Share of failing pupils that `at_risk` is to find, above 0 and below 1.

        Raises
        ------
        ArtefactError
            If a file is missing, altered, or not of a format this program reads.
        """
        fingerprint = verify(folder)
        try:
            serving = json.loads((folder / "serving.json").read_text(encoding="utf-8"))
            return cls(
                folder,
                version=version,
                fingerprint=fingerprint,
                serving=serving,
                alarm_recall=alarm_recall,
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ArtefactError("The model artefact cannot be read.") from error

    def predict(self, student: StudentFeatures) -> Prediction:
        """Answer for one pupil."""
        values = self._pick(student.__dict__)
        row: list[float] = []
        for codes, value in zip(self._categories, values, strict=False):
            row += codes[value]
        row += values[self._n_categories : -2]
        g1, g2 = values[-2:]
        if g2 is not None:
            horizon, last = 2, g2
            row.append(bisect_left(self._cuts1, g1))
            row.append(bisect_left(self._cuts2, g2))
        elif g1 is not None:
            horizon, last = 1, g1
            row.append(bisect_left(self._cuts1, g1))
            row.append(self._missing2)
        else:
            horizon, last = 0, self._base
            row.append(self._missing1)
            row.append(self._missing2)
        # A fresh buffer a call, not a shared one: two threads may be here at once.
        data = np.frombuffer(self._pack(*row), dtype=np.float32).reshape(1, -1)
        change = self._run(None, {"x": data})[0]
        return self._said[horizon][grid_index(last + change.item())]

    def predict_many(self, students: Sequence[StudentFeatures]) -> list[Prediction]:
        """Answer for many pupils, each exactly as `predict` would."""
        found: list[Prediction] = []
        for start in range(0, len(students), CHUNK):
            found += self._predict_chunk(students[start : start + CHUNK])
        return found

    def _predict_chunk(self, students: Sequence[StudentFeatures]) -> list[Prediction]:
        pick = self._pick
        columns = list(zip(*[pick(student.__dict__) for student in students], strict=True))
        data = np.empty((len(students), self._width), dtype=np.float32)
        at = 0
        for codes, column in zip(self._categories, columns, strict=False):
            block = np.array([codes[value] for value in column], dtype=np.float32)
            data[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        for column in columns[self._n_categories : -2]:
            data[:, at] = column
            at += 1
        g1: NDArray[np.float64] = np.array(columns[-2], dtype=np.float64)  # None becomes NaN
        g2: NDArray[np.float64] = np.array(columns[-1], dtype=np.float64)
        no1, no2 = np.isnan(g1), np.isnan(g2)
        data[:, at] = np.where(no1, self._missing1, np.searchsorted(self._cuts1, g1))
        data[:, at + 1] = np.where(no2, self._missing2, np.searchsorted(self._cuts2, g2))
        last = np.where(no2, np.where(no1, self._base, g1), g2)
        horizons = 2 - no1.astype(int) - no2
        change = self._run(None, {"x": data})[0][:, 0].astype(np.float64)
        indices = grid_indices(last + change)
        said = self._said
        return [said[h][i] for h, i in zip(horizons.tolist(), indices.tolist(), strict=True)]

    def check_smoke(self) -> None:
        """Answer the recorded pupils.

        Raises
        ------
        ArtefactError
            If an answer differs by more than `SMOKE_TOLERANCE` from the recorded one.
        """
        for case in self._read("smoke.json")["cases"]:
            said = self.predict(StudentFeatures.model_validate(case["student"]))
            expected = case["expected"]
            close = (
                abs(said.predicted_G3 - expected["predicted_G3"]) <= SMOKE_TOLERANCE
                and abs(said.pass_probability - expected["pass_probability"]) <= SMOKE_TOLERANCE
                and [said.low, said.high, said.decision, said.horizon]
                == [expected[key] for key in ("low", "high", "decision", "horizon")]
            )
            if not close:
                raise ArtefactError("The model does not answer as it did when it was made.")

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return found

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card, as data."""
        return self._read("card.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Figures of the evaluation, by name."""
        found: dict[str, Any] = self.card["metrics"]
        return found

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """Name, SHA-256, rows of the training data, and whether it is synthetic."""
        found: dict[str, Any] = self.recipe["data"]
        return found

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What it takes to refit this model on other pupils."""
        return self._read("recipe.json")

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """The evidence for the gate."""
        return self._read("evaluation.json")

    @cached_property
    def drift_reference(self) -> dict[str, Any]:
        """How features and predictions were distributed in training."""
        return self._read("drift_reference.json")


def verify(folder: Path) -> str:
    """Check every file against the manifest and return the artefact's fingerprint.

    Raises
    ------
    ArtefactError
        If the manifest or a file is missing, altered or of an unknown format.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest: Mapping[str, Any] = json.loads(raw)
        if manifest["format"] != FORMAT:
            raise ArtefactError("The model artefact has a format this program does not read.")
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise ArtefactError("The manifest names a file outside the artefact.")
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ArtefactError(f"The model file {name} is not the one that was recorded.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("The model artefact is incomplete or damaged.") from error
    return hashlib.sha256(raw).hexdigest()


def _alarm_level(alarm: Mapping[str, Any], recall: float) -> float:
    """Return the lowest recorded level that finds at least `recall` of the failing pupils."""
    at = min(bisect_left(alarm["recall"], recall), len(alarm["recall"]) - 1)
    return float(alarm["level"][at])
