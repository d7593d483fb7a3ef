"""Rewards for other trainers (TRL, verl, …): the harness's verdicts in their signatures (docs/rewards.md).

Needs neither torch nor transformers. Every completion is judged in the pool of killable worker processes, so that no
reward uses signals, hangs, or runs a program outside of the sandbox.
"""

from cipo_eval.rewards.functions import code_reward, correction_reward, math_reward
from cipo_eval.rewards.golds import read_tests, reference_answer
from cipo_eval.rewards.shaping import risk_penalty
from cipo_eval.rewards.verl import compute_score

__all__ = [
    "code_reward",
    "compute_score",
    "correction_reward",
    "math_reward",
    "read_tests",
    "reference_answer",
    "risk_penalty",
]
