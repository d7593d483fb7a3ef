"""Comparing runs: agreement with scipy, and the right error rates where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cipo_eval.metrics.compare import (
    _products,
    _studentised,
    compare_means,
    compare_ratios,
    holm,
    mcnemar,
)

scores = st.lists(
    st.tuples(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.sampled_from([0, 0.25, 0.5, 0.75, 1])),
    min_size=2,
    max_size=9,
)


@given(pairs=scores)
def test_the_exact_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    theirs = stats.permutation_test(
        (b - a,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10**5,
    )
    assert compare_means(a, b).p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_the_random_test_and_the_interval_are_near_the_t_test() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(400)
    b = np.clip(a + rng.normal(0.012, 0.1, 400), 0, 1)
    found, theirs = compare_means(a, b), stats.ttest_rel(b, a)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.012)
    assert found.ci == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=0.002)
    assert found.difference == pytest.approx((b - a).mean())
    assert found.mde == pytest.approx((1.959964 + 0.841621) * stats.sem(b - a), rel=1e-5)


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_binomial_test(pairs: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    found = mcnemar(a, b)
    gained, lost = int((b > a).sum()), int((a > b).sum())
    assert (found["gained"], found["lost"]) == (gained, lost)
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found["p"] == pytest.approx(expected, abs=1e-9)
    if gained + lost <= 14:  # of single attempts the permutation test is McNemar's
        assert compare_means(a, b).p == pytest.approx(expected, abs=1e-9)


def test_swapping_the_runs_changes_the_sign_only() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(50), rng.random(50)
    forth, back = compare_means(a, b), compare_means(b, a)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.p == pytest.approx(back.p, abs=0.02)
    assert forth.ci == pytest.approx((-back.ci[1], -back.ci[0]))


def test_ratios_with_equal_denominators_are_means() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(30), rng.random(30)
    twos = np.full(30, 2.0)
    means, ratios = compare_means(a, b), compare_ratios(2 * a, twos, 2 * b, twos)
    assert ratios.difference == pytest.approx(means.difference)
    assert ratios.p == pytest.approx(means.p)
    assert ratios.ci == pytest.approx(means.ci)
    assert ratios.mde == pytest.approx(means.mde)


def test_equal_runs_and_undefined_figures() -> None:
    a = np.array([0.0, 1, 0.5])
    same = compare_means(a, a)
    assert (same.difference, same.p, same.ci, same.mde) == (0.0, 1.0, None, None)
    none = compare_ratios([0, 0], [0, 0], [1, 0], [1, 1])
    assert (none.first, none.second, none.difference, none.p) == (None, 0.5, None, None)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # Holm 1979's procedure by hand
    assert holm([None, 0.04, 0.5]) == [None, 0.08, 0.5]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_variance_is_that_of_the_linearised_difference() -> None:
    rng = np.random.default_rng(5)
    b, d = rng.integers(1, 9, 40).astype(float), rng.integers(1, 5, 40).astype(float)
    a, c = rng.binomial(b.astype(int), 0.4) * 1.0, rng.binomial(d.astype(int), 0.6) * 1.0
    parts = np.stack([a, b, c, d])
    first, second = a.sum() / b.sum(), c.sum() / d.sum()
    contribution = (c - second * d) / d.sum() - (a - first * b) / b.sum()
    expected = (second - first) / np.sqrt((contribution**2).sum())
    assert _studentised(_products(parts).sum(axis=1)[None, :])[0] == pytest.approx(expected)


@pytest.mark.slow
def test_a_rate_of_few_against_a_rate_of_many() -> None:
    """Both models correct three in ten, but one fails seldom: p stays uniform, which plain swapping does not give."""
    rng = np.random.default_rng(4)
    found = []
    for seed in range(600):
        wrong = rng.binomial(8, 0.8, size=100), rng.binomial(8, 0.08, size=100)
        fixed = [rng.binomial(count, 0.3) for count in wrong]
        found.append(compare_ratios(fixed[0], wrong[0], fixed[1], wrong[1], bootstrap=10, seed=seed).p)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) < 0.05) < 0.08


@pytest.mark.slow
def test_error_rates_under_a_true_null() -> None:
    """Two runs of one model: 95 % intervals cover zero 93 to 97 times in a hundred, p-values are uniform."""
    rng = np.random.default_rng(3)
    covered, p_means, p_ratios = 0, [], []
    runs = 500
    for seed in range(runs):
        rate = rng.beta(0.8, 0.8, size=120)
        a, b = (
            rng.binomial(64, rate) / 64 for _ in range(2)
        )  # with few samples p is lumpy, and large by as much
        found = compare_means(a, b, bootstrap=500, seed=seed)
        assert found.ci is not None
        covered += found.ci[0] <= 0 <= found.ci[1]
        p_means.append(found.p)
        wrong = [rng.binomial(64, 1 - rate) for _ in range(2)]
        fixed = [rng.binomial(count, 0.3) for count in wrong]
        p_ratios.append(compare_ratios(fixed[0], wrong[0], fixed[1], wrong[1], bootstrap=10, seed=seed).p)
    assert 0.93 <= covered / runs <= 0.97
    assert stats.kstest(p_means, "uniform").pvalue > 0.01
    assert stats.kstest(p_ratios, "uniform").pvalue > 0.01
