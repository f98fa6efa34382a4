"""Statistical tests in plain Python: whether two samples, or two models, differ.

scipy, the reference in the tests, takes too much memory and time to import in the serving process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Counts = Mapping[Any, float]
"""Number of occurrences of each value."""


class Difference(NamedTuple):
    """How two samples differ.

    Attributes
    ----------
    statistic
        Of the test.
    distance
        0 to 1: the Kolmogorov-Smirnov statistic, or the share that would have to change category.
    p
        The chance of a statistic at least this large if they do not differ.
    """

    statistic: float
    distance: float
    p: float


def compare_categories(first: Counts, second: Counts) -> Difference:
    """Compare two samples of categories by the chi-square test."""
    statistic, degrees = chi_square(first, second)
    return Difference(statistic, total_variation(first, second), chi_square_p(statistic, degrees))


def compare_numbers(first: Counts, second: Counts) -> Difference:
    """Compare two samples of numbers by the Kolmogorov-Smirnov test."""
    statistic = kolmogorov_smirnov(first, second)
    sizes = {"first": sum(first.values()), "second": sum(second.values())}
    return Difference(statistic, statistic, kolmogorov_smirnov_p(statistic, **sizes))


def kolmogorov_smirnov(first: Counts, second: Counts) -> float:
    """Return the largest difference between the distribution functions of two samples, 0 to 1."""
    total_first, total_second = sum(first.values()), sum(second.values())
    below_first = below_second = largest = 0.0
    for value in sorted({*first, *second}):
        below_first += first.get(value, 0.0)
        below_second += second.get(value, 0.0)
        largest = max(largest, abs(below_first / total_first - below_second / total_second))
    return largest


def kolmogorov_smirnov_p(statistic: float, *, first: float, second: float) -> float:
    """Return the chance of a Kolmogorov-Smirnov statistic at least this large.

    Asymptotic, with the correction of Stephens (1970) for small samples; with ties, as grades have,
    it is too large rather than too small.

    Parameters
    ----------
    statistic
        Largest difference of the distribution functions, 0 to 1.
    first, second
        Sizes of the samples.
    """
    root = math.sqrt(first * second / (first + second))
    return kolmogorov_tail((root + 0.12 + 0.11 / root) * statistic)


def kolmogorov_tail(value: float) -> float:
    """Return the chance that Kolmogorov's distribution exceeds a value."""
    if value < 0.2:
        return 1.0  # to twelve decimals
    # Each series converges within a few terms on its side.
    if value < 1.18:
        power = -(math.pi**2) / (8 * value**2)
        below = sum(math.exp(power * (2 * k - 1) ** 2) for k in range(1, 6))
        return 1.0 - math.sqrt(2 * math.pi) / value * below
    return 2.0 * sum((-1.0) ** (k - 1) * math.exp(-2 * (k * value) ** 2) for k in range(1, 8))


def chi_square(first: Counts, second: Counts) -> tuple[float, int]:
    """Return the chi-square statistic of homogeneity of two samples, and its degrees of freedom.

    Source: Pearson (1900), as a table of two rows; no continuity correction.
    """
    rows = (first, second)
    sizes = [sum(row.values()) for row in rows]
    values = {value for row in rows for value, count in row.items() if count}
    statistic = 0.0
    for value in values:
        seen = [row.get(value, 0.0) for row in rows]
        for count, size in zip(seen, sizes, strict=True):
            expected = sum(seen) * size / sum(sizes)
            statistic += (count - expected) ** 2 / expected
    return statistic, len(values) - 1


def chi_square_p(statistic: float, degrees: int) -> float:
    """Return the chance of a chi-square statistic at least this large; 1 without any freedom."""
    if degrees < 1:
        return 1.0
    # The upper incomplete gamma function of whole and half numbers is a finite sum.
    half = statistic / 2
    if degrees % 2:
        tail, order = math.erfc(math.sqrt(half)), 0.5
    else:
        tail, order = math.exp(-half), 1.0
    while order < degrees / 2:
        if half > 0:
            tail += math.exp(order * math.log(half) - half - math.lgamma(order + 1))
        order += 1
    return min(tail, 1.0)


def total_variation(first: Counts, second: Counts) -> float:
    """Return the share of one sample that must change to match the other, 0 to 1."""
    total_first, total_second = sum(first.values()), sum(second.values())
    return 0.5 * sum(
        abs(first.get(value, 0.0) / total_first - second.get(value, 0.0) / total_second)
        for value in {*first, *second}
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having made several tests, by Holm's (1979) step-down method.

    A value that is NaN stands for a test that was not made and stays NaN.
    """
    adjusted = list(p_values)
    tested = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = highest
    return adjusted


def corrected_t(
    differences: Sequence[float], *, n_train: float, n_test: float
) -> tuple[float, float, float, float]:
    """Test the mean of paired fold differences against zero, corrected for overlapping folds.

    The folds share training samples, so the plain t-test mistakes chance for skill: the variance
    of the mean is (1/n + n_test/n_train) s² instead of s²/n. Source: Nadeau and Bengio, Inference
    for the generalization error, Machine Learning 52, 2003.

    Parameters
    ----------
    n_train, n_test
        Mean number of samples a fold.

    Returns
    -------
    tuple of float
        Mean, t, one-sided p that the mean is above zero, and below; all NaN if the input is not
        finite or there are fewer than two folds.
    """
    undefined = (math.nan,) * 4
    folds = len(differences)
    if folds < 2 or not all(map(math.isfinite, differences)):
        return undefined
    if not (0 < n_train < math.inf and 0 < n_test < math.inf):
        return undefined
    from scipy.special import stdtr  # Imported late: the serving process never calls this function.

    mean = sum(differences) / folds
    variance = sum((d - mean) * (d - mean) for d in differences) / (folds - 1)
    error = math.sqrt((1 / folds + n_test / n_train) * variance)
    if not (math.isfinite(mean) and math.isfinite(error)):
        return undefined
    certain = math.copysign(math.inf, mean) if mean else 0.0
    t = mean / error if error > 0 else certain
    return mean, t, float(stdtr(folds - 1, -t)), float(stdtr(folds - 1, t))


DECIMALS = 1
"""Grades are counted to this many decimals: more would identify single pupils in the reference."""


def rounded(value: Any) -> Any:
    """Round a float to `DECIMALS`; return any other value unchanged."""
    return round(value, DECIMALS) if isinstance(value, float) else value
