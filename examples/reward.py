"""Rewards of one's own beside the verdict (docs/add-a-reward.md).

PYTHONPATH=examples cipo-eval train cipo 'rewards=["reward:concise", {import: "reward:changed_its_mind", weight: 0.2}]'
"""

from __future__ import annotations

from cipo_trainer.rollout import Sample

PATIENCE = 256
"""Tokens after which an attempt is worth half as much."""


def concise(sample: Sample, anchor: Sample | None) -> float:  # noqa: ARG001
    """Near 1 for short right attempts; wrong ones get nothing for being short."""
    return sample.correct / (1 + len(sample.tokens) / PATIENCE)


def changed_its_mind(sample: Sample, anchor: Sample | None) -> float:
    """1 for a correction that gives another answer than the wrong attempt that it corrects."""
    if anchor is None or anchor.correct:
        return 0.0
    return float(sample.verdict.canonical != anchor.verdict.canonical)
