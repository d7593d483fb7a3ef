"""A loss of one's own: PPO's clipped ratio with a second bound (dual clip, arXiv:1912.09729, eq. 5).

    PYTHONPATH=examples cipo-eval train dapo loss.import=loss:dual_clip loss.options.bound=3

Without it a token that the policy now takes much more often than it did (a ratio of 100), and that turned out bad, has
an unbounded loss.
"""

from __future__ import annotations

import torch

from cipo_trainer.config import Loss


def dual_clip(
    logp: torch.Tensor,
    advantages: torch.Tensor,
    segments: torch.Tensor,  # noqa: ARG001  which sequence a token is of does not matter here
    config: Loss,
    *,
    old: torch.Tensor | None = None,
    **_others: torch.Tensor | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss of each token, shape (T,), as ``cipo_trainer.loss.policy_loss`` has it; without a KL term."""
    ratio = (logp - (logp.detach() if old is None else old)).exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    bound = float(config.options.get("bound", 3.0)) * advantages
    bounded = torch.where(advantages < 0, torch.maximum(gain, bound), gain)
    return -bounded, {"bounded": (bounded > gain).sum()}
