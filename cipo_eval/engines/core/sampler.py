"""Drawing tokens: filters and a random stream for each sample.

A sample's t-th token is drawn by inversion: it is the one at which the cumulative probability, in the order of the
vocabulary, passes the t-th number of the sample's stream (Philox, keyed by its seed). So it does not matter what else
is drawn at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cipo_eval.engines.core.fuse import Fused
from cipo_eval.records import Sampling

BLOCK = 128
"""Numbers that are made at once, and tokens whose probabilities are summed at once."""
CANDIDATES = 256
"""Most probable tokens that are looked at first for ``top_p``."""


class RandomStream:
    """Numbers from [0, 1), the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed))
        self._block: list[float] = []

    def next(self) -> float:
        """The next number."""
        return self.take(1)[0]

    def take(self, count: int) -> list[float]:
        """The next ``count`` numbers."""
        while len(self._block) < count:
            self._block += self._generator.random(BLOCK).tolist()
        taken, self._block = self._block[:count], self._block[count:]
        return taken


def sample_tokens(
    logits: torch.Tensor, sampling: Sampling, numbers: torch.Tensor | Sequence[float] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token for each row of ``logits`` (rows, vocab), and its log-probability in the unfiltered distribution at
    temperature 1; both of shape (rows,). ``numbers``: one per row from [0, 1); none are needed at temperature 0."""
    if sampling.temperature == 0:
        tokens = logits.argmax(dim=-1)
        return tokens, _token_logprobs(logits, tokens)
    if not isinstance(numbers, torch.Tensor):
        numbers = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
    if _filters(sampling):
        scores = filtered(logits.float() / sampling.temperature, sampling)
        tokens, _ = _invert(scores, numbers, 1.0)
        return tokens, _token_logprobs(logits, tokens)
    tokens, total = _invert(logits, numbers, sampling.temperature)
    if sampling.temperature != 1:
        return tokens, _token_logprobs(logits, tokens)
    return tokens, logits.gather(1, tokens[:, None])[:, 0].float() - total


@dataclass(frozen=True, slots=True, eq=False)
class SamplingGroup:
    """Rows that are sampled alike, with the numbers of their streams for some steps."""

    sampling: Sampling
    rows: torch.Tensor | None
    """Indices of the rows, shape (group,); None: all of them."""
    numbers: torch.Tensor | None
    """Numbers from [0, 1), shape (steps, group); None: greedy."""

    @classmethod
    def of(
        cls,
        sampling: Sampling,
        rows: Sequence[int] | None,
        streams: Sequence[RandomStream],
        steps: int,
        device: torch.device,
    ) -> SamplingGroup:
        """The group of these rows, with the next ``steps`` numbers of each one's stream."""
        numbers = None
        if sampling.temperature:
            by_row = [stream.take(steps) for stream in streams]
            numbers = torch.tensor(by_row, dtype=torch.float64).t().to(device)
        return cls(sampling, None if rows is None else torch.tensor(rows, device=device), numbers)


def sample_groups(
    logits: torch.Tensor, groups: Sequence[SamplingGroup], step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token for each row of ``logits`` (rows, vocab), of which each is in one group, and its log-probability as
    ``sample_tokens`` gives it; both of shape (rows,)."""
    parts = [
        sample_tokens(
            logits if group.rows is None else logits[group.rows],
            group.sampling,
            None if group.numbers is None else group.numbers[step],
        )
        for group in groups
    ]
    if len(parts) == 1 and groups[0].rows is None:
        return parts[0]
    tokens = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    logprobs = torch.zeros(len(logits), device=logits.device)
    for group, (group_tokens, group_logprobs) in zip(groups, parts, strict=True):
        tokens[group.rows], logprobs[group.rows] = group_tokens, group_logprobs
    return tokens, logprobs


def _filters(sampling: Sampling) -> bool:
    """Whether any token may be left out."""
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0


def _token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability of each row's token at temperature 1, shape (rows,)."""
    scores = logits.float()
    return scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(dim=-1)


def filtered(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Scores (rows, vocab) after temperature, with -inf for what top_k, top_p and min_p leave out, in that order, as
    transformers does it; of equal scores at an edge all stay."""
    if 0 < sampling.top_k < scores.shape[-1]:
        edge = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < edge, -math.inf)
    if sampling.top_p < 1:
        scores = scores.masked_fill(scores < _nucleus(scores, sampling.top_p), -math.inf)
    if sampling.min_p > 0:
        edge = scores.amax(dim=-1, keepdim=True) + math.log(sampling.min_p)
        scores = scores.masked_fill(scores < edge, -math.inf)
    return scores


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """The least score of the smallest set of most probable tokens with a probability of ``top_p`` together, shape
    (rows, 1): among the first candidates, if they have that much, else among all."""
    total = scores.logsumexp(dim=-1, keepdim=True)
    for count in (min(CANDIDATES, scores.shape[-1]), scores.shape[-1]):
        best = scores.topk(count, dim=-1).values
        probability = (best - total).exp()
        before = probability.cumsum(dim=-1) - probability
        inside = before < top_p
        if count == scores.shape[-1] or not bool(inside[:, -1].any()):
            break
    return best.gather(1, inside.sum(dim=-1, keepdim=True).clamp(min=1) - 1)


def _invert(
    logits: torch.Tensor, numbers: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The token at which the cumulative probability passes each row's number, and the logarithm of what all scores sum
    up to; shape (rows,) each. Sums of blocks first, then within one: the whole vocabulary is not summed up number by
    number."""
    top, sums = _block_sums(logits, temperature)
    upto = sums.double().cumsum(dim=-1)  # (rows, blocks)
    block, left = _passing(upto, numbers * upto[:, -1])
    places = block[:, None] * BLOCK + torch.arange(BLOCK, device=logits.device)
    inside = logits.gather(1, places.clamp(max=logits.shape[-1] - 1)).float() / temperature
    weights = (inside - top).exp().masked_fill(places >= logits.shape[-1], 0.0)
    inner = weights.double().cumsum(dim=-1)
    within, _ = _passing(inner, left * inner[:, -1])
    # only where scores are no numbers it would be beyond the vocabulary
    tokens = (block * BLOCK + within).clamp(max=logits.shape[-1] - 1)
    return tokens, (top[:, 0].double() + upto[:, -1].log()).float()


def _sums(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest score of each row, shape (rows, 1), and sums of exponentials relative to it, (rows, blocks)."""
    scores = logits.float() / temperature
    top = scores.amax(dim=-1, keepdim=True)
    weights = (scores - top).exp()
    if scores.shape[-1] % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, -scores.shape[-1] % BLOCK))
    return top, weights.view(scores.shape[0], -1, BLOCK).sum(dim=-1)


_block_sums = Fused(_sums)


def _passing(upto: torch.Tensor, thresholds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each row of cumulative sums first exceeds its threshold, and which share of that place's own sum is below
    it."""
    at = torch.searchsorted(upto, thresholds[:, None], right=True)
    last = torch.searchsorted(
        upto, upto[:, -1:].contiguous(), right=False
    )  # the last place with a sum of its own
    at = torch.minimum(at, last).clamp(max=upto.shape[-1] - 1)  # searching for no number finds no place
    end = upto.gather(1, at)
    start = torch.where(at > 0, upto.gather(1, (at - 1).clamp(min=0)), 0.0)
    share = ((thresholds[:, None] - start) / (end - start)).clamp(0, 1)
    return at[:, 0], share[:, 0]
