"""The one policy loss: per token, on any partition of a batch; algorithms are its options (``algorithms``).

All tensors are flat over the completion tokens of some sequences, shape (T,), with ``segments`` saying to which
sequence each belongs. What a batch's loss is divided by is in ``weights``, computed over the *whole* batch, so that the
sum over any micro-batches, in any order, is the same loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import wraps
from typing import Protocol

import torch

from cipo_eval.errors import UsageError
from cipo_trainer.config import Loss
from cipo_trainer.joints import imported

OFF_POLICY = ("shaped", "linear")
"""Kinds of the loss whose tokens were sampled under another prompt: what they differ by is no mismatch."""
IMPORTANCE_CAP = 2.0
"""At which importance weights are truncated, where a configuration does not say."""
Counts = dict[str, torch.Tensor]
"""Scalars by name, summed over tokens."""


class LossFunction(Protocol):
    """What computes the loss of each token; see ``policy_loss``."""

    def __call__(
        self,
        logp: torch.Tensor,
        advantages: torch.Tensor,
        segments: torch.Tensor,
        config: Loss,
        /,
        *,
        old: torch.Tensor | None,
        reference: torch.Tensor | None,
        sampled: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Counts]: ...


def loss_function(config: Loss) -> LossFunction:
    """The function that a configuration asks for: ``policy_loss``, or the one that ``import`` names.

    Raises ``UsageError`` where there is no such function, and the function of the user's own where what it gives is
    not a loss for each token.
    """
    if config.import_ is None:
        return policy_loss
    name = config.import_
    function = imported("loss.import", name, policy_loss)

    @wraps(function)
    def checked(logp: torch.Tensor, *where: object, **others: object) -> tuple[torch.Tensor, Counts]:
        loss, counts = function(logp, *where, **others)
        if loss.shape != logp.shape:
            raise UsageError(
                f"loss.import: {name} must give a loss for each token, shape {tuple(logp.shape)}, "
                f"and gives {tuple(loss.shape)}"
            )
        return loss, counts

    return checked


def policy_loss(
    logp: torch.Tensor,
    advantages: torch.Tensor,
    segments: torch.Tensor,
    config: Loss,
    *,
    old: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
    sampled: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Counts]:
    """Loss of each token, shape (T,), and counts of what was clipped (summed over tokens).

    All log-probabilities are of the tokens that were sampled, in nats, shape (T,). ``logp``: the policy's, with
    gradient. ``advantages``: of the token's sequence, shape (T,). ``segments``: which sequence the token belongs to,
    from 0, shape (T,). ``old``: those of the policy that the ratio is taken to; None: this one, the ratio is 1.
    ``reference``: those of the reference model, there where ``beta`` is not 0. ``sampled``: those of the engine that
    sampled, None for rows that were not sampled.

    clip (PPO, arXiv:1707.06347, eq. 7): -min(s·A, clip(s, 1 - low, 1 + high)·A). cispo (arXiv:2506.13585, eq. 4-5):
    -sg(clip(s))·A·log π. reinforce: -A·log π. With ``ratio: sequence`` (GSPO, arXiv:2507.18071, eq. 7) s is the
    geometric mean over the sequence. shaped, linear: -f(s)·A with f of ``shaped``, s the ratio to ``sampled``, or the
    probability itself.
    """
    before = logp.detach() if old is None else old
    log_ratio = logp - before
    if config.ratio == "sequence":
        log_ratio = _segment_mean(log_ratio, segments)[segments]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    if config.kind == "clip":
        loss = -torch.minimum(ratio * advantages, clipped * advantages)
    elif config.kind == "cispo":
        loss = -clipped.detach() * advantages * logp
    elif config.kind in ("shaped", "linear"):
        base = torch.zeros_like(logp) if config.kind == "linear" or sampled is None else sampled
        loss = -shaped(logp - base, config.gamma) * advantages
    else:
        loss = -advantages * logp
    counts: Counts = {}
    if config.importance != "none" and sampled is not None and config.kind not in OFF_POLICY:
        weight, left_out = importance(before - sampled, segments, config)
        loss = loss * weight
        counts["importance_masked"] = left_out
    with torch.no_grad():
        counts |= {
            "clip_low": ((ratio < 1 - config.clip_low) & (advantages < 0)).sum(),
            "clip_high": ((ratio > 1 + config.clip_high) & (advantages > 0)).sum(),
        }
    if config.beta and reference is not None:
        divergence = kl(logp, reference, config.kl)
        loss = loss + config.beta * divergence
        counts["kl"] = divergence.detach().sum()
    return loss, counts


def shaped(log_value: torch.Tensor, gamma: float) -> torch.Tensor:
    """f(x) = x / (x + γ) of x = exp(``log_value``), for tokens that another prompt's distribution drew: of the ratio to
    that distribution (LTE, arXiv:2510.26109), or of the probability itself (Critique-GRPO, arXiv:2506.03106; there
    γ = 0.1). Its gradient is largest where x = γ, and the ratio is never clipped."""
    return torch.sigmoid(log_value - math.log(gamma))


@torch.no_grad()
def importance(
    log_ratio: torch.Tensor, segments: torch.Tensor, config: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of each token for the difference between the policy that samples and the one that is trained, and how many
    tokens have none. ``log_ratio``: log-probability here less that of the engine, shape (T,).

    Of a sequence it is the product of its tokens' ratios. Truncated at ``importance_cap`` (truncated importance
    sampling), or 0 outside ``importance_range`` (masked importance sampling).
    """
    if config.importance == "sequence":
        count = int(segments[-1]) + 1 if len(segments) else 0
        log_ratio = log_ratio.new_zeros(count).index_add(0, segments, log_ratio)[segments]
    ratio = log_ratio.exp()
    if config.importance_range is None:
        return ratio.clamp(max=config.importance_cap or IMPORTANCE_CAP), ratio.new_zeros(())
    low, high = config.importance_range
    outside = (ratio < low) | (ratio > high)
    return ratio.masked_fill(outside, 0.0), outside.sum()


def kl(logp: torch.Tensor, reference: torch.Tensor, estimator: str) -> torch.Tensor:
    """Estimate of KL(policy ‖ reference) at each token drawn from the policy (Schulman 2020, "Approximating KL
    divergence"): k1 = log(π/π_ref), unbiased; k2 = its square by 2; k3 = π_ref/π - 1 - log(π_ref/π), unbiased, ≥ 0."""
    difference = reference - logp
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference**2 / 2
    return difference.exp() - 1 - difference


def divergence(logp: torch.Tensor, reference: torch.Tensor, alpha: float, *, whole: bool) -> torch.Tensor:
    """Divergence at each token of two distributions over the same tokens, log-probabilities in nats, shape (T, count):
    ``loss.alpha`` says which. What all other tokens have counts as one more, unless these are the ``whole``
    vocabulary."""
    if not whole:
        logp, reference = (torch.cat([x, _others(x)], dim=-1) for x in (logp, reference))
    if alpha in (0, 1):
        first, second = (logp, reference) if alpha else (reference, logp)
        return (first.exp() * (first - second)).sum(-1)
    shares = torch.tensor([1 - alpha, alpha], dtype=logp.dtype, device=logp.device).log()
    mix = torch.logaddexp(logp + shares[0], reference + shares[1])
    ours = (logp.exp() * (logp - mix)).sum(-1)
    theirs = (reference.exp() * (reference - mix)).sum(-1)
    return (1 - alpha) * ours + alpha * theirs


def _others(logp: torch.Tensor) -> torch.Tensor:
    """Log-probability of all tokens that are not among these, shape (T, 1)."""
    total = logp.logsumexp(-1, keepdim=True).clamp(max=-1e-6)  # rounding may make it 1
    return torch.log(-torch.expm1(total))


def weights(lengths: Sequence[int], config: Loss, max_tokens: int, scale: float = 1.0) -> list[float]:
    """Weight of each of a sequence's tokens in the loss of a batch of such sequences, all of which count, those with an
    advantage of 0 too. ``scale``: of the whole batch (λ)."""
    count = max(1, len(lengths))
    if config.aggregate == "token_mean":
        return [scale / max(1, sum(lengths))] * len(lengths)
    if config.aggregate == "sequence_mean":
        return [scale / (max(1, n) * count) for n in lengths]
    return [scale / ((config.constant or max_tokens) * count)] * len(lengths)


def share(part: Sequence[int], whole: Sequence[int], config: Loss) -> float:
    """Weight with which some of a batch's sequences, as a batch of their own, count as they would in the whole one.
    ``part`` and ``whole``: lengths of sequences in tokens."""
    if config.aggregate == "token_mean":
        return sum(part) / max(1, sum(whole))
    return len(part) / max(1, len(whole))


def _segment_mean(values: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    count = int(segments[-1]) + 1 if len(segments) else 0
    sums = values.new_zeros(count).index_add(0, segments, values)
    sizes = values.new_zeros(count).index_add(0, segments, torch.ones_like(values))
    return sums / sizes
