"""Advantages, by hand and by their identities."""

from __future__ import annotations

import numpy as np
import pytest

from cipo_trainer.advantage import EPS, advantages
from cipo_trainer.config import Reward
from cipo_trainer.reward import overlong


def groups(*values: list[float]) -> list[np.ndarray]:
    return [np.array(v, dtype=np.float64) for v in values]


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    """n - 1: of (1, 0, 0, 0) it is 0.5, not 0.433."""
    (found,) = advantages(groups([1, 0, 0, 0]), "mean", "group_std")
    assert found.tolist() == pytest.approx([0.75 / (0.5 + EPS), *[-0.25 / (0.5 + EPS)] * 3])


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group_std", "batch_std", "none"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_a_group_without_variance_has_advantages_of_exactly_zero(
    baseline: str, scale: str, value: float
) -> None:
    same, other = advantages(groups([value] * 3, [1.0, 0.0, 0.0]), baseline, scale)
    assert same.tolist() == [0.0, 0.0, 0.0]
    assert other[0] > 0 > other[1]


def test_leave_one_out_is_the_mean_baseline_times_n_by_n_minus_1() -> None:
    rewards = groups([1.0, 0.0, 0.3, 0.9], [0.2, 0.7])
    for alone, mean in zip(
        advantages(rewards, "leave_one_out", "none"), advantages(rewards, "mean", "none"), strict=True
    ):
        n = len(alone)
        assert alone.tolist() == pytest.approx((mean * n / (n - 1)).tolist())


def test_nothing_leaks_from_one_group_into_another() -> None:
    """By themselves or beside others, except for the batch's scale, which is one positive number for all."""
    first, second = [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]
    for scale in ("group_std", "none"):
        both = advantages(groups(first, second), "mean", scale)
        alone = [advantages(groups(g), "mean", scale)[0] for g in (first, second)]
        assert [a.tolist() for a in both] == [a.tolist() for a in alone]
    plain = np.concatenate(advantages(groups(first, second), "mean", "none"))
    scaled = np.concatenate(advantages(groups(first, second), "mean", "batch_std"))
    assert np.ptp(scaled / plain) < 1e-12


def test_without_a_baseline_rewards_are_advantages() -> None:
    assert advantages(groups([1.0, 0.0]), "none", "none")[0].tolist() == [1.0, 0.0]
    assert advantages([], "mean", "batch_std") == []
    assert advantages(groups([1.0]), "mean", "group_std")[0].tolist() == [0.0]


def test_overlong_by_hand() -> None:
    """DAPO's: free up to 80 of 100 tokens, then linear, whole at the limit."""
    config = Reward.model_validate({"overlong": {"buffer": 20, "penalty": 1.0}})
    assert [overlong(n, config, 100) for n in (10, 80, 90, 100)] == [0.0, 0.0, 0.5, 1.0]
    assert overlong(100, Reward(), 100) == 0.0
