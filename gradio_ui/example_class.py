"""A made-up class to look at, derived from the profile's example pupil."""

from __future__ import annotations

import random
from typing import Any

from gradio_ui.api_client import ApiClient, ApiError
from gradio_ui.scoring import explain_pupils
from student_success.domain.students import EXAMPLE, FEATURES, PERIODS, SCALE, Feature
from student_success.domain.tables.pupils import Pupil

PUPILS = 12
_SEED = 10
_SPREAD = 0.06
"""Standard deviation of a period grade around the pupil's own level, as a share of the scale."""
_WHOLE_GRADES = 10
"""A scale at least this long is shown with whole grades, a shorter one with tenths."""
_UNUSUAL = 0.35
"""Share of answers that differ from those of the example pupil."""


class ExampleClass:
    """The same made-up pupils each time, with explanations read once for each served version."""

    def __init__(self) -> None:
        chance = random.Random(_SEED)  # noqa: S311 - made-up pupils need no secret numbers
        self._pupils = tuple(_pupil(number, chance) for number in range(1, PUPILS + 1))
        self._version: object = None
        self._answers: list[tuple[Pupil, dict[str, Any]]] = []

    def answers(self, api: ApiClient) -> list[tuple[Pupil, dict[str, Any]]]:
        """Return each pupil with the answer of ``POST /explain``; raises `ApiError`."""
        health = api.health()
        version = None if isinstance(health, ApiError) else health.get("model_version")
        if version is None or self._version != version:
            self._answers, self._version = list(explain_pupils(api, self._pupils)), version
        return self._answers


def _pupil(number: int, chance: random.Random) -> Pupil:
    level = chance.uniform(0.2, 0.9)
    features = {feature.name: _value(feature, level, chance) for feature in FEATURES}
    return Pupil(number, f"EX-{number:02}", features)


def _value(feature: Feature, level: float, chance: random.Random) -> Any:
    if feature.name in PERIODS[1:][-1:]:
        # In the middle of the year there is time to help, and more than the grades counts.
        return None
    if feature.is_period:
        low, high = feature.bounds
        place = min(max(chance.gauss(level, _SPREAD), 0.0), 1.0)
        grade = low + (high - low) * (place if SCALE.sign > 0 else 1 - place)
        return round(grade) if high - low >= _WHOLE_GRADES else round(grade, 1)
    usual = EXAMPLE[feature.name]
    if chance.random() > _UNUSUAL:
        return usual
    if feature.kind == "category":
        return chance.choice(feature.categories)
    if feature.about.choices is not None:
        return chance.choice(list(feature.about.choices))
    # A count stays near its low end: few pupils have very many.
    low, high = feature.bounds
    value = usual + chance.choice((-1, 1, 2, 4)) * (3 if feature.log else 1)
    value = min(max(value, low), high)
    return value if feature.kind == "number" else int(value)
