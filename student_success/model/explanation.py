"""Explain a prediction: what each feature contributes, and which changes would raise it.

The explanation starts from the average pupil of the horizon. The change of the last known grade
comes first, then that of the trees' distribution, divided among the features by exact Shapley
values: the mean is linear in them, and each whole grade by which the median moves is divided like
the probability that moved it. So the contributions add up to the prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.domain.students import (
    FEATURES,
    HORIZONS,
    PERIODS,
    Feature,
    StudentFeatures,
)
from student_success.model.artefact import trees_file
from student_success.model.explanation_text import NOTE, sentence_en, sentence_fr
from student_success.model.grading import (
    CENTS,
    CHANGES,
    HIGHEST,
    cdfs_of_changes,
    grades_of_cdfs,
    grid_index,
)
from student_success.model.onnx_reader import read_trees
from student_success.model.predictor import Predictor
from student_success.model.shapley import Attribution

Floats = NDArray[np.float64]

REASONS = 3
WHAT_IFS = 4
CHANGEABLE = (
    "studytime",
    "absences",
    "goout",
    "freetime",
    "paid",
    "schoolsup",
    "famsup",
    "activities",
)
"""What a pupil, a family or a school can change."""
MINIMUM_GAIN = 0.05
"""In grades; a smaller contribution or gain is not mentioned."""
_HALF = 0.5 - 1e-4
_BY_NAME: Mapping[str, Feature] = {feature.name: feature for feature in FEATURES}


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to the prediction, in grades, against the average pupil."""

    feature: str
    value: str | float | None
    share: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The prediction if some of a pupil's features were different."""

    change: Mapping[str, str | int]
    grade: float
    pass_probability: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one pupil's prediction.

    Attributes
    ----------
    baseline
        Prediction of the average pupil with as many known period grades.
    contributions
        One a feature, the strongest first; they add up to `grade` minus `baseline`.
    reasons
        The strongest of them as sentences, by language.
    what_if
        Small changes that would raise the prediction, the most helpful first.
    note
        How to interpret `what_if`, by language.
    """

    grade: float
    baseline: float
    contributions: tuple[Contribution, ...]
    reasons: Mapping[str, tuple[str, ...]]
    what_if: tuple[WhatIf, ...]
    note: Mapping[str, str]
    model_version: str


class Explainer:
    """Explain the predictions of one predictor, in milliseconds after `warm`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._serving = predictor.artefact.serving
        names = self._serving["inputs"]["names"]
        # Several inputs can belong to one feature: those of its categories, and the trend to G2.
        self._owner = np.array(
            [_FEATURE_AT["G2" if n == "trend" else n.split("=")[0]] for n in names]
        )
        self._targets = CHANGES if self._serving["median_share"] is not None else 1
        self._columns = len(names)
        self._trees: dict[int, Attribution] = {}

    def warm(self) -> Explainer:
        """Read all trees now, which takes a second or two, instead of at the first explanations."""
        for known in range(len(HORIZONS)):
            self._attribution(known)
        return self

    def _attribution(self, known: int) -> Attribution:
        if known not in self._trees:
            nodes = read_trees(self._predictor.folder / trees_file(HORIZONS[known]))
            self._trees[known] = Attribution(nodes, columns=self._columns, targets=self._targets)
        return self._trees[known]

    def explain(self, student: StudentFeatures) -> Explanation:
        """Explain one pupil's prediction."""
        predicted = self._predictor.predict(student)
        known = HORIZONS.index(predicted.horizon)
        shares, baseline = self._shares(student, known)
        baseline = grid_index(baseline) / CENTS
        # The strongest contribution absorbs the effects of rounding and of the ends of the scale.
        strongest = int(np.argmax(np.abs(shares)))
        shares[strongest] += predicted.grade - baseline - shares.sum()
        values = student.model_dump(exclude={"reference"})
        contributions = sorted(
            (
                Contribution(f.name, values[f.name], round(float(share), 6))
                for f, share in zip(FEATURES, shares, strict=True)
            ),
            key=lambda item: -abs(item.share),
        )
        reasons = [item for item in contributions[:REASONS] if abs(item.share) >= MINIMUM_GAIN]
        return Explanation(
            grade=predicted.grade,
            baseline=baseline,
            contributions=tuple(contributions),
            reasons={
                "fr": tuple(sentence_fr(item.feature, item.value, item.share) for item in reasons),
                "en": tuple(sentence_en(item.feature, item.value, item.share) for item in reasons),
            },
            what_if=tuple(self._what_if(student, predicted.grade)),
            note=NOTE,
            model_version=self._predictor.version,
        )

    def _shares(self, student: StudentFeatures, known: int) -> tuple[Floats, float]:
        """Return the share of each feature, and the average pupil's grade."""
        trees = self._attribution(known)
        table = self._serving["horizons"][HORIZONS[known]]
        average = table["average"]
        inputs = self._predictor.inputs(student)
        by_column = trees.shares(inputs)
        by_feature = np.zeros((len(FEATURES), self._targets))
        np.add.at(by_feature, self._owner, by_column)
        last = student.__dict__[PERIODS[known - 1]] if known else self._serving["base"]
        assert last is not None
        average_last, at = float(average["last"]), _FEATURE_AT[("G1", "G1", "G2")[known]]
        share = self._serving["median_share"]
        if share is None:
            shares = by_feature[:, 0]
            constant, *slopes = table["slopes"] or (0.0, 0.0, 0.0)
            baseline = average_last + float(trees.average[0]) + constant
            for name, slope in zip(("G1", "G2"), slopes, strict=True):
                usual, actual = average[name], getattr(student, name)
                baseline += slope * usual
                shares[_FEATURE_AT[name]] += slope * ((actual or 0.0) - usual)
            shares[at] += last - average_last
            return shares, baseline
        start = trees.average[None, :]
        end = start + by_feature.sum(axis=0)
        cdf = cdfs_of_changes(
            np.concatenate([start, start, end]), np.array([average_last, last, last])
        )
        grades = grades_of_cdfs(cdf, share)
        moved = _cdf_shares(by_feature, last)
        shares = (1.0 - share) * -moved.sum(axis=1) + share * _median_shares(moved, cdf[1], cdf[2])
        shares[at] += grades[1] - grades[0]
        return shares, float(grades[0])

    def _what_if(self, student: StudentFeatures, predicted: float) -> list[WhatIf]:
        """Try all changes of one feature, then pairs of the best changes."""
        values = student.model_dump()
        tried = {
            name: self._answers(values, [{name: other} for other in _others(name, values[name])])
            for name in CHANGEABLE
        }
        best = [
            smallest
            for name, answers in tried.items()
            if (smallest := _smallest(answers, predicted, name, values[name])) is not None
        ]
        pairs = self._answers(values, [{**a.change, **b.change} for a, b in combinations(best, 2)])
        best.sort(key=lambda item: -item.grade)
        top = best[0].grade if best else predicted
        pairs = [item for item in pairs if item.grade >= top + 2 * MINIMUM_GAIN]
        pairs.sort(key=lambda item: -item.grade)
        singles = best[: WHAT_IFS - min(len(pairs), 1)]
        return singles + pairs[: WHAT_IFS - len(singles)]

    def _answers(
        self, values: Mapping[str, Any], changes: Iterable[Mapping[str, Any]]
    ) -> list[WhatIf]:
        listed = list(changes)
        predictions = self._predictor.predict_many(
            [StudentFeatures.model_construct(**{**values, **change}) for change in listed]
        )
        return [
            WhatIf(change, prediction.grade, prediction.pass_probability)
            for change, prediction in zip(listed, predictions, strict=True)
        ]


_FEATURE_AT = {feature.name: i for i, feature in enumerate(FEATURES)}


def _cdf_shares(by_feature: Floats, last: float) -> Floats:
    """Return how much each feature moves the probability of at most 0, 1, … 19."""
    return cdfs_of_changes(by_feature, np.full(len(by_feature), last))


def _median_shares(moved: Floats, start: Floats, end: Floats) -> Floats:
    """Divide each whole grade by which the median moved like the probability that moved it."""
    crossed = (end < _HALF).astype(int) - (start < _HALF).astype(int)
    shares: Floats = np.zeros(len(moved))
    for grade in range(HIGHEST):
        if crossed[grade]:
            shares += crossed[grade] * moved[:, grade] / (end[grade] - start[grade])
    return shares


def _others(name: str, value: Any) -> list[Any]:
    """Return the other values that a feature can take."""
    feature = _BY_NAME[name]
    if feature.kind == "category":
        return [other for other in feature.categories if other != value]
    assert feature.low is not None
    assert feature.high is not None
    if name == "absences":
        # Only fewer absences: some steps down to none.
        return sorted({value * part // 4 for part in range(4)} - {value})
    return [other for other in range(int(feature.low), int(feature.high) + 1) if other != value]


def _smallest(answers: list[WhatIf], predicted: float, name: str, value: Any) -> WhatIf | None:
    """Return the smallest change with at least nine tenths of the best gain."""
    gains = [item.grade - predicted for item in answers]
    highest = max(gains, default=0.0)
    if highest < MINIMUM_GAIN:
        return None
    good = [item for item, gain in zip(answers, gains, strict=True) if gain >= 0.9 * highest]
    if _BY_NAME[name].kind == "category":
        return good[0]
    return min(good, key=lambda item: abs(int(item.change[name]) - value))
