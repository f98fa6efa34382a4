"""Predict with one verified model version.

The trees run in onnxruntime, one set for each horizon; the rest is float64. The inputs of the trees
are exact in float32, so a compiled tree takes the branch of the fitted one, half grades included.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from student_success.core.errors import ArtefactError
from student_success.domain.decision import INTERVAL_LEVEL, Decision
from student_success.domain.students import (
    GRADE,
    HORIZONS,
    PASS_GRADE,
    PASS_LEVEL,
    PERIODS,
    PREDICTED,
    SCALE,
    Horizon,
    StudentFeatures,
)
from student_success.model.artefact import Artefact, trees_file
from student_success.model.change_shares import ChangeShares
from student_success.model.grading import (
    HIGHEST,
    SHOWN,
    alarm_level,
    grade_bounds,
    grid_index,
    grid_indices,
    interval,
    intervals,
    nearest_level,
    nearest_levels,
    pass_probabilities,
    pass_probability,
)
from student_success.model.input_encoding import Encoded, Encoder
from student_success.model.prediction import Prediction, Predictions
from student_success.model.two_parts import TwoParts
from student_success.model.unusual import TrainingRange

SMOKE_TOLERANCE = 1e-3
CHUNK = 2048
"""Rows in one run of the trees; this limits the memory that a large batch takes."""
SORTED_ROWS = 256
"""From this many rows, sorting similar pupils together saves more time than it takes."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class HorizonModel(NamedTuple):
    """What one horizon needs: its trees, calibration and alarm level.

    Attributes
    ----------
    reader
        Makes a distribution of what the trees return.
    last
        The position in `PERIODS` of the grade to which the trees add a change; None: to `base`.
    base
        The level to which they add it if no grade is known, or none on the scale of the final one.
    mass
        How much of the distribution the interval contains, above 0 and at most 1.
    alarm
        The alarm is raised below this pass probability.
    """

    horizon: Horizon
    run: Any
    reader: ChangeShares | TwoParts
    last: int | None
    base: float
    mass: float
    alarm: float


class Predictor:
    """Predict with one model version; create it with `load`. Safe to use from several threads.

    Attributes
    ----------
    version
        ``"seed"``, or the MLflow version number as text.
    fingerprint
        SHA-256 of the manifest, which identifies every byte.
    interval_level
        Share of pupils whose final grade the interval contains, above 0 and below 1.
    threshold
        The worst grade that passes.
    synthetic
        Whether it was trained on made-up data.
    training_range
        Finds values that lie far from its training data.
    """

    def __init__(self, artefact: Artefact, *, version: str, alarm_recall: float) -> None:
        serving = artefact.serving
        self.artefact = artefact
        self.folder, self.fingerprint, self.version = artefact.folder, artefact.fingerprint, version
        self.synthetic = bool(artefact.dataset.get("synthetic"))
        # Artefacts of the first releases do not record these two.
        self.interval_level = float(serving.get("level", INTERVAL_LEVEL))
        self.threshold = float(serving.get("threshold", PASS_GRADE))
        if self.threshold != PASS_GRADE or not 0 < self.interval_level < 1:
            raise ArtefactError("The model has another pass mark or an unusable interval.")
        self.training_range = TrainingRange(artefact.drift_reference)
        self._encoder = Encoder(serving["inputs"])
        self.models = [
            self._horizon_model(known, serving, alarm_recall) for known in range(len(HORIZONS))
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
        artefact = Artefact(folder)
        try:
            return cls(artefact, version=version, alarm_recall=alarm_recall)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ArtefactError("The model artefact cannot be read.") from error

    def _horizon_model(self, known: int, serving: Mapping[str, Any], recall: float) -> HorizonModel:
        horizon = HORIZONS[known]
        table = serving["horizons"][horizon]
        last = PERIODS[known - 1] if known else None
        if "median_share" in serving:
            reader: ChangeShares | TwoParts = ChangeShares(float(serving["median_share"]))
        else:
            reader = TwoParts(table["residuals"], table["widening"])
            last = table["last"]
        return HorizonModel(
            horizon=horizon,
            run=_session(self.folder / trees_file(horizon)).run,
            reader=reader,
            last=None if last is None else PERIODS.index(last),
            base=float(serving["base"]),
            mass=float(table["mass"]),
            alarm=alarm_level(table["alarm"], recall),
        )

    def predict(self, student: StudentFeatures) -> Prediction:
        """Predict one pupil's final grade."""
        data, known, unknown, grades = self._encoder.one(student)
        model = self.models[known]
        last = model.base if model.last is None else SCALE.level(grades[model.last])
        raw = model.run(None, {"x": data})[0]
        level, cdf = model.reader.one(raw[0].tolist(), last, unknown)
        index = grid_index(level)
        nearest = nearest_level(index)
        passes = nearest >= PASS_LEVEL
        probability = pass_probability(cdf[PASS_LEVEL - 1], passes=passes)
        low, high = interval(cdf, nearest, model.mass)
        return Prediction(
            SHOWN[index],
            Decision.PASS if passes else Decision.FAIL,
            probability,
            *grade_bounds(low, high),
            model.horizon,
            probability < model.alarm,
        )

    def predict_many(self, students: Sequence[StudentFeatures]) -> list[Prediction]:
        """Predict for many pupils; each result equals that of `predict`."""
        predictions: list[Prediction] = []
        for start in range(0, len(students), CHUNK):
            encoded = self._encoder.many(students[start : start + CHUNK])
            predictions += self._predict(encoded).rows()
        return predictions

    def predict_columns(self, columns: Mapping[str, Floats]) -> Predictions:
        """Predict for many valid pupils given as columns; each result equals that of `predict`.

        Parameters
        ----------
        columns
            As `Encoder.columns` takes them; memory grows with their length.
        """
        return self._predict(self._encoder.columns(columns))

    def estimate(self, students: Sequence[StudentFeatures]) -> Floats:
        """Return levels before rounding, as the scikit-learn estimator returns them."""
        return np.clip(self.distributions(students)[0], 0.0, float(HIGHEST))

    def distributions(self, students: Sequence[StudentFeatures]) -> tuple[Floats, Floats]:
        """Return levels before rounding, and for each pupil the chance of at most each level."""
        return self._levels(self._encoder.many(students))

    def not_finished(self, student: StudentFeatures) -> float | None:
        """Return the chance that a pupil does not finish; None if this version does not know it."""
        data, known, _, _ = self._encoder.one(student)
        model = self.models[known]
        if GRADE.not_finished is None or not isinstance(model.reader, TwoParts):
            return None
        return round(model.reader.leaves(model.run(None, {"x": data})[0][0].tolist()), 4)

    def inputs(self, student: StudentFeatures) -> tuple[NDArray[np.float32], int]:
        """Return the inputs of the trees for a pupil, and how many values are not known."""
        data, _, unknown, _ = self._encoder.one(student)
        return data[0], unknown

    def _predict(self, encoded: Encoded) -> Predictions:
        mass, alarm = (
            np.array([getattr(model, name) for model in self.models])[encoded.known]
            for name in ("mass", "alarm")
        )
        levels, cdf = self._levels(encoded)
        indices = grid_indices(levels)
        nearest = nearest_levels(indices)
        passes = nearest >= PASS_LEVEL
        probability = pass_probabilities(cdf[:, PASS_LEVEL - 1], passes)
        low, high = intervals(cdf, nearest, mass)
        return Predictions(
            indices, passes, probability, low, high, encoded.known, probability < alarm
        )

    def _levels(self, encoded: Encoded) -> tuple[Floats, Floats]:
        """Return unrounded levels and the distributions around them, horizon by horizon."""
        data, known, unknown, grades = encoded
        levels, cdf = np.empty(len(data)), np.empty((len(data), HIGHEST))
        for number, model in enumerate(self.models):
            rows = np.flatnonzero(known == number)
            if len(rows) >= SORTED_ROWS:
                rows = rows[self._encoder.similar_order(data[rows])]
            if len(rows):
                raw = model.run(None, {"x": data[rows]})[0].astype(np.float64)
                last = (
                    np.full(len(rows), model.base)
                    if model.last is None
                    else grades[rows, model.last]
                )
                levels[rows], cdf[rows] = model.reader.many(raw, last, unknown[rows])
        return levels, cdf

    def check_smoke(self) -> None:
        """Predict for the recorded pupils and compare with the recorded predictions.

        Raises
        ------
        ArtefactError
            If one differs by more than `SMOKE_TOLERANCE`.
        """
        for case in self.artefact.read("smoke.json")["cases"]:
            expected = case["expected"]
            prediction = self.predict(StudentFeatures.model_validate(case["student"]))
            close = (
                abs(prediction.grade - expected[PREDICTED]) <= SMOKE_TOLERANCE
                and abs(prediction.pass_probability - expected["pass_probability"])
                <= SMOKE_TOLERANCE
                and [prediction.low, prediction.high, prediction.decision, prediction.horizon]
                == [expected[key] for key in ("low", "high", "decision", "horizon")]
            )
            if not close:
                raise ArtefactError("The model does not return its recorded predictions.")


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    # With a single operator there is nothing to optimise; trying takes a tenth of the load time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # A session created from bytes would keep them in memory.
    with tempfile.NamedTemporaryFile(prefix="trees-", suffix=".onnx") as unpacked:
        unpacked.write(gzip.decompress(path.read_bytes()))
        unpacked.flush()
        return onnxruntime.InferenceSession(
            unpacked.name, options, providers=["CPUExecutionProvider"]
        )
