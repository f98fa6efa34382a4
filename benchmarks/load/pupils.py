"""Random pupils to predict."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from student_success.domain.students import FEATURES


def random_pupils(number: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return random valid pupils with half-point grades, at all three horizons."""
    generator = random.Random(seed)
    pupils = []
    for _ in range(number):
        pupil: dict[str, Any] = {}
        for feature in FEATURES:
            if feature.kind == "category":
                pupil[feature.name] = generator.choice(feature.categories)
            elif feature.kind == "integer":
                low, high = int(feature.low or 0), int(feature.high or 0)
                pupil[feature.name] = generator.randint(low, min(30, high))
            else:
                pupil[feature.name] = generator.randint(0, 40) / 2
        known_grades = generator.randint(0, 2)
        if known_grades < 2:
            pupil["G2"] = None
        if known_grades < 1:
            pupil["G1"] = None
        pupils.append(pupil)
    return pupils


def with_all_grades(pupils: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill in missing grades, for servers that require both."""
    return [{**p, "G1": p["G1"] or 11.0, "G2": p["G2"] or 11.5} for p in pupils]
