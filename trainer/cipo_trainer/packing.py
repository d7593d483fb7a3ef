"""Sequences to micro-batches, and their completions' log-probabilities, a chunk of logits at a time.

Two layouts that give the same: ``packed`` puts sequences end to end, each seeing itself only, without padding
(FlashAttention on GPUs, through torch); ``padded`` puts sequences of like length side by side, filled up on the right,
where under causal attention nobody sees it. Prompt tokens never reach the output layer, and never more than ``chunk``
tokens' logits exist at once: they are computed again in the backward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from cipo_trainer.head import logprobs_at, token_logprobs, top_ids

VARLEN = "cipo_varlen"
"""The name by which transformers knows ``varlen_attention``."""
PASS_WORTH = 1024
"""Tokens that a pass through the model must have to be worth its overhead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSequence:
    """What is trained on: a completion after its prompt, as token ids."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    """Of the completion, its end included; at least one."""
    advantage: float
    """Advantage of the whole completion."""
    sampled: Sequence[float] | None = None
    """Log-probability of each of the tokens when it was sampled, in nats; None for rows that were not."""
    reference: Sequence[int] | None = None
    """The prompt under which the reference model sees the completion; None: the same."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Micro:
    """Sequences that go through the model together. T: their completion tokens, one sequence after another."""

    items: tuple[int, ...]
    """Positions of the sequences in the list that the batch was made of."""
    ids: torch.Tensor
    """Token ids, shape (rows, width)."""
    where: torch.Tensor
    """Shape (T,): flat positions in ``ids`` whose output predicts the token."""
    targets: torch.Tensor
    """The completion tokens themselves, shape (T,)."""
    segments: torch.Tensor
    """Shape (T,): to which of ``items`` each belongs, from 0."""
    bounds: torch.Tensor | None
    """packed: shape (sequences + 1,), int32, where sequences begin and end."""
    longest: int
    """Tokens of the longest sequence."""
    positions: torch.Tensor | None
    """packed: shape (1, width), within each sequence."""


def plan(items: Sequence[TrainSequence], most: int, *, packed: bool) -> list[list[int]]:
    """Which sequences go through the model together, as lists of positions, the longest sequence first.

    At most ``most`` tokens at a time, padding included, or one sequence.
    """
    order = sorted(range(len(items)), key=lambda i: (-len(items[i]), i))
    bins: list[list[int]] = []
    room = width = 0
    for i in order:
        size = len(items[i])
        # padded: much shorter ones begin a batch of their own, once one is worth it
        wasteful = not packed and bins and 3 * size < 2 * width and len(bins[-1]) * width >= PASS_WORTH
        if not bins or size > room or wasteful:
            bins.append([])
            width, room = size, most
        bins[-1].append(i)
        room -= size
        if not packed:  # each row takes as much as the first of its batch
            room = most - len(bins[-1]) * width
            room = room if room >= width else 0
    return bins


def micro(
    items: Sequence[TrainSequence], chosen: Sequence[int], device: torch.device, *, packed: bool
) -> Micro:
    """The sequences at the ``chosen`` positions as one micro-batch on a device."""
    rows = [[*items[i].prompt, *items[i].tokens] for i in chosen]
    lengths = [len(row) for row in rows]
    width = max(lengths)
    positions: torch.Tensor | None = None
    bounds: torch.Tensor | None = None
    if packed:
        starts = [sum(lengths[:k]) for k in range(len(rows) + 1)]
        ids = torch.tensor([token for row in rows for token in row])[None]
        positions = torch.cat([torch.arange(n) for n in lengths])[None].to(device)
        bounds = torch.tensor(starts, dtype=torch.int32).to(device)
    else:
        starts = [k * width for k in range(len(rows))]
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
    counts = [len(items[i].tokens) for i in chosen]
    where = torch.cat(
        [
            torch.arange(n) + start + length - n - 1
            for n, start, length in zip(counts, starts, lengths, strict=False)
        ]
    )
    return Micro(
        items=tuple(chosen),
        ids=ids.to(device),
        where=where.to(device),
        targets=torch.tensor([t for i in chosen for t in items[i].tokens]).to(device),
        segments=torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(counts)).to(device),
        bounds=bounds,
        longest=width,
        positions=positions,
    )


def logprobs(model: Any, batch: Micro, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token and the entropy where it was drawn (nats, float32 or wider, shape (T,)
    each); the entropy has no gradient."""
    return token_logprobs(model, _hidden(model, batch), batch.targets, chunk)


def top_logprobs(
    model: Any, batch: Micro, chunk: int, count: int
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
    """What ``logprobs`` gives, the ``count`` most likely tokens in place of each, and their log-probabilities, shape
    (T, count) each."""
    hidden = _hidden(model, batch)
    ids = top_ids(model, hidden, count, chunk)
    scores = token_logprobs(model, hidden, batch.targets, chunk)
    return scores, ids, logprobs_at(model, hidden, ids, chunk)


def given_logprobs(model: Any, batch: Micro, chunk: int, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of these tokens in place of each, shape (T, count)."""
    return logprobs_at(model, _hidden(model, batch), ids, chunk)


def _hidden(model: Any, batch: Micro) -> torch.Tensor:
    """What the output layer gets for each completion token, shape (T, width)."""
    hidden: torch.Tensor = _decoder(model)(
        input_ids=batch.ids,
        use_cache=False,
        **({} if batch.bounds is None else _packed_arguments(batch)),
    ).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])[batch.where]


def _decoder(model: Any) -> Any:
    """The model without its output layer."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder()


# --- attention within packed sequences -----------------------------------------------------------------------


def can_pack(model: Any) -> bool:
    """Whether its attention is one that ``packed`` knows: causal, without soft caps on scores."""
    config = model.config.get_text_config()
    return getattr(config, "attn_logit_softcapping", None) is None


class Packed:
    """While active, attention goes by sequence bounds. Its ``model`` may be one with adapters."""

    def __init__(self, model: Any, *, active: bool) -> None:
        self._config, self._active = model.config, active

    def __enter__(self) -> None:
        self._usual = self._config._attn_implementation
        if self._active:
            self._config._attn_implementation = VARLEN

    def __exit__(self, *error: object) -> None:
        self._config._attn_implementation = self._usual


def _packed_arguments(batch: Micro) -> dict[str, Any]:
    return {
        "position_ids": batch.positions,
        "cu_seq_lens_q": batch.bounds,
        "cu_seq_lens_k": batch.bounds,
        "max_length_q": batch.longest,
        "max_length_k": batch.longest,
    }


def varlen_attention(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  bounds say it
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **_more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within sequences that lie end to end: shape (1, heads, width, head size)."""
    assert cu_seq_lens_q is not None
    repeats = query.shape[1] // key.shape[1]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
        more: dict[str, Any] = {}
        if repeats > 1 and "enable_gqa" in inspect.signature(varlen_attn).parameters:
            more["enable_gqa"] = True
        elif repeats > 1:
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        window = (-1 if sliding_window is None else sliding_window - 1, 0)
        attended: Any = varlen_attn(
            q,
            k,
            v,
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=window,
            **more,
        )
        return attended[None], None
    parts = []
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        q, k, v = (part[:, :, start:end] for part in (query, key, value))
        mask = None
        if sliding_window is not None and end - start > sliding_window:
            at = torch.arange(end - start, device=query.device)
            mask = (at <= at[:, None]) & (at > at[:, None] - sliding_window)
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=repeats > 1
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, lambda *_, **__: None)
