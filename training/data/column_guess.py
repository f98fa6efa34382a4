"""Guess what the columns of a table are: a grade and its scale, numbers, categories, references.

Each guess comes with its reason, which the drafted profile shows as a comment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from student_success.core.errors import DatasetError
from student_success.domain.profile import SENSITIVE
from student_success.domain.scale import MAX_GRADES, TOLERANCE, Scale
from student_success.domain.tables.cells import UNKNOWN, normalise, parse_number

STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.01)
LARGE_STEPS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10)
TOPS = (1, 2, 3, 4, 5, 6, 10)
"""First digits of round numbers, and of the ends of scales of grades."""
MAX_CHOICES = 500
LONGEST_CHOICE = 100
"""In characters."""
ALIKE = 0.5
"""Correlation with the target from which a column on its scale is taken for an earlier grade."""
NAMED = 0.2
"""The same for a column whose title says that it is a grade."""
EQUAL = 0.995
"""Correlation from which a column is taken for the target itself."""
CODES = 10
"""Whole numbers from 1 to at most this, without a gap, are taken for codes with exact bounds."""

_GRADE = re.compile(r"gpa|grade|note|mark|score|exam|test|term|semest|trimest|period|moyenne", re.I)
_EARLIER = re.compile(r"prior|previous|earlier|avant|pr[ée]c[ée]dent|last.?year", re.I)
_REFERENCE = re.compile(
    r"\bid\b|_id$|^id_|matricule|reference|r[ée]f[ée]rence|code|num[ée]ro", re.I
)
_PERSON = re.compile(r"\bname\b|_name$|^nom$|pr[ée]nom|surname|e-?mail|phone|t[ée]l[ée]phone", re.I)
_HARMFUL = re.compile(r"absen|missed|fail|[ée]chec|retard|late|detention", re.I)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table.

    Attributes
    ----------
    numbers
        NaN where a cell is unknown or no number; None unless all known cells are numbers.
    """

    title: str
    text: pd.Series[Any]
    unknown: pd.Series[bool]
    numbers: pd.Series[float] | None

    @property
    def values(self) -> list[str]:
        """The different known values, sorted."""
        return sorted(self.text[~self.unknown].unique())

    @property
    def is_whole(self) -> bool:
        """Whether all known cells are whole numbers."""
        return self.numbers is not None and bool((self.numbers.dropna() % 1 == 0).all())

    @property
    def is_harmful(self) -> bool:
        """Whether the title says that more of it is worse, as of absences."""
        return _HARMFUL.search(self.title) is not None

    def correlation(self, target: pd.Series[float]) -> float:
        """Return the correlation with the target; 0 where it is not defined."""
        if self.numbers is None or self.numbers.nunique() < 2:
            return 0.0
        result = float(self.numbers.corr(target))
        return 0.0 if math.isnan(result) else result


def _is_unknown(cells: pd.Series[Any]) -> pd.Series[bool]:
    """Return which cells say that a value is not known."""
    return cells.isin([cell for cell in cells.unique() if normalise(cell) in UNKNOWN])


def columns_of(cells: pd.DataFrame) -> list[Column]:
    """Return the columns of a table of text."""
    found = []
    for title in cells:
        text = cells[title]
        unknown = _is_unknown(text)
        numbers = text.map({cell: parse_number(cell) for cell in text.unique()}).astype(float)
        numeric = not unknown.all() and bool(numbers[~unknown].notna().all())
        found.append(Column(str(title), text, unknown, numbers if numeric else None))
    return found


def guess_scale(column: Column, *, better: str | None, others: Sequence[Column]) -> dict[str, Any]:
    """Return what `[grade]` says of the scale of the target, each with a reason.

    Raises
    ------
    DatasetError
        If the column holds no grades.
    """
    if column.numbers is None:
        raise DatasetError(
            f"{column.title} holds text, and a grade must be a number. Give each grade a number, "
            "for example A = 1, B = 2."
        )
    grades = column.numbers.dropna()
    if grades.nunique() < 2:
        raise DatasetError(f"{column.title} has fewer than two different grades: nothing to learn.")
    low, high = float(grades.min()), float(grades.max())
    possible = [
        step
        for step in (*reversed(STEPS), *LARGE_STEPS)
        if (ends := _ends(low, high, step)) and (ends[1] - ends[0]) / step <= MAX_GRADES - 1
    ]
    if not possible:
        raise DatasetError(f"{column.title} has grades up to {high:g}: divide them by 1,000 first.")
    fitting = [step for step in possible if _fits(grades, step)]
    # Steps above 1 only where there are too many grades otherwise.
    step = max((s for s in fitting if s <= 1), default=max(fitting, default=possible[0]))
    minimum, maximum = _ends(low, high, step)
    end, reason = (better, "as given") if better else _better(grades, others)
    return {
        "minimum": (minimum, f"the lowest grade in the file is {grades.min():g}"),
        "maximum": (maximum, f"the highest grade in the file is {grades.max():g}"),
        "step": (step, "the largest step on which all grades of the file lie"),
        "better": (end, reason),
    } | (
        {}
        if fitting
        else {
            "step": (step, f"the smallest step with at most {MAX_GRADES:,} grades"),
            "rounded": (True, "grades of the file lie between the steps: the nearest counts"),
        }
    )


def guess_pass_mark(grades: pd.Series[float], scale: Scale) -> tuple[float, str]:
    """Return a pass mark that some pupils reach and others do not."""
    for share, reason in (
        (0.5, "half of the scale: a guess"),
        (None, "half of the scale would let all pass or all fail, so the lower quarter fails"),
    ):
        levels = grades.map(scale.level)
        wanted = scale.highest * share if share else float(levels.quantile(0.25)) + 1
        level = min(max(math.ceil(wanted), 1), scale.highest)
        if 0 < (levels >= level - 1e-6).mean() < 1:
            return scale.grade(level), reason
    return scale.grade(max(1, math.ceil(levels.max()))), "only the best grade passes: a guess"


def guess_not_finished(grades: pd.Series[float], scale: Scale) -> tuple[float, str] | None:
    """Return the worst grade if far more pupils have it than have the next ones."""
    levels = grades.map(scale.level).round().astype(int)
    worst = int((levels == 0).sum())
    span = max(2, scale.highest // 10)
    near = [int((levels == level).sum()) for level in range(1, span + 1)]
    if worst < 5 or worst <= 3 * max(near):
        return None
    return scale.grade(0), f"{worst} pupils have it, and at most {max(near)} any of the next grades"


def is_reference(column: Column) -> bool:
    """Return whether the column seems to tell pupils apart: no value occurs twice."""
    known = column.text[~column.unknown]
    if known.duplicated().any() or column.unknown.any():
        return False
    return _REFERENCE.search(column.title) is not None or (
        column.numbers is None and len(known) > MAX_CHOICES // 10
    )


def period_scale(
    column: Column, target: pd.Series[float], minimum: float, maximum: float
) -> tuple[tuple[float, float] | None, str] | None:
    """Return the bounds of an earlier grade (None: those of the target) with a reason, or None."""
    if column.numbers is None:
        return None
    known, correlation = column.numbers.dropna(), column.correlation(target)
    low, high = float(known.min()), float(known.max())
    shares = minimum <= low and high <= maximum and high - low >= (maximum - minimum) / 2
    called = _GRADE.search(column.title) is not None
    if shares and (correlation >= ALIKE or (called and correlation >= NAMED)):
        return None, f"on the target's scale, correlation {correlation:.2f} with it"
    if called and abs(correlation) >= NAMED and not column.is_harmful:
        bounds = _ends(low, high, next((step for step in STEPS if _fits(known, step)), 0.01))
        return bounds, (
            f"its title says it is a grade, correlation {correlation:.2f}; on a scale of its own"
        )
    return None


def is_earlier(column: Column) -> bool:
    """Return whether the title says that the grade is from before the year."""
    return _EARLIER.search(column.title) is not None


def left_out(column: Column, target: pd.Series[float]) -> str:
    """Return why a column can be no feature; empty if it can."""
    values = column.values
    if not values:
        return "it is empty"
    if _PERSON.search(column.title):
        return "it seems to name or reach a person, which a model must not know"
    if len(values) == 1:
        return "it is the same for all pupils"
    if abs(column.correlation(target)) >= EQUAL:
        return "it says the same as the target, so it was known only afterwards"
    if column.numbers is None and max(map(len, values)) > LONGEST_CHOICE:
        return "it holds free text"
    if column.numbers is None and len(values) > min(MAX_CHOICES, len(column.text) / 2):
        return f"it has {len(values)} different texts, too many for a category"
    return ""


def is_sensitive(column: Column) -> bool:
    """Return whether the column belongs into an audit and not among the features."""
    return SENSITIVE.search(column.title) is not None


def bounds(column: Column) -> tuple[float, float, str]:
    """Return minimum and maximum of a numeric feature, wider than in the file, with a reason."""
    assert column.numbers is not None
    known = column.numbers.dropna()
    low, high = float(known.min()), float(known.max())
    seen = f"{low:g} to {high:g} in the file"
    if column.is_whole and (low, high) == (0, 1):
        return low, high, f"{seen}: taken for no and yes"
    if column.is_whole and low == 1 and high <= CODES and known.nunique() == high:
        return low, high, f"{seen}, every number between: taken for codes"
    for top in (1.0, 100.0):
        if not column.is_whole and low >= 0 and top / 2 < high <= top:
            return 0, top, f"{seen}: taken for a share"
    if low >= 0 and low <= (high - low) / 2:
        top = nice(high * 1.25)
        return 0, math.ceil(top) if column.is_whole else top, f"{seen}, widened"
    margin = nice((high - low) / 4)
    start = low - margin if low < 0 else max(0, low - margin)
    if column.is_whole:
        return math.floor(start), math.ceil(high + margin), f"{seen}, widened"
    return round(start, 6), round(high + margin, 6), f"{seen}, widened"


def has_long_tail(column: Column) -> bool:
    """Return whether it is a count whose largest values are far from the others."""
    if not column.is_whole or column.numbers is None:
        return False
    known = column.numbers.dropna()
    return bool(known.min() >= 0 and known.max() > 10 and known.max() > 5 * known.quantile(0.75))


def nice(number: float, digits: Sequence[float] = ROUND) -> float:
    """Return a round number that is at least as large."""
    if number <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(number))
    return round(next(d for d in digits if d * power >= number - 1e-9) * power, 6)


def _fits(numbers: pd.Series[float], step: float) -> bool:
    return bool(np.allclose(numbers / step, (numbers / step).round(), rtol=0, atol=TOLERANCE))


def _ends(low: float, high: float, step: float) -> tuple[float, float]:
    """Return the ends of a scale: round numbers around the grades in the file."""
    minimum = 1.0 if low == 1 and high <= 10 else 0.0 if low >= 0 else -nice(-low, TOPS)
    top = nice(high, TOPS) if high > 0 else 0.0
    steps = math.ceil((max(top, high) - minimum) / step - 1e-9)
    return minimum, round(minimum + steps * step, 2)


def _better(grades: pd.Series[float], others: Sequence[Column]) -> tuple[str, str]:
    """Return the better end: absences and the like go with worse grades."""
    # Of pupils who left, with the worst grade, often no absences are recorded.
    inner = grades[(grades > grades.min()) & (grades < grades.max())]
    for column in others:
        correlation = column.correlation(inner)
        if column.is_harmful and abs(correlation) >= 0.1:
            end = "lower" if correlation > 0 else "higher"
            numbers = "higher" if correlation > 0 else "lower"
            return end, f"more of {column.title} goes with {numbers} numbers"
    return "higher", 'a guess: write "lower" if 1 is the best grade'
