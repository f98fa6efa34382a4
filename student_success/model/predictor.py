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
    HORIZONS,
    PASS_GRADE,
    PASS_LEVEL,
    PREDICTED,
    Horizon,
    StudentFeatures,
)
from student_success.model.artefact import Artefact, trees_file
from student_success.model.grading import (
    CENTS,
    CHANGES,
    HIGHEST,
    alarm_level,
    cdf_of_changes,
    cdfs_of_changes,
    grade_of_cdf,
    grades_of_cdfs,
    grid_index,
    grid_indices,
    interval,
    intervals,
    pass_probabilities,
    pass_probability,
    residual_cdfs,
)
from student_success.model.input_encoding import Encoded, Encoder
from student_success.model.prediction import Prediction, Predictions

SMOKE_TOLERANCE = 1e-3
CHUNK = 2048
"""Rows in one run of the trees; this limits the memory that a large batch takes."""
SORTED_ROWS = 256
"""From this many rows, sorting similar pupils together saves more time than it takes."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _HorizonModel(NamedTuple):
    """What one horizon needs: its trees, calibration and alarm level.

    Attributes
    ----------
    by_grade
        Without a distribution from the trees, the predicted grade decides everything else: one
        prediction for each grade in hundredths. Empty otherwise.
    """

    horizon: Horizon
    run: Any
    mass: float
    residuals: Floats | None
    slopes: tuple[float, float, float]
    alarm: float
    by_grade: list[Prediction]


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
        Lowest whole grade that passes.
    """

    def __init__(self, artefact: Artefact, *, version: str, alarm_recall: float) -> None:
        serving = artefact.serving
        self.artefact = artefact
        self.folder, self.fingerprint, self.version = artefact.folder, artefact.fingerprint, version
        # Artefacts of the first releases do not record these two.
        self.interval_level = float(serving.get("level", INTERVAL_LEVEL))
        self.threshold = float(serving.get("threshold", PASS_GRADE))
        if self.threshold != PASS_GRADE or not 0 < self.interval_level < 1:
            raise ArtefactError("The model has another pass mark or an unusable interval.")
        self._encoder = Encoder(serving["inputs"])
        self._base = float(serving["base"])
        self._median_share: float | None = serving["median_share"]
        self._models = [
            self._horizon_model(horizon, serving["horizons"][horizon], alarm_recall)
            for horizon in HORIZONS
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
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ArtefactError("The model artefact cannot be read.") from error

    def _horizon_model(
        self, horizon: Horizon, table: Mapping[str, Any], recall: float
    ) -> _HorizonModel:
        constant, slope1, slope2 = table["slopes"] or (0.0, 0.0, 0.0)
        model = _HorizonModel(
            horizon=horizon,
            run=_session(self.folder / trees_file(horizon)).run,
            mass=float(table["mass"]),
            residuals=None
            if self._median_share is not None
            else np.asarray(table["residuals"], dtype=np.float64),
            slopes=(float(constant), float(slope1), float(slope2)),
            alarm=alarm_level(table["alarm"], recall),
            by_grade=[],
        )
        if model.residuals is not None:
            cents = np.arange(HIGHEST * CENTS + 1)
            columns = _predictions(
                np.full(len(cents), HORIZONS.index(horizon)),
                cents,
                residual_cdfs(cents / CENTS, model.residuals),
                mass=np.full(len(cents), model.mass),
                alarm=np.full(len(cents), model.alarm),
            )
            model.by_grade.extend(columns.rows())
        return model

    def predict(self, student: StudentFeatures) -> Prediction:
        """Predict one pupil's final grade."""
        data, g1, g2 = self._encoder.one(student)
        if g2 is not None:
            known, last = 2, g2
        elif g1 is not None:
            known, last = 1, g1
        else:
            known, last = 0, self._base
        model = self._models[known]
        raw = model.run(None, {"x": data})[0]
        if self._median_share is None:
            constant, slope1, slope2 = model.slopes
            change = constant + slope1 * (g1 or 0.0) + slope2 * (g2 or 0.0) + raw.item()
            return model.by_grade[grid_index(last + change)]
        cdf = cdf_of_changes(raw[0].tolist(), last)
        grade = grid_index(grade_of_cdf(cdf, self._median_share)) / CENTS
        whole = int(grade + 0.5)
        passes = whole >= PASS_LEVEL
        probability = pass_probability(cdf[PASS_LEVEL - 1], passes=passes)
        low, high = interval(cdf, whole, model.mass)
        return Prediction(
            grade,
            Decision.PASS if passes else Decision.FAIL,
            probability,
            low,
            high,
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
        """Return grades before rounding, as the scikit-learn estimator returns them."""
        return self._grades(self._encoder.many(students))[0]

    def inputs(self, student: StudentFeatures) -> NDArray[np.float32]:
        """Return the inputs of the trees for a pupil: ``(inputs,)``."""
        row: NDArray[np.float32] = self._encoder.one(student)[0][0]
        return row

    def _predict(self, encoded: Encoded) -> Predictions:
        grades, cdf = self._grades(encoded)
        mass, alarm = (
            np.array([getattr(model, name) for model in self._models])[encoded.known]
            for name in ("mass", "alarm")
        )
        return _predictions(encoded.known, grid_indices(grades), cdf, mass=mass, alarm=alarm)

    def _grades(self, encoded: Encoded) -> tuple[Floats, Floats]:
        """Return unrounded grades and the distributions around them."""
        data, known, g1, g2 = encoded
        last = np.where(known == 2, g2, np.where(known == 1, g1, self._base))
        raw = self._run(data, known)
        if self._median_share is not None:
            cdf = cdfs_of_changes(raw, last)
            return grades_of_cdfs(cdf, self._median_share), cdf
        grades = np.empty(len(data))
        cdf = np.empty((len(data), HIGHEST))
        for number, model in enumerate(self._models):
            rows = np.flatnonzero(known == number)
            constant, slope1, slope2 = model.slopes
            linear = constant + slope1 * np.nan_to_num(g1[rows]) + slope2 * np.nan_to_num(g2[rows])
            grades[rows] = np.clip(last[rows] + (linear + raw[rows, 0]), 0.0, 20.0)
            rounded = grid_indices(grades[rows]) / CENTS
            cdf[rows] = residual_cdfs(rounded, model.residuals)  # type: ignore[arg-type]
        return grades, cdf

    def _run(self, data: NDArray[np.float32], known: Ints) -> Floats:
        """Return the output of the trees, those of each horizon for its own pupils."""
        raw = np.empty((len(data), 1 if self._median_share is None else CHANGES))
        for number, model in enumerate(self._models):
            rows = np.flatnonzero(known == number)
            if len(rows) >= SORTED_ROWS:
                rows = rows[self._encoder.similar_order(data[rows])]
            if len(rows):
                raw[rows] = model.run(None, {"x": data[rows]})[0]
        return raw

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


def _predictions(
    known: Ints, cents: Ints, cdf: Floats, *, mass: Floats, alarm: Floats
) -> Predictions:
    """Derive every column from the grades and their distributions, one entry a pupil."""
    whole = (cents / CENTS + 0.5).astype(np.int64)
    passes = whole >= PASS_LEVEL
    probability = pass_probabilities(cdf[:, PASS_LEVEL - 1], passes)
    low, high = intervals(cdf, whole, mass)
    return Predictions(cents, passes, probability, low, high, known, probability < alarm)


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
