"""What is asked of the generation core, what it gives, and what it remembers in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cipo_eval.engines.core.sampler import Stream
from cipo_eval.records import Sampling


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ask:
    """A prompt, and the samples that are wanted of it."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    seeds: Sequence[int]
    """One per sample."""
    sampling: Sampling
    """Of its fields the decoding ones; ``stop`` is the caller's (``cut``)."""
    max_new: int
    """Most new tokens; below 1: its samples are empty ones that ended by ``length``."""
    cut: Callable[[Sequence[int]], tuple[int, Any] | None] | None = None
    """Called with a sample's tokens after each one: where it is to end, how many of them stay, and the caller's note on
    that; None: it goes on."""
    keep: bool = False
    """A prompt may follow that goes on from what was said."""
    first: bool = False
    """Before others that wait: it follows from what was done, and its beginning may still be there."""
    tag: Any = None
    """The caller's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A finished sample."""

    ask: Ask
    number: int
    """Position of its seed in ``ask.seeds``."""
    tokens: tuple[int, ...]
    """The end token included."""
    logprobs: tuple[float, ...]
    """Natural logarithms of the tokens' probabilities in the model's own distribution (temperature 1, no filter)."""
    reason: str
    """``stop`` or ``length``."""
    seconds: float
    """Of the time that the model took; what ran together shares it evenly."""
    note: Any = None
    """Of ``ask.cut``."""


@dataclass(slots=True, eq=False)
class Prefix:
    """Tokens whose keys and values are kept in a slot of the bench."""

    tokens: list[int]
    logits: torch.Tensor | None = None
    """After the last token, shape (vocab,); None: it was no prompt."""
    ready: bool = True
    """The slot holds them; False: it is about to."""
    pinned: int = 0
    """Asks that still have samples to begin from it."""
    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class Waiting:
    """An ask with samples that have not begun."""

    ask: Ask
    numbers: list[int]
    """Of those samples."""
    slot: int | None = None
    """Of the bench, once its prompt went through the model."""


@dataclass(slots=True, eq=False)
class Row:
    """A sample under way. Row i is in slot i."""

    ask: Ask
    number: int
    stream: Stream
    length: int
    """Tokens in the slot."""
    seconds: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    fed: int = 0
    """Tokens of the last step that count."""


@dataclass(slots=True, eq=False)
class Group:
    """Rows that are sampled alike."""

    sampling: Sampling
    rows: torch.Tensor | None
    """Which; None: all."""
    numbers: torch.Tensor | None
    """From [0, 1), shape (steps, rows); None: greedy."""

    def at(self, step: int) -> torch.Tensor | None:
        return None if self.numbers is None else self.numbers[step]


def empty_samples(ask: Ask) -> Iterator[Sample]:
    """Those of an ask that has no room for a token."""
    for number in range(len(ask.seeds)):
        yield Sample(ask=ask, number=number, tokens=(), logprobs=(), reason="length", seconds=0.0)


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share from the beginning on."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low
