"""A scale of grades, and levels on it.

Models and metrics count in levels: 0 is the worst grade, each step towards the better end one more,
whichever end of the scale is the better one. Where the steps are whole and 0 is the worst grade, as
from 0 to 20, a level is the grade itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", float, "NDArray[np.float64]")

MAX_GRADES = 1001
_HUNDREDTHS = 100
TOLERANCE = 1e-3
"""Of a step; single-precision numbers, as other programs write them, differ by less."""


@dataclass(frozen=True)
class Scale:
    """The grades that exist: from `minimum` to `maximum` in steps, at most 1,001.

    Attributes
    ----------
    step
        A multiple of 0.01.
    better
        Which end of the scale is the better one.

    Raises
    ------
    ValueError
        If the bounds do not agree with the step.
    """

    minimum: float
    maximum: float
    step: float = 1.0
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        steps = (self.maximum - self.minimum) / self.step
        if self.maximum <= self.minimum:
            raise ValueError("minimum must be below maximum")
        if not _is_whole(self.step * _HUNDREDTHS) or not _is_whole(self.minimum * _HUNDREDTHS):
            raise ValueError("minimum and step must be multiples of 0.01")
        if not _is_whole(steps):
            raise ValueError("maximum must be minimum plus a whole number of steps")
        if steps > MAX_GRADES - 1:
            raise ValueError(f"there are more than {MAX_GRADES:,} grades: choose a larger step")

    @property
    def highest(self) -> int:
        """The level of the best grade."""
        return round((self.maximum - self.minimum) / self.step)

    @property
    def parts(self) -> int:
        """Hundredths of a grade in one level."""
        return round(self.step * _HUNDREDTHS)

    @property
    def is_whole(self) -> bool:
        """Whether every grade is a whole number."""
        return _is_whole(self.step) and _is_whole(self.minimum)

    @property
    def smallest_share(self) -> float:
        """The smallest effect on a prediction that counts, in grades: 0.05 on 0 to 20."""
        return (self.maximum - self.minimum) / 400

    @property
    def share_digits(self) -> int:
        """How many decimals it takes so that no such effect is written as 0; at least 1."""
        return max(1, math.ceil(-math.log10(2 * self.smallest_share)))

    def has(self, grade: float) -> bool:
        """Return whether the grade exists."""
        return self.minimum <= grade <= self.maximum and _is_whole(self.level(grade))

    def level(self, grade: Number) -> Number:
        """Return the level of a grade or of each of an array, also between two that exist."""
        if self.better == "higher":
            return (grade - self.minimum) / self.step
        return (self.maximum - grade) / self.step

    def nearest(self, grade: float) -> int:
        """Return the level of the existing grade nearest to one between two, half to the better."""
        # Steps such as 0.1 are no binary fractions: 9.95 is 99.49999999999999 of them.
        return min(max(math.floor(round(self.level(grade), 6) + 0.5), 0), self.highest)

    def grade(self, level: int) -> float | int:
        """Return the grade of a level that exists, a whole number where all grades are."""
        grade = self.displayed(level * self.parts)
        return round(grade) if self.is_whole else grade

    def grade_between(self, level: Number) -> Number:
        """Return the inverse of `level`: the grade of a level, or of each of an array."""
        worst = self.minimum if self.better == "higher" else self.maximum
        return worst + self.sign * self.step * level

    def displayed(self, hundredths: int) -> float:
        """Return the grade that lies some hundredths of a grade above the worst one."""
        if self.better == "higher":
            return (round(self.minimum * _HUNDREDTHS) + hundredths) / _HUNDREDTHS
        return (round(self.maximum * _HUNDREDTHS) - hundredths) / _HUNDREDTHS

    @property
    def sign(self) -> int:
        """1 where a higher grade is better, else -1."""
        return 1 if self.better == "higher" else -1


def _is_whole(number: float) -> bool:
    return math.isclose(number, round(number), rel_tol=0, abs_tol=TOLERANCE)
