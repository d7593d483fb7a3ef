"""From rewards to advantages: of each sample against its group.

The standard deviation is that of a sample (n - 1), as TRL and verl have it; a group without variance has advantages of
exactly 0. ``batch_std`` divides by one number for the whole stream: the standard deviation of the rewards after their
baselines were taken off.
"""

from __future__ import annotations

import numpy as np

from cipo_trainer.config import Advantage
from cipo_trainer.reward import Rewards

EPS = 1e-6
"""Added to a standard deviation before it divides."""


def advantages(rewards: Rewards, baseline: str, scale: str) -> Rewards:
    """By group, one per sample; ``baseline`` and ``scale`` as in ``config.Advantage``."""
    centred = [_centred(group, baseline) for group in rewards]
    if scale == "none" or not centred:
        return centred
    if scale == "group_std":
        return [a / (_std(r) + EPS) for a, r in zip(centred, rewards, strict=True)]
    everything = np.concatenate(centred)
    # around 0, which the baselines are to give
    spread = float(np.sqrt(np.sum(everything**2) / max(1, len(everything) - 1)))
    return [a / (spread + EPS) for a in centred]


def of(rewards: Rewards, config: Advantage) -> Rewards:
    """As a configuration says."""
    return advantages(rewards, config.baseline, config.scale)


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
