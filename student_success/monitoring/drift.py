"""Pure rules: whether the pupils of today look like those the served model was trained on.

Numbers are compared by Kolmogorov-Smirnov, categories by chi-square, and all p-values are adjusted
together. With thousands of pupils any trifle is significant, so drift is only what is significant
and large enough to matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from student_success.core.statistics import (
    chi_square,
    chi_square_p,
    holm,
    kolmogorov_smirnov,
    kolmogorov_smirnov_p,
    total_variation,
)
from student_success.domain.students import FEATURES
from student_success.storage.observations import Seen, Values

Kind = Literal["ks", "chi-square"]


class Verdict(StrEnum):
    """What a comparison found."""

    TOO_FEW = "insufficient_data"
    STABLE = "stable"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a difference is called drift.

    Attributes
    ----------
    minimum_count
        Fewer pupils than this, now or in training, are not compared.
    significance
        Highest adjusted p.
    distance
        Least distance, 0 to 1.
    """

    minimum_count: int
    distance: float
    significance: float = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One sample beside its reference.

    Attributes
    ----------
    statistic, p
        None where there are too few pupils to test.
    distance
        0 to 1: the Kolmogorov-Smirnov statistic, or the share of pupils that would have to change
        category.
    """

    test: Kind
    count: int
    reference_count: int
    statistic: float | None = None
    p: float | None = None
    distance: float | None = None


def compare(reference: Mapping[str, Any], seen: Seen, limits: Limits) -> dict[str, Any]:
    """Compare the pupils of today with the reference of the served model.

    Parameters
    ----------
    reference
        Content of ``drift_reference.json``.

    Returns
    -------
    dict
        ``features`` by name, and ``predictions`` as a whole with its ``horizons``: each entry with
        test, statistic, p, p_adjusted, distance, count and verdict. The verdict on ``predictions``
        is drift if any horizon's is; its figures are those of the horizon that differs most.
    """
    made = dict(_comparisons(reference, seen, limits))
    tested = [key for key, comparison in made.items() if comparison.p is not None]
    adjusted = dict(zip(tested, holm([made[key].p or 0.0 for key in tested]), strict=True))
    entries = {
        key: _entry(comparison, adjusted.get(key), limits) for key, comparison in made.items()
    }
    horizons = {name: entry for (group, name), entry in entries.items() if group == "predictions"}
    return {
        "features": {
            name: entry for (group, name), entry in entries.items() if group != "predictions"
        },
        "predictions": {**_worst(horizons), "horizons": horizons},
    }


def _comparisons(
    reference: Mapping[str, Any], seen: Seen, limits: Limits
) -> Iterator[tuple[tuple[str, str], Comparison]]:
    for feature in FEATURES:
        kind: Kind = "chi-square" if feature.kind == "category" else "ks"
        known = reference.get("features", {}).get(feature.name)
        now = seen.features.get(feature.name, {})
        yield ("features", feature.name), _compared(kind, known, now, limits)
    for horizon in reference.get("predictions", {}):
        known, now = reference["predictions"][horizon], seen.predictions.get(horizon, {})
        yield ("predictions", horizon), _compared("ks", known, now, limits)


def _compared(
    kind: Kind, reference: Mapping[str, Any] | None, now: Values, limits: Limits
) -> Comparison:
    size, count = 0 if reference is None else int(reference["n"]), int(sum(now.values()))
    if reference is None or min(size, count) < limits.minimum_count:
        return Comparison(kind, count, size)
    before = reference_values(kind, reference)
    if kind == "chi-square":
        statistic, degrees = chi_square(before, now)
        p, distance = chi_square_p(statistic, degrees), total_variation(before, now)
    else:
        statistic = distance = kolmogorov_smirnov(before, now)
        p = kolmogorov_smirnov_p(statistic, first=size, second=count)
    return Comparison(kind, count, size, statistic, p, distance)


def reference_values(kind: Kind, reference: Mapping[str, Any]) -> dict[Any, float]:
    """Read a distribution of ``drift_reference.json`` as how often each value was seen."""
    counts: Mapping[str, int] = reference["counts"]
    return {float(value) if kind == "ks" else value: float(n) for value, n in counts.items()}


def _entry(comparison: Comparison, adjusted: float | None, limits: Limits) -> dict[str, Any]:
    verdict = Verdict.TOO_FEW
    if adjusted is not None and comparison.distance is not None:
        moved = adjusted < limits.significance and comparison.distance >= limits.distance
        verdict = Verdict.DRIFT if moved else Verdict.STABLE
    return {
        "test": comparison.test,
        "statistic": _rounded(comparison.statistic),
        "p": comparison.p,
        "p_adjusted": adjusted,
        "distance": _rounded(comparison.distance),
        "count": comparison.count,
        "reference_count": comparison.reference_count,
        "verdict": verdict,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _worst(horizons: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Let the horizon that differs most stand for all of them."""
    order = (Verdict.TOO_FEW, Verdict.STABLE, Verdict.DRIFT)
    if not horizons:
        return _entry(Comparison("ks", 0, 0), None, Limits(1, 1.0))
    worst = max(
        horizons.values(),
        key=lambda entry: (order.index(entry["verdict"]), entry["distance"] or 0.0, entry["count"]),
    )
    total = {name: sum(e[name] for e in horizons.values()) for name in ("count", "reference_count")}
    return {**worst, **total}
