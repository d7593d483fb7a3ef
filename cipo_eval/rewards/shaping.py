"""The shaping that CIPO adds to a reward: what it costs to spoil a right answer. The trainer uses it, too."""

from __future__ import annotations


def risk_penalty(first_right: bool, right: bool, risk: float) -> float:
    """What is taken off the reward of a correction: ``risk`` where it makes a right first attempt wrong, else 0.

    The idea is CIPO's (arXiv:2605.14539); the formula is that of a public re-implementation.
    """
    return risk if first_right and not right else 0.0
