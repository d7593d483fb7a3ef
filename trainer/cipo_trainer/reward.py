"""From verdicts to rewards: 1 for a right attempt, 0 for any other, and named shaping on top.

What is measured (accuracy, retention, correction rate) comes from verdicts, never from shaped rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_trainer.config import OwnReward, Reward
from cipo_trainer.joints import imported
from cipo_trainer.rollout import Group, Sample

Rewards = list[NDArray[np.float64]]
"""By group, one per sample."""


def own_reward(sample: Sample, anchor: Sample | None) -> float:  # noqa: ARG001  the signature is what counts
    """What a reward of the user's own is like: the value of an attempt, or of a correction of ``anchor``."""
    return 0.0


class OwnRewards:
    """Rewards of the user's own, weighed and added up. Raises ``UsageError`` for a function that is not there.

    Where one raises, or gives something that is no finite number, it adds nothing, which is counted and kept.
    """

    def __init__(self, configs: Sequence[OwnReward] = ()) -> None:
        self.functions = {c.import_: imported("rewards", c.import_, own_reward) for c in configs}
        self._weights = {c.import_: c.weight for c in configs}
        self.failed = 0
        """Values that could not be had."""
        self.why = ""
        """Function, attempt and error of the last of them."""

    def taken(self) -> dict[str, Any]:
        """What could not be had since the last time, by the names of the log; empty without functions."""
        failed, why = self.failed, self.why
        self.failed, self.why = 0, ""
        if not self.functions:
            return {}
        return {"reward_failed": float(failed), **({"reward_why": why} if why else {})}

    def __call__(self, sample: Sample, anchor: Sample | None) -> float:
        total = 0.0
        for name, function in self.functions.items():
            try:
                value = float(function(sample, anchor))
                if not math.isfinite(value):
                    raise ValueError(f"{value} is no reward")
            except Exception as error:  # a program from elsewhere: whatever it does
                self.failed += 1
                self.why = f"{name}, problem {sample.problem.id}: {type(error).__name__}: {error}"[:300]
            else:
                total += self._weights[name] * value
        return total


def rewards(
    groups: Sequence[Group], config: Reward, max_tokens: int, own: OwnRewards | None = None
) -> Rewards:
    """Rewards of all samples: one array per group, shape (samples,)."""
    return [
        np.array(
            [reward(s, config, max_tokens) + (own(s, g.anchor) if own else 0.0) for s in g.samples],
            dtype=np.float64,
        )
        for g in groups
    ]


def reward(sample: Sample, config: Reward, max_tokens: int) -> float:
    """1 for a right attempt, else 0, with the shaping that a configuration asks for."""
    value = config.weight * sample.correct
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
    buffer = buffer * max_tokens if buffer < 1 else buffer
    return config.overlong.penalty * min(1.0, max(0.0, (length - (max_tokens - buffer)) / buffer))
