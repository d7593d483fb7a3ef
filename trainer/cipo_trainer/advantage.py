"""From rewards to advantages: of each sample against its group.

The standard deviation is that of a sample (n - 1), as TRL and verl have it; a group without variance has advantages of
exactly 0. ``batch_std`` divides by one number for the whole stream: the standard deviation of the rewards after their
baselines were taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from cipo_eval.errors import UsageError
from cipo_trainer.config import Advantage
from cipo_trainer.joints import imported
from cipo_trainer.reward import Rewards

AdvantageFunction = Callable[[Rewards, str, str], Rewards]
"""Of rewards, ``baseline`` and ``scale``; called once per step and stream. See ``advantages``."""

EPS = 1e-6
"""Added to a standard deviation before it divides."""


def advantages(rewards: Rewards, baseline: str, scale: str) -> Rewards:
    """Advantage of each sample of a stream: one array per group, shape (samples,), as the rewards have it.

    ``baseline`` (mean, leave_one_out, none) is what is taken off a reward, ``scale`` (group_std, batch_std, none) what
    the difference is divided by.
    """
    centred = [_centred(group, baseline) for group in rewards]
    if scale == "none" or not centred:
        return centred
    if scale == "group_std":
        return [a / (_std(r) + EPS) for a, r in zip(centred, rewards, strict=True)]
    everything = np.concatenate(centred)
    # around 0, which the baselines are to give
    spread = float(np.sqrt(np.sum(everything**2) / max(1, len(everything) - 1)))
    return [a / (spread + EPS) for a in centred]


def advantage_function(config: Advantage) -> AdvantageFunction:
    """The function that a configuration asks for: ``advantages``, or the one that ``import`` names.

    Raises ``UsageError`` where there is no such function, and the function of the user's own where what it gives does
    not fit the rewards.
    """
    if config.import_ is None:
        return advantages
    name = config.import_
    function = imported("advantage.import", name, advantages)

    @wraps(function)
    def checked(rewards: Rewards, baseline: str, scale: str) -> Rewards:
        values = [np.asarray(group, dtype=np.float64) for group in function(rewards, baseline, scale)]
        if [group.shape for group in values] != [group.shape for group in rewards]:
            raise UsageError(f"advantage.import: {name} must give one value for each reward, by group")
        return values

    return checked


def _centred(group: np.ndarray, baseline: str) -> np.ndarray:
    if baseline == "none":
        return group.copy()
    if len(group) < 2 or group.max() == group.min():
        return np.zeros_like(group)
    if baseline == "mean":
        return np.asarray(group - group.mean())
    others = (group.sum() - group) / (len(group) - 1)
    return np.asarray(group - others)


def _std(group: np.ndarray) -> float:
    return float(group.std(ddof=1)) if len(group) > 1 and group.max() != group.min() else 0.0
