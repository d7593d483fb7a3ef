"""Prompts whose keys and values are kept, so that none goes through the model twice.

A prompt that continues a kept one (all samples of a problem, the next turn of a conversation, the same system message)
goes through the model only with what is new. Which tokens are kept in which slot of the ``KVCache`` is known here;
where there is no empty slot, the prefix that was not used for the longest time goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(slots=True, eq=False)
class Prefix:
    """Tokens whose keys and values are in a slot."""

    tokens: list[int]
    logits: torch.Tensor | None = None
    """Scores after the last token, shape (vocab,); None: it was no prompt."""
    ready: bool = True
    """Whether the slot holds them already; False: it is about to."""
    pinned: int = 0
    """Requests that still have samples to begin from it: it must stay."""
    seconds: float = 0.0
    """Time that the model took for it."""


class PrefixCache:
    """Prefixes by slot, the one that was used last at the end."""

    def __init__(self) -> None:
        self._prefixes: dict[int, Prefix] = {}
        self._slots = range(0)

    def __getitem__(self, slot: int) -> Prefix:
        return self._prefixes[slot]

    def __setitem__(self, slot: int, prefix: Prefix) -> None:
        self._prefixes[slot] = prefix

    def clear(self) -> None:
        self._prefixes.clear()

    def use(self, slots: range) -> None:
        """Keeps prefixes in these slots from now on; there are none in it yet."""
        self._slots = slots

    def reserve(self) -> int | None:
        """A slot for another prefix: an empty one, or that of the oldest one which is not pinned; None: all are."""
        for slot in self._slots:
            if slot not in self._prefixes:
                return slot
        oldest = next((slot for slot, prefix in self._prefixes.items() if not prefix.pinned), None)
        if oldest is not None:
            del self._prefixes[oldest]
        return oldest

    def nearest(self, prompt: list[int]) -> tuple[int, int]:
        """The slot whose tokens are the same as a prompt's for longest, from the beginning on, and how many those are;
        (-1, 0): no slot's are."""
        nearest, most = -1, 0
        for slot, prefix in self._prefixes.items():
            common = common_prefix(prefix.tokens, prompt) if prefix.ready else 0
            if common > most:
                nearest, most = slot, common
        if nearest >= 0:
            self._prefixes[nearest] = self._prefixes.pop(nearest)  # used last
        return nearest, most

    def move(self, first: int, count: int) -> dict[int, int]:
        """Keeps prefixes in ``count`` slots from ``first`` on, or in more where more are pinned, the ones that were
        used last. Their new slots by their old ones; ``KVCache.resize`` moves the content."""
        pinned = [slot for slot, prefix in self._prefixes.items() if prefix.pinned]
        others = [slot for slot, prefix in self._prefixes.items() if not prefix.pinned]
        kept = [*others, *pinned][-max(count, len(pinned)) :]
        places = {slot: first + i for i, slot in enumerate(kept)}
        self._prefixes = {places[slot]: self._prefixes[slot] for slot in kept}
        self._slots = range(first, first + count)
        return places


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share from the beginning on."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low
