"""Advantages of one's own: each attempt against the whole stream (REINFORCE++, arXiv:2501.03262, without its KL).

    PYTHONPATH=examples cipo-eval train grpo advantage.import=advantage:against_the_batch

Other than against its own group, an attempt at a hard problem gains more than one at an easy problem, and a problem
that is always solved still teaches.
"""

from __future__ import annotations

import numpy as np

from cipo_trainer.reward import Rewards


def against_the_batch(rewards: Rewards, _baseline: str, scale: str) -> Rewards:
    """One array per group, shape (samples,), as ``cipo_trainer.advantage.advantages`` has it: the baseline is always
    the mean of the stream, and ``scale: none`` leaves its spread."""
    if not rewards:
        return []
    everything = np.concatenate(rewards)
    spread = 1.0 if scale == "none" else float(everything.std()) + 1e-6
    return [(group - everything.mean()) / spread for group in rewards]
