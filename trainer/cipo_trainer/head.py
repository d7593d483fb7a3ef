"""Log-probabilities of tokens from a decoder's output, without ever holding more than a chunk of logits.

Logits of a chunk are computed, reduced to three numbers per token, and dropped; the backward pass computes them again.
"""

from __future__ import annotations

from typing import Any

import torch

from cipo_eval.engines.core.fuse import Fused
from cipo_eval.engines.core.models import head_logits


def token_logprobs(
    model: Any, hidden: torch.Tensor, targets: torch.Tensor, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target and the entropy where it was drawn (nats, float32 or wider, shape (T,) each), for
    ``hidden`` of shape (T, width); the entropy has no gradient."""
    head = model.get_output_embeddings()
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if type(head) is torch.nn.Linear and head.bias is None and not capped:
        logprobs, entropy = _TokenLogprobs.apply(hidden, head.weight, targets, chunk)
        return logprobs, entropy
    pairs = zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    parts = [_kept_apart(model, *pair) for pair in pairs]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def top_ids(model: Any, hidden: torch.Tensor, count: int, chunk: int) -> torch.Tensor:
    """The most likely tokens after each of ``hidden``, at most ``count``, shape (T, count)."""
    with torch.no_grad():
        parts = [head_logits(model, part) for part in torch.split(hidden.detach(), chunk)]
        return torch.cat([part.topk(min(count, part.shape[-1])).indices for part in parts])


def logprobs_at(model: Any, hidden: torch.Tensor, ids: torch.Tensor, chunk: int) -> torch.Tensor:
    """Log-probabilities of ``ids``, shape (T, count), after each of ``hidden``, shape (T, width): nats, float32 or
    wider. The backward pass computes a chunk's logits again."""

    def compute(part: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return _wide(head_logits(model, part)).log_softmax(-1).gather(1, wanted)

    pairs = zip(torch.split(hidden, chunk), torch.split(ids, chunk), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([compute(*pair) for pair in pairs])
    again = torch.utils.checkpoint.checkpoint
    return torch.cat([again(compute, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs])


def _kept_apart(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> Any:
    """Any other output layer: autograd's way, with logits that are computed again."""

    def compute(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, _, entropy = _reduce(head_logits(model, part), targets)
        return logprobs, entropy.detach()

    if not torch.is_grad_enabled():
        return compute(hidden)
    return torch.utils.checkpoint.checkpoint(compute, hidden, use_reentrant=False, preserve_rng_state=False)


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _reduce(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of logits (T, vocab): log-probability of the targets, logarithm of the sum of exponentials, entropy."""
    scores = _wide(logits)
    top = scores.amax(dim=-1, keepdim=True)
    weights = (scores - top).exp()
    total = weights.sum(dim=-1)
    log_total = top[:, 0] + total.log()
    entropy = log_total - (weights * scores).sum(dim=-1) / total
    return scores.gather(1, targets[:, None])[:, 0] - log_total, log_total, entropy


def _slope(
    logits: torch.Tensor, targets: torch.Tensor, log_total: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Gradient of Σ weight · log-probability by the logits: weight · (one-hot - softmax)."""
    scores = _wide(logits)
    one_hot = torch.arange(scores.shape[-1], device=scores.device) == targets[:, None]
    slope = (one_hot.to(scores.dtype) - (scores - log_total[:, None]).exp()) * weight[:, None]
    return slope.to(logits.dtype)


_fused_reduce, _fused_slope = Fused(_reduce), Fused(_slope)


class _TokenLogprobs(torch.autograd.Function):
    """For an output layer that is one matrix, shape (vocab, width)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [
            _fused_reduce(part @ weight.t(), part_targets)
            for part, part_targets in zip(
                torch.split(hidden, chunk), torch.split(targets, chunk), strict=True
            )
        ]
        logprobs, total, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, targets, total)
        ctx.chunk = chunk
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> Any:
        hidden, weight, targets, total = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden)
        by_weight = None
        if ctx.needs_input_grad[1]:  # summed up over chunks in float32
            wide = torch.float32 if weight.dtype in (torch.bfloat16, torch.float16) else weight.dtype
            by_weight = torch.zeros_like(weight, dtype=wide)
        for start in range(0, len(hidden), ctx.chunk):
            at = slice(start, start + ctx.chunk)
            slope = _fused_slope(hidden[at] @ weight.t(), targets[at], total[at], gradient[at])
            by_hidden[at] = slope @ weight
            if by_weight is not None:
                by_weight += slope.t() @ hidden[at]
        return by_hidden, None if by_weight is None else by_weight.to(weight.dtype), None, None
