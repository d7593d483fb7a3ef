"""What the generation core is asked for and what it gives: token ids in, token ids with log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cipo_eval.records import FinishReason, Sampling

Cut = Callable[[Sequence[int]], tuple[int, Any] | None]
"""Decides from a sample's tokens whether it ends: how many of them stay, with the caller's note on that; None: it goes
on."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GenRequest:
    """A prompt, and the samples that are wanted of it."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    seeds: Sequence[int]
    """One per sample."""
    sampling: Sampling
    """Its decoding fields; ``max_tokens`` and ``stop`` have no effect here (``max_new``, ``cut``)."""
    max_new: int
    """Most new tokens; below 1: its samples are empty ones that ended by ``LENGTH``."""
    cut: Cut | None = None
    """Called with a sample's tokens after each one; None: only end tokens and ``max_new`` end a sample."""
    keep: bool = False
    """Whether a prompt may follow that goes on from a sample: its keys and values are kept then."""
    first: bool = False
    """Before requests that wait: it follows from a sample, whose keys and values may still be there."""
    tag: Any = None
    """The caller's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenOutput:
    """A finished sample."""

    request: GenRequest
    number: int
    """Position of its seed in ``request.seeds``."""
    tokens: tuple[int, ...]
    """Token ids, the end token included."""
    logprobs: tuple[float, ...]
    """Natural logarithms of the tokens' probabilities in the model's own distribution (temperature 1, no filter)."""
    finish_reason: FinishReason
    """``STOP`` or ``LENGTH``."""
    seconds: float
    """Time that the model took for it; samples that ran together share it evenly."""
    note: Any = None
    """The note of ``request.cut``."""


def empty_outputs(request: GenRequest) -> Iterator[GenOutput]:
    """The samples of a request that has no room for a token."""
    for number in range(len(request.seeds)):
        yield GenOutput(
            request=request,
            number=number,
            tokens=(),
            logprobs=(),
            finish_reason=FinishReason.LENGTH,
            seconds=0.0,
        )
