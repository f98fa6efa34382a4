"""Conditions of the gate on what the candidate and the served version were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from student_success.core.errors import ArtefactError
from student_success.core.statistics import (
    Difference,
    compare_categories,
    compare_numbers,
    holm,
)
from student_success.domain.students import FEATURES
from student_success.lifecycle.comparison import Condition
from student_success.model.artefact import Artefact

FAR = 0.2
"""Share of pupils that would have to change to match, from which a population is another one."""
PASSED = "share who pass"


def conditions(
    candidate: Artefact,
    champion: Artefact | None,
    *,
    allow_synthetic: bool = False,
    population_override: str | None = None,
    significance: float = 0.05,
) -> list[Condition]:
    """Compare the training data of a candidate with that of the served version.

    Parameters
    ----------
    champion
        None if nothing is served yet: there is nothing to compare with.
    allow_synthetic
        Whether a model of made-up data may replace one of real pupils.
    population_override
        Reason to accept pupils unlike those of the served version; recorded in the condition.
    significance
        Level of the tests, adjusted for their number.

    Raises
    ------
    ArtefactError
        If the description of the training data of one of them cannot be read.
    """
    if champion is None:
        return []
    try:
        return [
            _synthetic(candidate, champion, allow=allow_synthetic),
            _horizons(candidate, champion),
            _population(candidate, champion, (population_override or "").strip(), significance),
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ArtefactError(
            "The training data of a version cannot be read from its artefact, so that nothing was "
            "promoted. Train it again or choose another version."
        ) from error


def _synthetic(candidate: Artefact, champion: Artefact, *, allow: bool) -> Condition:
    replaces_real = bool(
        candidate.dataset.get("synthetic") and not champion.dataset.get("synthetic")
    )
    detail = "1 if a model of made-up data would replace one of real pupils"
    if replaces_real:
        detail += "; allowed by allow_synthetic" if allow else "; allow_synthetic accepts it"
    passed = allow or not replaces_real
    compared: Literal["at_most"] | None = None if allow and replaces_real else "at_most"
    return Condition("synthetic_data", passed, float(replaces_real), 0.0, detail, compared)


def _horizons(candidate: Artefact, champion: Artefact) -> Condition:
    """Refuse a candidate that answers unmeasured where the served version was measured."""
    missing = [name for name in champion.card["metrics"] if name not in candidate.card["metrics"]]
    detail = "times of the year at which only the served version was measured"
    if missing:
        detail += f": {', '.join(missing)}; no pupil of the file has these grades"
    return Condition("horizons", not missing, float(len(missing)), 0.0, detail, "at_most")


def _population(
    candidate: Artefact, champion: Artefact, reason: str, significance: float
) -> Condition:
    measured = list(_differences(candidate, champion))
    p_values = holm([found.p for _, found in measured])
    far = [
        f"{name} {found.distance:.2f}"
        for (name, found), p in zip(measured, p_values, strict=True)
        if found.distance > FAR and p < significance
    ]
    detail = "largest distance of the pupils to those of the served version, 0 to 1"
    if far:
        detail += f"; too far: {', '.join(far)}; "
        detail += f"overridden: {reason}" if reason else "population_override accepts it"
    largest = max((found.distance for _, found in measured), default=None)
    # No `compared`: a distance above the limit passes by a reason, or if it is not significant.
    return Condition("population", not far or bool(reason), largest, FAR, detail)


def _differences(candidate: Artefact, champion: Artefact) -> Iterator[tuple[str, Difference]]:
    """Yield what is compared, and how it differs."""
    yield PASSED, compare_categories(_passed(candidate), _passed(champion))
    for feature in FEATURES:
        samples = [_counts(artefact, feature.name) for artefact in (candidate, champion)]
        if not all(samples):
            continue
        if feature.kind == "category":
            yield feature.name, compare_categories(*samples)
        else:
            numbers = ({float(k): n for k, n in counts.items()} for counts in samples)
            yield feature.name, compare_numbers(*numbers)


def _passed(artefact: Artefact) -> Mapping[str, float]:
    """Return how many of the training pupils passed, and how many failed."""
    bins = artefact.card["calibration"]["bins"]
    # Every pupil is in the bins once a horizon, and each counts once here.
    share = sum(b["n"] * b["passed"] for b in bins) / sum(b["n"] for b in bins)
    rows = float(artefact.dataset["rows"])
    return {"passed": share * rows, "failed": (1 - share) * rows}


def _counts(artefact: Artefact, name: str) -> Mapping[str, float]:
    known: Mapping[str, Any] = artefact.drift_reference["features"].get(name) or {}
    counts: Mapping[str, float] = known.get("counts") or {}
    return counts
