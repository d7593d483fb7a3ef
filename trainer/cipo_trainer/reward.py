"""From verdicts to rewards: 1 for a right attempt, 0 for any other, and named shaping on top.

What is measured (accuracy, retention, correction rate) comes from verdicts, never from shaped rewards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cipo_trainer.config import Reward
from cipo_trainer.rollout import Group, Sample

Rewards = list[NDArray[np.float64]]
"""By group, one per sample."""


def rewards(groups: list[Group], config: Reward, max_tokens: int) -> Rewards:
    """Rewards of all samples: one array per group, shape (samples,)."""
    return [np.array([reward(s, config, max_tokens) for s in g.samples], dtype=np.float64) for g in groups]


def reward(sample: Sample, config: Reward, max_tokens: int) -> float:
    """1 for a right attempt, else 0, with the shaping that a configuration asks for."""
    value = float(sample.correct)
    if config.format and sample.verdict.extracted is not None:
        value += config.format
    if config.truncated and sample.finish_reason == "length":
        value += config.truncated
    return value - overlong(len(sample.tokens), config, max_tokens)


def overlong(length: int, config: Reward, max_tokens: int) -> float:
    """DAPO's soft punishment (arXiv:2503.14476, eq. 13): 0 up to the buffer, then linear, whole at the limit."""
    buffer = config.overlong.buffer
    if not buffer:
        return 0.0
    return config.overlong.penalty * min(1.0, max(0.0, (length - (max_tokens - buffer)) / buffer))
