"""Whether a table of pupils can teach a model anything: what is refused, and what is remarked.

Each problem is one sentence that says what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np
import pandas as pd

from student_success.domain.students import (
    FEATURES,
    GRADE_MAX,
    GRADE_MIN,
    PASS_GRADE,
    PERIODS,
    SCALE,
    TARGET,
    Feature,
)

MINIMUM_ROWS = 50
"""Fewer pupils cannot be split into meaningful folds."""
LEAK = 0.99
"""Share of the target's variance above which a feature is taken for the target itself."""
LEAK_GROUPS = 20
"""At most this many different values may give away who passed; more do so by chance."""
LEAK_PUPILS = 10
"""Minimum number of passing and of failing pupils for that."""
COPIES = 100
"""Equal rows are copies if there are this many times more of them than chance explains."""

NEAR_COPIES = 0.05
"""Rows that differ in one column are copies if they are this share of all; a few are twins."""


def unsuitable(frame: pd.DataFrame) -> Iterator[str]:
    """Yield in words what makes a training impossible or its model misleading.

    Parameters
    ----------
    frame
        As in `training.data.dataset.Dataset`.
    """
    if len(frame) < MINIMUM_ROWS:
        pupils = "1 pupil" if len(frame) == 1 else f"{len(frame)} pupils"
        yield (
            f"It has {pupils} with a {TARGET}; a training needs {MINIMUM_ROWS} or "
            "more. Add pupils of earlier years."
        )
        return
    passed = passes(frame[TARGET])
    if passed.all() or not passed.any():
        outcome, other = ("passes", "failed") if passed.all() else ("fails", "passed")
        yield (
            f"Every pupil {outcome}: a model cannot learn the difference. Add pupils who {other}, "
            f"or check pass_mark of the profile ({PASS_GRADE:g})."
        )
    for feature in FEATURES:
        if reason := _leak(feature, frame[feature.name], frame[TARGET], passed):
            yield (
                f"{feature.name} {reason}, so it was known only afterwards. Remove it from the "
                "profile, or correct the column."
            )


def remarks(frame: pd.DataFrame) -> Iterator[str]:
    """Yield in words what does not stop a training but is seldom meant."""
    values = {feature.name: frame[feature.name].dropna() for feature in FEATURES}
    empty = [name for name, known in values.items() if known.empty]
    if periods := [name for name in empty if name in PERIODS]:
        yield (
            f"No pupil has a grade in {', '.join(periods)}, so the model is not judged for the "
            "time when it is known. Add these grades, or remove the period from the profile."
        )
    if unknown := [name for name in empty if name not in PERIODS]:
        yield (
            f"Not known of any pupil: {', '.join(unknown)}. Nothing is learnt from it. Fill it in, "
            "or remove it from the profile."
        )
    if constant := [name for name, known in values.items() if known.nunique() == 1]:
        yield (
            f"The same for all pupils: {', '.join(constant)}. Nothing is learnt from it. Remove it "
            "from the profile unless it will differ."
        )


def copies(cells: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows repeat an earlier row, in all columns or in all but one.

    Where the file has few columns with few values, different pupils are equal by chance: they are
    no copies. Chance is what equal pairs there would be if the columns were independent.
    """
    repeated = _repeated(cells)
    for column in cells.columns:
        alike = _repeated(cells.drop(columns=column))
        if alike.mean() >= NEAR_COPIES:
            repeated |= alike
    return repeated


def _repeated(cells: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows equal an earlier row, if more rows do so than chance explains."""
    repeated: pd.Series[bool] = cells.duplicated()
    if not repeated.any():
        return repeated
    sizes = cells.groupby(list(cells.columns), dropna=False, observed=True).size()
    pairs = sum(comb(size, 2) for size in sizes if size > 1)
    shares = [
        float((cells[column].value_counts(normalize=True, dropna=False) ** 2).sum())
        for column in cells.columns
    ]
    expected = comb(len(cells), 2) * float(np.prod(shares))
    return repeated if pairs > COPIES * expected else repeated & False


def passes(grades: pd.Series[float]) -> pd.Series[bool]:
    """Return who reaches the pass mark."""
    return grades >= PASS_GRADE if SCALE.sign > 0 else grades <= PASS_GRADE


def _leak(
    feature: Feature, values: pd.Series, grades: pd.Series[float], passed: pd.Series[bool]
) -> str:
    """Return how a feature gives the target away; empty if it does not."""
    known = values.notna()
    if explained_share(feature, values, grades) >= LEAK:
        return f"says the same as {TARGET}"
    values, passed = values[known], passed[known]
    if not LEAK_GROUPS >= values.nunique() >= 2:
        return ""
    groups = passed.groupby(values).mean()
    if min(int(passed.sum()), int((~passed).sum())) >= LEAK_PUPILS and groups.isin([0, 1]).all():
        return f"says exactly who passed ({GRADE_MIN:g} to {GRADE_MAX:g}, pass mark {PASS_GRADE:g})"
    return ""


def explained_share(feature: Feature, values: pd.Series, grades: pd.Series[float]) -> float:
    """Return the share of the target's variance that a feature explains, 0 to 1."""
    known = values.notna()
    values, grades = values[known], grades[known]
    if len(values) < MINIMUM_ROWS or grades.nunique() < 2 or values.nunique() < 2:
        return 0.0
    linear = 0.0
    if feature.kind != "category":
        linear = abs(float(np.corrcoef(values, grades)[0, 1])) ** 2
    if values.nunique() > LEAK_GROUPS:
        return linear
    means = grades.groupby(values).transform("mean")
    return max(linear, float(((means - grades.mean()) ** 2).mean() / grades.var(ddof=0)))
