"""Measure whether predictions are worse for one group of pupils than for the others.

The audit columns of the profile are not features: they are only used here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from student_success.domain.students import CATEGORICAL, PASS_LEVEL, PROFILE, SCALE
from training.evaluation.held_out import CANDIDATE, HeldOut, by_horizon

Floats = NDArray[np.float64]

PLACES = re.compile(r"school|campus|site|class|lycee|college|etablissement", re.I)
"""Names of features that say where a pupil learns: their groups are audited as well."""
FEATURE_GROUPS = tuple(name for name in CATEGORICAL if PLACES.fullmatch(name))
MOST_VALUES = 4
"""An audit column of more numbers than this is divided in two: small and large ones."""
MOST_GROUPS = 50
"""Of an attribute with more groups, the largest are measured."""
SMALLEST_GROUP = 30
"""Minimum size of a group, and of its failing and passing pupils, to be measured."""
MEASURES = ("mae", "false_alarms", "missed_failures")


def audit_groups(
    held_out: Iterable[HeldOut], frame: pd.DataFrame, audit: pd.DataFrame | None
) -> list[dict[str, Any]]:
    """Measure every group and the gap to all other pupils, per horizon, of the candidate.

    Parameters
    ----------
    audit
        Columns that are no features, row by row beside `frame`; None or empty if there are none.

    Returns
    -------
    list of dict
        One entry a horizon, attribute and group: its size, coverage, and per measure the figure,
        the gap to all others with its standard error, and two-sided p; a measure of too few pupils
        is left out. Repeated predictions of one pupil are averaged first, so pupils count once.
    """
    columns = {name: frame[name].fillna("").astype(str) for name in FEATURE_GROUPS}
    if audit is not None:
        columns |= {
            name: merged(audit[name].astype(str)) for name in PROFILE.audit.columns if name in audit
        }
    entries = []
    for horizon, parts in by_horizon(held_out).items():
        pupils = _per_pupil(parts)
        for attribute, column in columns.items():
            groups = column.to_numpy()[pupils.index.to_numpy()]
            # An empty cell belongs neither to a group nor to its "others".
            known, groups = pupils[groups != ""], groups[groups != ""]
            largest = pd.Series(groups).value_counts().index[:MOST_GROUPS]
            for group in sorted(largest):
                inside = groups == group
                if min(inside.sum(), (~inside).sum()) < SMALLEST_GROUP:
                    continue
                entry = {"horizon": horizon, "attribute": attribute, "group": group}
                entries.append(entry | _measure(known, inside))
    return entries


def merged(labels: pd.Series[str]) -> pd.Series[str]:
    """Divide a column of many numbers into two groups of nearly equal size, e.g. 0-2 and 3-4.

    Others stay as they are, and so does an empty cell.
    """
    numbers = pd.to_numeric(labels.where(labels != ""), errors="coerce")
    values = np.sort(numbers.dropna().unique())
    if len(values) <= MOST_VALUES or numbers.notna().sum() < (labels != "").sum():
        return labels
    shares = [(numbers <= value).sum() / numbers.notna().sum() for value in values[:-1]]
    end = int(np.argmin(np.abs(np.asarray(shares) - 0.5)))
    small = f"{values[0]:g}-{values[end]:g}"
    large = f"{values[end + 1]:g}-{values[-1]:g}"
    named = pd.Series(np.where(numbers <= values[end], small, large), index=labels.index)
    return named.where(labels != "", "")


def _per_pupil(parts: Sequence[HeldOut]) -> pd.DataFrame:
    predictions = [part.calibrated[CANDIDATE] for part in parts]
    actual = np.concatenate([part.actual for part in parts])
    table = pd.DataFrame(
        {
            "pupil": np.concatenate([part.pupils for part in parts]),
            "failed": actual < PASS_LEVEL,
            "mae": np.abs(np.concatenate([each.grade for each in predictions]) - actual)
            * SCALE.step,
            "alarm": np.concatenate([part.alarm for part in parts]).astype(np.float64),
            "covered": (np.concatenate([each.low for each in predictions]) <= actual)
            & (actual <= np.concatenate([each.high for each in predictions])),
        }
    )
    return table.groupby("pupil").mean()


def _measure(pupils: pd.DataFrame, inside: NDArray[np.bool_]) -> dict[str, Any]:
    failed = pupils["failed"].to_numpy() > 0
    alarm = pupils["alarm"].to_numpy()
    everyone = np.ones(len(pupils), dtype=bool)
    measures = {
        "mae": (pupils["mae"].to_numpy(), everyone),
        "false_alarms": (alarm, ~failed),
        "missed_failures": (1.0 - alarm, failed),
    }
    entry: dict[str, Any] = {
        "pupils": int(inside.sum()),
        "coverage": float(pupils["covered"].to_numpy()[inside].mean()),
    }
    for name, (values, counted) in measures.items():
        members, others = values[inside & counted], values[~inside & counted]
        if min(len(members), len(others)) < SMALLEST_GROUP:
            continue
        gap = float(members.mean() - others.mean())
        error = math.sqrt(members.var(ddof=1) / len(members) + others.var(ddof=1) / len(others))
        p = math.erfc(abs(gap) / error / math.sqrt(2)) if error > 0 else float(gap == 0)
        entry[name] = {
            "value": float(members.mean()),
            "gap": gap,
            "standard_error": error,
            "low": gap - 1.96 * error,
            "high": gap + 1.96 * error,
            "p": p,
        }
    return entry


def gaps(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the gaps as the gate reads them: absolute, one entry a measure.

    If an attribute has two groups, each is the other's "all others": only the first is returned.
    """
    entries = list(groups)
    sizes = Counter((entry["horizon"], entry["attribute"]) for entry in entries)
    first = {
        key: next(e for e in entries if (e["horizon"], e["attribute"]) == key)
        for key, size in sizes.items()
        if size == 2
    }
    return [
        {
            "attribute": group["attribute"],
            "group": group["group"],
            "horizon": group["horizon"],
            "measure": measure,
            "gap": abs(group[measure]["gap"]),
            "standard_error": group[measure]["standard_error"],
        }
        for group in entries
        if group["attribute"] not in FEATURE_GROUPS
        and first.get((group["horizon"], group["attribute"]), group) is group
        for measure in MEASURES
        if measure in group
    ]
