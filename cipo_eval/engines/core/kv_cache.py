"""The cache of the generation core: keys and values of many samples, each in a slot of its own.

Which slot is whose is known elsewhere (``scheduler``, ``prefix_cache``); here they are written, copied and read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache


class KVCache(Cache):
    """Keys and values of all layers, shape (slots, heads, length, head size) each. In a decoding step every row adds
    one token at a place of its own."""

    def __init__(self, shapes: Sequence[tuple[torch.Tensor, torch.Tensor]], slots: int, length: int) -> None:
        """``shapes``: per layer, keys and values of any batch: sizes, type and device are taken from them."""
        self.layers: list[Any] = []  # none of transformers' own
        self.length = length
        self.keys = [k.new_zeros(slots, k.shape[1], length, k.shape[3]) for k, _ in shapes]
        self.values = [v.new_zeros(slots, v.shape[1], length, v.shape[3]) for _, v in shapes]
        self._rows = torch.arange(slots, device=self.keys[0].device)
        self._places = self._rows
        self._reach = length

    def resize(self, places: Mapping[int, int], slots: int, length: int) -> None:
        """Another number of slots of another length; ``places``: which of the old ones become which of the new ones.
        One layer after another, so that little more memory is taken than before and after."""
        device, common = self._rows.device, min(length, self.length)
        old, new = (
            torch.tensor(list(side), dtype=torch.long, device=device) for side in (places, places.values())
        )
        for parts in (self.keys, self.values):
            for i, part in enumerate(parts):
                parts[i] = part.new_zeros(slots, part.shape[1], length, part.shape[3])
                parts[i][new, :, :common] = part[old, :, :common]
                del part
        self.length, self._rows = length, torch.arange(slots, device=device)

    def at(self, places: torch.Tensor, reach: int) -> KVCache:
        """This cache for the next step: row i's token goes to place ``places[i]`` of slot i, shape (rows,), and
        attention sees the first ``reach`` places."""
        self._places, self._reach = places, reach
        return self

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each layer of the model: writes a step's keys and values, shape (rows, heads, 1, head size), and
        returns those up to the reach, (rows, heads, reach, head size)."""
        rows = len(self._places)
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self._rows[:rows], :, self._places] = key_states[:, :, 0]
        values[self._rows[:rows], :, self._places] = value_states[:, :, 0]
        return keys[:rows, :, : self._reach], values[:rows, :, : self._reach]

    def put(self, slot: int, layers: Iterable[tuple[torch.Tensor, torch.Tensor]], length: int) -> None:
        """Writes the first ``length`` keys and values of a prompt, by layer of shape (heads, ≥ length, head size)."""
        for keys, values, (k, v) in zip(self.keys, self.values, layers, strict=True):
            keys[slot, :, :length] = k[:, :length]
            values[slot, :, :length] = v[:, :length]

    def copy(self, moves: Sequence[tuple[int, int]], length: int) -> None:
        """Copies the first ``length`` places of slots into others, none of which is copied itself: pairs (from, to)."""
        if not moves:
            return
        source, target = torch.tensor(moves, device=self._rows.device).unbind(1)
        for part in (*self.keys, *self.values):
            part[target, :, :length] = part[source, :, :length]

    def view(self, slot: int, length: int) -> DynamicCache:
        """A copy of a slot's beginning, to go on from, as a cache of one row."""
        beginning = DynamicCache()
        for layer, (k, v) in enumerate(zip(self.keys, self.values, strict=True)):
            beginning.update(k[slot : slot + 1, :, :length], v[slot : slot + 1, :, :length], layer)
        return beginning


def layers_of(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values by layer, shape (batch, heads, length, head size) each."""
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def packed_attention(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_more: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA for one new token per row, shape (rows, heads, 1, head size): the heads that share keys go as several tokens
    of one head, so that keys and values are not repeated for them (transformers before 5.20 does repeat them)."""
    rows, heads, _, size = query.shape
    packed = query.reshape(rows, key.shape[1], -1, size)
    output = torch.nn.functional.scaled_dot_product_attention(
        packed, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(rows, heads, 1, size).transpose(1, 2), None


PACKED = "cipo_packed"
"""The name of ``packed_attention`` among transformers' implementations of attention."""
AttentionInterface.register(PACKED, packed_attention)
