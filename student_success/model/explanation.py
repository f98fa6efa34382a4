"""Explain a prediction: what each feature contributes, and which changes would raise it.

The explanation starts from the average pupil of the horizon. The change of the last known grade
comes first, then what the trees add, divided among the features by exact Shapley values. The
contributions add up to the prediction.
"""

from __future__ import annotations

import math
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
    SCALE,
    Feature,
    StudentFeatures,
)
from student_success.model.artefact import trees_file
from student_success.model.explanation_text import NOTE, sentence_en, sentence_fr
from student_success.model.grading import HIGHEST, SHOWN, grid_index
from student_success.model.input_encoding import TREND
from student_success.model.onnx_reader import read_trees
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor
from student_success.model.shapley import Attribution

Floats = NDArray[np.float64]

REASONS = 3
WHAT_IFS = 4
MAX_OTHERS = 100
"""At most so many values of one feature are tried."""
NOISE = 0.02 * HIGHEST * SCALE.step
"""In grades, 0.4 on a scale from 0 to 20; a change that promises less is not shown. Predictions of
models fitted on different four fifths of the shipped profile's pupils differ as much: by 0.35 with
no grade known, by 0.41 with the first (standard deviation)."""
CHANGEABLE = tuple(feature for feature in FEATURES if feature.change is not None)
"""What a pupil, a family or a school can change."""
_FEATURE_AT = {feature.name: i for i, feature in enumerate(FEATURES)}


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to the prediction, in grades, against the average pupil."""

    feature: str
    value: str | float | None
    share: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The prediction if some of a pupil's features were different."""

    change: Mapping[str, str | float]
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
    """Explain the predictions of one predictor; to make it takes a second or two."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._serving = predictor.artefact.serving
        names = self._serving["inputs"]["names"]
        # Several inputs can belong to one feature: those of its categories, of an unknown value,
        # and the trend to the last period.
        owners = [PERIODS[-1] if name == TREND else name.split("=")[0] for name in names]
        self._owner = np.array([_FEATURE_AT[owner] for owner in owners])
        self._trees = [
            Attribution(
                read_trees(predictor.folder / trees_file(model.horizon)),
                columns=len(names),
                targets=model.reader.outputs,
            )
            for model in predictor.models
        ]

    def explain(self, student: StudentFeatures) -> Explanation:
        """Explain one pupil's prediction."""
        predicted = self._predictor.predict(student)
        known = HORIZONS.index(predicted.horizon)
        shares, average = self._shares(student, known)
        baseline = SHOWN[grid_index(average)]
        shares *= SCALE.sign * SCALE.step
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
        reasons = [
            item
            for item in contributions
            if FEATURES[_FEATURE_AT[item.feature]].is_reason(item.value, item.share)
        ][:REASONS]
        return Explanation(
            grade=predicted.grade,
            baseline=baseline,
            contributions=tuple(contributions),
            reasons={
                "fr": tuple(sentence_fr(item.feature, item.value, item.share) for item in reasons),
                "en": tuple(sentence_en(item.feature, item.value, item.share) for item in reasons),
            },
            what_if=tuple(self._what_if(student, predicted)),
            note=NOTE,
            model_version=self._predictor.version,
        )

    def _shares(self, student: StudentFeatures, known: int) -> tuple[Floats, float]:
        """Return the share of each feature in levels, and the average pupil's level."""
        trees, model = self._trees[known], self._predictor.models[known]
        by_feature = np.zeros((len(FEATURES), model.reader.outputs))
        inputs, unknown = self._predictor.inputs(student)
        np.add.at(by_feature, self._owner, trees.shares(inputs))
        average_last = last = model.base
        if model.last is not None:
            # Without a training pupil at a horizon, the model of an earlier one predicts there too.
            averages = [self._serving["horizons"][name]["average"] for name in HORIZONS]
            average_last = next(a["last"] for a in averages[known::-1] if a)
            last = SCALE.level(student.__dict__[PERIODS[model.last]])
        shares, of_last, baseline = model.reader.divide(
            by_feature,
            trees.average,
            average_last=average_last,
            last=last,
            unknown=unknown,
        )
        if model.last is not None:
            shares[_FEATURE_AT[PERIODS[model.last]]] += of_last
        return shares, baseline

    def _what_if(self, student: StudentFeatures, now: Prediction) -> list[WhatIf]:
        """Try all changes of one feature, then pairs of the best changes."""
        values, predicted = student.model_dump(), now.grade
        best = []
        for feature in CHANGEABLE:
            value = values[feature.name]
            if value is not None:
                changes = [{feature.name: other} for other in _others(feature, value)]
                answers = self._answers(values, changes, now.pass_probability)
                if (smallest := _smallest(answers, predicted, feature, value)) is not None:
                    best.append(smallest)
        changes = [{**a.change, **b.change} for a, b in combinations(best, 2)]
        pairs = self._answers(values, changes, now.pass_probability)
        best.sort(key=lambda item: -_gain(item, predicted))
        top = _gain(best[0], predicted) if best else 0.0
        pairs = [item for item in pairs if _gain(item, predicted) >= top + NOISE]
        pairs.sort(key=lambda item: -_gain(item, predicted))
        singles = best[: WHAT_IFS - min(len(pairs), 1)]
        return singles + pairs[: WHAT_IFS - len(singles)]

    def _answers(
        self, values: Mapping[str, Any], changes: Iterable[Mapping[str, Any]], probability: float
    ) -> list[WhatIf]:
        """Predict for each change; leave out those that lower the chance of passing."""
        listed = list(changes)
        predictions = self._predictor.predict_many(
            [StudentFeatures.model_construct(**{**values, **change}) for change in listed]
        )
        return [
            WhatIf(change, prediction.grade, prediction.pass_probability)
            for change, prediction in zip(listed, predictions, strict=True)
            if prediction.pass_probability >= probability
        ]


def _gain(item: WhatIf, predicted: float) -> float:
    """Return by how much better the prediction is, in grades."""
    return SCALE.sign * (item.grade - predicted)


def _others(feature: Feature, value: Any) -> list[Any]:
    """Return the other values that a feature can be changed to."""
    change = feature.change
    assert change is not None
    if feature.kind == "category":
        return [other for other in change.to or feature.categories if other != value]
    low, high = feature.bounds
    if feature.log and change.better == "lower":
        # A count with a long tail: some steps down to the lowest.
        steps = {low + (value - low) * part // 4 for part in range(4)}
        found: Iterable[float] = sorted(steps - {value})
    else:
        size = math.floor((high - low) / change.step + 1e-9) + 1
        found = (low + number * change.step for number in range(min(size, MAX_OTHERS)))
    if change.better is not None:
        sign = 1 if change.better == "higher" else -1
        found = (other for other in found if sign * (other - value) > 0)
    whole = feature.kind == "integer"
    return [int(other) if whole else round(other, 6) for other in found if other != value]


def _smallest(
    answers: list[WhatIf], predicted: float, feature: Feature, value: Any
) -> WhatIf | None:
    """Return the smallest change with at least nine tenths of the best gain."""
    gains = [_gain(item, predicted) for item in answers]
    highest = max(gains, default=0.0)
    if highest < NOISE:
        return None
    good = [item for item, gain in zip(answers, gains, strict=True) if gain >= 0.9 * highest]
    if feature.kind == "category":
        return good[0]
    return min(good, key=lambda item: abs(float(item.change[feature.name]) - value))
