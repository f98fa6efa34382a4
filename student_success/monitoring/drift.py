"""Compare current pupils with the training data of the served model (no database, no clock).

Numbers are compared by the Kolmogorov-Smirnov test, categories by the chi-square test, and all
p-values are adjusted together. With thousands of pupils every small difference is significant, so a
difference counts as drift only if it is also large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from student_success.core.statistics import compare_categories, compare_numbers, holm
from student_success.domain.students import FEATURES
from student_success.storage.observations import CurrentPupils, Values

Kind = Literal["ks", "chi-square"]


class DriftVerdict(StrEnum):
    """What a comparison found."""

    TOO_FEW = "insufficient_data"
    STABLE = "stable"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """When a difference counts as drift.

    Attributes
    ----------
    minimum_count
        Smallest number of pupils, in training and now, that are compared.
    significance
        Largest adjusted p-value of a drift.
    distance
        Smallest distance of a drift, 0 to 1.
    """

    minimum_count: int
    distance: float
    significance: float = 0.05


@dataclass(frozen=True, slots=True)
class DriftComparison:
    """A current sample compared with its reference.

    Attributes
    ----------
    statistic, p
        None if there are too few pupils to test.
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


def compare(
    reference: Mapping[str, Any], current: CurrentPupils, limits: DriftLimits
) -> dict[str, Any]:
    """Compare current pupils with the reference of the served model.

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
    comparisons = dict(_comparisons(reference, current, limits))
    p_values = {key: item.p for key, item in comparisons.items() if item.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    entries = {key: _entry(item, adjusted.get(key), limits) for key, item in comparisons.items()}
    horizons = {name: entry for (group, name), entry in entries.items() if group == "predictions"}
    return {
        "features": {
            name: entry for (group, name), entry in entries.items() if group != "predictions"
        },
        "predictions": {**_worst(horizons), "horizons": horizons},
    }


def _comparisons(
    reference: Mapping[str, Any], current: CurrentPupils, limits: DriftLimits
) -> Iterator[tuple[tuple[str, str], DriftComparison]]:
    for feature in FEATURES:
        kind: Kind = "chi-square" if feature.kind == "category" else "ks"
        expected = reference.get("features", {}).get(feature.name)
        values = current.features.get(feature.name, {})
        yield ("features", feature.name), _comparison(kind, expected, values, limits)
    for horizon, expected in reference.get("predictions", {}).items():
        values = current.predictions.get(horizon, {})
        yield ("predictions", horizon), _comparison("ks", expected, values, limits)


def _comparison(
    kind: Kind, reference: Mapping[str, Any] | None, now: Values, limits: DriftLimits
) -> DriftComparison:
    size, count = 0 if reference is None else int(reference["n"]), int(sum(now.values()))
    if reference is None or min(size, count) < limits.minimum_count:
        return DriftComparison(kind, count, size)
    before = reference_values(kind, reference)
    compare_samples = compare_categories if kind == "chi-square" else compare_numbers
    found = compare_samples(before, now)
    return DriftComparison(kind, count, size, found.statistic, found.p, found.distance)


def reference_values(kind: Kind, reference: Mapping[str, Any]) -> dict[Any, float]:
    """Return the counts of a distribution of ``drift_reference.json`` by value."""
    counts: Mapping[str, int] = reference["counts"]
    return {float(value) if kind == "ks" else value: float(n) for value, n in counts.items()}


def _entry(
    comparison: DriftComparison, adjusted: float | None, limits: DriftLimits
) -> dict[str, Any]:
    verdict = DriftVerdict.TOO_FEW
    if adjusted is not None and comparison.distance is not None:
        drifted = adjusted < limits.significance and comparison.distance >= limits.distance
        verdict = DriftVerdict.DRIFT if drifted else DriftVerdict.STABLE
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
    """Return the entry of the horizon that differs most, with the counts of all horizons."""
    order = (DriftVerdict.TOO_FEW, DriftVerdict.STABLE, DriftVerdict.DRIFT)
    if not horizons:
        return _entry(DriftComparison("ks", 0, 0), None, DriftLimits(1, 1.0))
    worst = max(
        horizons.values(),
        key=lambda entry: (order.index(entry["verdict"]), entry["distance"] or 0.0, entry["count"]),
    )
    total = {name: sum(e[name] for e in horizons.values()) for name in ("count", "reference_count")}
    return {**worst, **total}
