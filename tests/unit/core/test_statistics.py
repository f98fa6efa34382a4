"""Statistical tests agree with scipy."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import special, stats

from student_success.core import statistics

SIZES = [(50, 662), (662, 10_000), (1000, 1000)]


def samples(first: int, second: int, *, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(first + second)
    return rng.normal(11, 3, first).round(1), rng.normal(11 + shift, 3, second).round(1)


@pytest.mark.parametrize(("first", "second"), SIZES)
@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_kolmogorov_smirnov_agrees_with_scipy(first: int, second: int, shift: float) -> None:
    one, two = samples(first, second, shift=shift)
    expected = stats.ks_2samp(one, two, method="asymp")
    found = statistics.kolmogorov_smirnov(Counter(one.tolist()), Counter(two.tolist()))
    assert found == pytest.approx(expected.statistic, abs=1e-12)
    p = statistics.kolmogorov_smirnov_p(found, first=first, second=second)
    # scipy takes the exact distribution at the rounded size where this has Stephens' formula.
    assert p == pytest.approx(expected.pvalue, rel=0.1, abs=0.01)


def test_kolmogorov_tail_agrees_with_scipy() -> None:
    values = np.linspace(0.01, 4, 400)
    found = [statistics.kolmogorov_tail(float(value)) for value in values]
    np.testing.assert_allclose(found, special.kolmogorov(values), rtol=1e-9, atol=1e-15)
    assert all(0 <= later <= earlier <= 1 for earlier, later in pairwise(found))


@pytest.mark.parametrize(("first", "second"), SIZES)
@pytest.mark.parametrize("categories", [2, 4, 9])
def test_chi_square_agrees_with_scipy(first: int, second: int, categories: int) -> None:
    rng = np.random.default_rng(categories)
    shares = rng.dirichlet(np.full(categories, 5.0), size=2)
    tables = [rng.multinomial(n, p) for n, p in zip((first, second), shares, strict=True)]
    one, two = ({str(k): float(n) for k, n in enumerate(table)} for table in tables)
    expected = stats.chi2_contingency(np.array(tables), correction=False)
    statistic, degrees = statistics.chi_square(one, two)
    assert statistic == pytest.approx(expected.statistic)
    assert degrees == expected.dof
    p = statistics.chi_square_p(statistic, degrees)
    assert p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


def test_chi_square_p_agrees_with_scipy() -> None:
    for degrees in range(1, 25):
        for statistic in (0.0, 0.01, 1.0, 10.0, 100.0, 1500.0):
            p = statistics.chi_square_p(statistic, degrees)
            assert p == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-9, abs=1e-300)


def test_chi_square_ignores_category_without_samples() -> None:
    assert statistics.chi_square({"a": 5, "b": 5, "c": 0}, {"a": 6, "b": 4})[1] == 1
    statistic, degrees = statistics.chi_square({"a": 5}, {"a": 6})
    assert (statistic, degrees) == (0, 0)
    assert statistics.chi_square_p(statistic, degrees) == 1


def test_total_variation_returns_share_that_differs() -> None:
    assert statistics.total_variation({"a": 1, "b": 1}, {"a": 10, "b": 10}) == 0
    assert statistics.total_variation({"a": 3, "b": 1}, {"a": 1, "b": 3}) == pytest.approx(0.5)
    assert statistics.total_variation({"a": 2}, {"b": 2}) == 1


def test_holm_agrees_with_calculation_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_skips_nan() -> None:
    adjusted = statistics.holm([math.nan, 0.01, 0.04])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.02, 0.04])


def test_corrected_t_agrees_with_scipy_and_a_calculation_by_hand() -> None:
    """Without overlap the test is scipy's; with it the error grows by sqrt(1 + n * ratio)."""
    skills = [0.05, 0.02, 0.08, -0.01, 0.04]
    mean, t, better, worse = statistics.corrected_t(skills, n_train=1e18, n_test=1.0)
    plain = stats.ttest_1samp(skills, 0.0, alternative="greater")
    assert mean == pytest.approx(0.036)
    assert t == pytest.approx(plain.statistic)
    assert better == pytest.approx(plain.pvalue)
    assert worse == pytest.approx(1 - plain.pvalue)

    _, t, better, _ = statistics.corrected_t(skills, n_train=80, n_test=20)
    # s² = 0.00113, error = sqrt((1/5 + 20/80) * 0.00113) = 0.022550, t = 0.036 / 0.022550
    assert t == pytest.approx(1.596460, rel=1e-5)
    assert better == pytest.approx(stats.t.sf(1.596460, df=4), rel=1e-5)
