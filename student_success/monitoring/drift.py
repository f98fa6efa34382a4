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


VERDICTS = tuple(DriftVerdict)
"""The gravest one last, which stands for several."""


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
    entries = dict(_comparisons(reference, current, limits))
    tested = [entry for entry in entries.values() if entry["p"] is not None]
    for entry, adjusted in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        drifted = adjusted < limits.significance and entry["distance"] >= limits.distance
        entry.update(
            {name: round(entry[name], 6) for name in ("statistic", "distance")},
            p_adjusted=adjusted,
            verdict=DriftVerdict.DRIFT if drifted else DriftVerdict.STABLE,
        )
    horizons = {name: entry for (group, name), entry in entries.items() if group == "predictions"}
    return {
        "features": {
            name: entry for (group, name), entry in entries.items() if group != "predictions"
        },
        "predictions": {**_worst(horizons, limits), "horizons": horizons},
    }


def _comparisons(
    reference: Mapping[str, Any], current: CurrentPupils, limits: DriftLimits
) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
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
) -> dict[str, Any]:
    """Compare one sample with its reference; without a test if there are too few pupils."""
    size, count = 0 if reference is None else int(reference["n"]), int(sum(now.values()))
    entry: dict[str, Any] = {
        "test": kind,
        **dict.fromkeys(("statistic", "p", "p_adjusted", "distance")),
        "count": count,
        "reference_count": size,
        "verdict": DriftVerdict.TOO_FEW,
    }
    if reference is None or min(size, count) < limits.minimum_count:
        return entry
    if kind == "chi-square":
        found = compare_categories(reference["counts"], now)
    else:
        before = {float(value): number for value, number in reference["counts"].items()}
        found = compare_numbers(before, now)
    return entry | found._asdict()


def _worst(horizons: Mapping[str, dict[str, Any]], limits: DriftLimits) -> dict[str, Any]:
    """Return the entry of the horizon that differs most, with the counts of all horizons."""
    if not horizons:
        return _comparison("ks", None, {}, limits)
    worst = max(
        horizons.values(),
        key=lambda entry: (
            VERDICTS.index(entry["verdict"]),
            entry["distance"] or 0.0,
            entry["count"],
        ),
    )
    total = {name: sum(e[name] for e in horizons.values()) for name in ("count", "reference_count")}
    return {**worst, **total}
