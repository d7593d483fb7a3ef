"""The interval of a ratio of means: what it must contain, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cipo_eval.metrics.fieller import ratio_of_means


def test_by_hand() -> None:
    ratio = ratio_of_means([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    assert ratio.value == pytest.approx(0.5)
    assert ratio.ci is not None
    low, high = stats.t.interval(0.95, 2, loc=2.0, scale=1 / np.sqrt(3))  # the bottom does not vary
    assert ratio.ci == pytest.approx((low / 4, high / 4))


def test_both_directions_and_scales_agree() -> None:
    """The interval of 1/θ is that of θ turned over; of cθ, c times it."""
    top, bottom = [0.3, 0.5, 0.4, 0.45], [0.8, 1.1, 0.9, 1.0]
    one, other = ratio_of_means(top, bottom), ratio_of_means(bottom, top)
    assert one.ci is not None
    assert other.ci is not None
    assert other.ci == pytest.approx((1 / one.ci[1], 1 / one.ci[0]))
    tenfold = ratio_of_means([10 * x for x in top], bottom)
    assert tenfold.ci == pytest.approx((10 * one.ci[0], 10 * one.ci[1]))
    assert one.ci[0] < (one.value or 0) < one.ci[1]


@pytest.mark.parametrize(
    ("top", "bottom"),
    [
        ([0.1, 0.2], [0.3, -0.2]),
        ([1.0, 2.0, 3.0], [0.5, -0.4, 0.1]),
        ([1.0], [2.0]),
        ([1.0, 1.0], [1.0, -1.0]),
    ],
)
def test_there_is_none_where_the_bottom_may_be_0(top: list[float], bottom: list[float]) -> None:
    assert ratio_of_means(top, bottom).ci is None


def test_without_a_bottom_there_is_no_value() -> None:
    assert ratio_of_means([1.0, 2.0], [0.0, 0.0]).value is None
    with pytest.raises(ValueError, match="as many"):
        ratio_of_means([1.0], [1.0, 2.0])


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_it_contains_the_truth_as_often_as_it_says(correlation: float) -> None:
    """Of five seeds, 19 in 20; unbounded ones contain it, too."""
    rng = np.random.default_rng(0)
    cov = [[0.04, correlation * 0.2 * 0.1], [correlation * 0.2 * 0.1, 0.01]]
    draws = rng.multivariate_normal([0.5, 1.0], cov, size=(2000, 5))
    inside = 0
    for pairs in draws:
        ci = ratio_of_means(pairs[:, 0], pairs[:, 1]).ci
        inside += ci is None or ci[0] <= 0.5 <= ci[1]
    assert 0.935 <= inside / len(draws) <= 0.965
