"""A verified model in memory: features in, prediction out; nothing else knows how it computes.

The trees run in onnxruntime, one set for each horizon; what comes before and after them is exact
float64. The inputs of the trees are exact in float32 too, so a compiled tree takes the very branch
that the fitted scikit-learn tree takes, half grades included.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from student_success.core.errors import ArtefactError
from student_success.domain.decision import PASS_GRADE, Decision
from student_success.domain.students import Horizon, StudentFeatures
from student_success.model.artefact import verify
from student_success.model.grading import (
    CENTS,
    CHANGES,
    HIGHEST,
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

__all__ = ["HORIZONS", "Prediction", "Predictions", "Predictor", "verify"]

SMOKE_TOLERANCE = 1e-3
CHUNK = 2048
"""Rows a run of the trees: bounds the memory of a large batch."""

WORTH_SORTING = 256
"""Rows; sorting more of them than this takes less time than it saves."""

HORIZONS: tuple[Horizon, ...] = (Horizon.NONE, Horizon.G1, Horizon.G1_G2)

Floats = NDArray[np.float64]


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


class Predictions(NamedTuple):
    """`Prediction` of many pupils, as columns.

    Attributes
    ----------
    cents
        The grade shown in hundredths: divided by `CENTS` it is `predicted_G3`.
    passes
        Whether the decision is to pass.
    known
        How many period grades are known: the position of the horizon in `HORIZONS`.
    """

    cents: NDArray[np.int64]
    passes: NDArray[np.bool_]
    pass_probability: Floats
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    known: NDArray[np.int64]
    at_risk: NDArray[np.bool_]


class _Outlook(NamedTuple):
    """What one horizon needs: its trees, calibration and alarm."""

    horizon: Horizon
    run: Any
    mass: float
    residuals: Floats | None
    slopes: tuple[float, float, float]
    alarm: float
    said: list[Prediction]
    """What is said for each grade that can be shown, where nothing else decides it."""


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
        self._encoder = Encoder(serving["inputs"])
        self._base = float(serving["base"])
        # None: the trees give one number, the change, in place of a distribution of changes.
        self._median_share: float | None = serving["median_share"]
        self._outlooks = [
            self._outlook(horizon, serving["horizons"][horizon], alarm_recall)
            for horizon in HORIZONS
        ]

    def _outlook(self, horizon: Horizon, table: Mapping[str, Any], recall: float) -> _Outlook:
        constant, slope1, slope2 = table["slopes"] or (0.0, 0.0, 0.0)
        outlook = _Outlook(
            horizon=horizon,
            run=_session(self.folder / trees_file(horizon)).run,
            mass=float(table["mass"]),
            residuals=None
            if self._median_share is not None
            else np.asarray(table["residuals"], dtype=np.float64),
            slopes=(float(constant), float(slope1), float(slope2)),
            alarm=alarm_level(table["alarm"], recall),
            said=[],
        )
        if outlook.residuals is not None:
            shown = np.arange(HIGHEST * CENTS + 1) / CENTS
            cdf = residual_cdfs(shown, outlook.residuals)
            cents = np.arange(len(shown))
            outlook.said.extend(_say([outlook], np.zeros(len(shown), dtype=np.int64), cents, cdf))
        return outlook

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
        data, g1, g2 = self._encoder.one(student)
        if g2 is not None:
            at, last = 2, g2
        elif g1 is not None:
            at, last = 1, g1
        else:
            at, last = 0, self._base
        outlook = self._outlooks[at]
        raw = outlook.run(None, {"x": data})[0]
        if self._median_share is None:
            constant, slope1, slope2 = outlook.slopes
            change = constant + slope1 * (g1 or 0.0) + slope2 * (g2 or 0.0) + raw.item()
            return outlook.said[grid_index(last + change)]
        cdf = cdf_of_changes(raw[0].tolist(), last)
        shown = grid_index(grade_of_cdf(cdf, self._median_share)) / CENTS
        whole = int(shown + 0.5)
        passes = whole >= PASS_GRADE
        probability = pass_probability(cdf[PASS_GRADE - 1], passes=passes)
        low, high = interval(cdf, whole, outlook.mass)
        return Prediction(
            shown,
            Decision.PASS if passes else Decision.FAIL,
            probability,
            low,
            high,
            outlook.horizon,
            probability < outlook.alarm,
        )

    def predict_many(self, students: Sequence[StudentFeatures]) -> list[Prediction]:
        """Answer for many pupils, each exactly as `predict` would."""
        found: list[Prediction] = []
        for start in range(0, len(students), CHUNK):
            found += self._predict_chunk(students[start : start + CHUNK])
        return found

    def predict_columns(self, columns: Mapping[str, Floats]) -> Predictions:
        """Answer for many valid pupils that come as columns, each exactly as `predict` would.

        Parameters
        ----------
        columns
            As `Encoder.columns` takes them; the memory taken grows with their length.
        """
        encoded = self._encoder.columns(columns)
        grades, cdf = self._grades(encoded)
        return _told(self._outlooks, encoded.known, grid_indices(grades), cdf)

    def estimate(self, students: Sequence[StudentFeatures]) -> Floats:
        """Return the grades before they are rounded, as the scikit-learn estimator gives them."""
        return self._grades(self._encoder.many(students))[0]

    def inputs(self, student: StudentFeatures) -> NDArray[np.float32]:
        """Return what the trees are fed about a pupil, one number an input."""
        row: NDArray[np.float32] = self._encoder.one(student)[0][0]
        return row

    def cdf(self, students: Sequence[StudentFeatures]) -> Floats:
        """Return for each pupil the probability of at most 0, 1, … 19: ``(pupils, 20)``."""
        return self._grades(self._encoder.many(students))[1]

    def _predict_chunk(self, students: Sequence[StudentFeatures]) -> list[Prediction]:
        encoded = self._encoder.many(students)
        grades, cdf = self._grades(encoded)
        return _say(self._outlooks, encoded.known, grid_indices(grades), cdf)

    def _grades(self, encoded: Encoded) -> tuple[Floats, Floats]:
        """Return unrounded grades and the distributions around them."""
        data, at, g1, g2 = encoded
        last = np.where(at == 2, g2, np.where(at == 1, g1, self._base))
        raw = self._raw(data, at)
        if self._median_share is not None:
            cdf = cdfs_of_changes(raw, last)
            return grades_of_cdfs(cdf, self._median_share), cdf
        grades = np.empty(len(data))
        cdf = np.empty((len(data), HIGHEST))
        for number, outlook in enumerate(self._outlooks):
            here = np.flatnonzero(at == number)
            constant, slope1, slope2 = outlook.slopes
            known = constant + slope1 * np.nan_to_num(g1[here]) + slope2 * np.nan_to_num(g2[here])
            grades[here] = np.clip(last[here] + (known + raw[here, 0]), 0.0, 20.0)
            shown = grid_indices(grades[here]) / CENTS
            cdf[here] = residual_cdfs(shown, outlook.residuals)  # type: ignore[arg-type]
        return grades, cdf

    def _raw(self, data: NDArray[np.float32], at: NDArray[np.int64]) -> Floats:
        """Return what the trees say, each horizon's of its own pupils."""
        raw = np.empty((len(data), 1 if self._median_share is None else CHANGES))
        for number, outlook in enumerate(self._outlooks):
            here = np.flatnonzero(at == number)
            if len(here) >= WORTH_SORTING:
                here = here[self._encoder.alike(data[here])]
            if len(here):
                raw[here] = outlook.run(None, {"x": data[here]})[0]
        return raw

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
    def serving(self) -> dict[str, Any]:
        """How inputs are made and calibrated."""
        return self._read("serving.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card, as data."""
        return self._read("card.json")

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Figures of the evaluation by name, e.g. ``G1+G2/candidate/mae``."""
        return {
            f"{horizon}/{model}/{measure}": value["mean"]
            for horizon, by_model in self.card["metrics"].items()
            for model, measured in by_model.items()
            for measure, value in measured.items()
        }

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


def _told(
    outlooks: Sequence[_Outlook], at: NDArray[np.int64], cents: NDArray[np.int64], cdf: Floats
) -> Predictions:
    """Return what is told of pupils, given the outlook of each by its position."""
    whole = (cents / CENTS + 0.5).astype(np.int64)
    passes = whole >= PASS_GRADE
    probability = pass_probabilities(cdf[:, PASS_GRADE - 1], passes)
    low, high = intervals(cdf, whole, np.array([o.mass for o in outlooks])[at])
    alarm = probability < np.array([o.alarm for o in outlooks])[at]
    return Predictions(cents, passes, probability, low, high, at, alarm)


def _say(
    outlooks: Sequence[_Outlook], at: NDArray[np.int64], cents: NDArray[np.int64], cdf: Floats
) -> list[Prediction]:
    """Return `_told`, a pupil at a time."""
    told = _told(outlooks, at, cents, cdf)
    decisions = (Decision.FAIL, Decision.PASS)
    return list(
        map(
            Prediction,
            (cents / CENTS).tolist(),
            [decisions[yes] for yes in told.passes.tolist()],
            told.pass_probability.tolist(),
            told.low.tolist(),
            told.high.tolist(),
            [outlooks[number].horizon for number in at.tolist()],
            told.at_risk.tolist(),
        )
    )


def trees_file(horizon: Horizon) -> str:
    """Name the file of a horizon's trees; a plus sign would not survive every URL."""
    return f"trees-{horizon.replace('+', '-')}.onnx.gz"


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # There is one operator: nothing to optimise, and looking for it costs a tenth of the loading.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # From a file: a session made of bytes keeps them as long as it lives.
    with tempfile.NamedTemporaryFile(prefix="trees-", suffix=".onnx") as unpacked:
        unpacked.write(gzip.decompress(path.read_bytes()))
        unpacked.flush()
        return onnxruntime.InferenceSession(
            unpacked.name, options, providers=["CPUExecutionProvider"]
        )


def alarm_level(alarm: Mapping[str, Any], recall: float) -> float:
    """Return the alarm level of the lowest recorded recall that is at least `recall`, 0 to 1."""
    at = min(bisect_left(alarm["recall"], recall), len(alarm["recall"]) - 1)
    return float(alarm["level"][at])
