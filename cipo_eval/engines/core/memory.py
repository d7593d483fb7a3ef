"""The cache's slots: made when they are first needed, made longer when a request needs it, given back."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicCache

from cipo_eval.engines.core.kv_cache import KVCache, layers_of
from cipo_eval.engines.core.models import release
from cipo_eval.engines.core.prefix_cache import Prefix, PrefixCache
from cipo_eval.engines.core.request import GenRequest
from cipo_eval.engines.core.row import Row
from cipo_eval.engines.core.runner import ModelRunner
from cipo_eval.engines.core.scheduler import Scheduler


class Memory:
    """Holds the ``KVCache`` with its slots for rows and for kept prompts, as the scheduler plans them."""

    def __init__(self, runner: ModelRunner, scheduler: Scheduler, prefixes: PrefixCache) -> None:
        self._runner, self._scheduler, self._prefixes = runner, scheduler, prefixes
        self._cache: KVCache | None = None

    @property
    def cache(self) -> KVCache:
        """Once there was room for a request."""
        assert self._cache is not None
        return self._cache

    def make_room(self, request: GenRequest) -> bool:
        """Makes slots long enough for a request. False where it has to wait for samples under way."""
        length = self._scheduler.length_for(request)
        if length is None:
            return False
        if length != self._scheduler.slot_length:
            self._resize(length)
        return True

    def keep(self, slot: int, row: Row) -> None:
        """Keeps what a row's slot holds, for a prompt that goes on from it."""
        place = self._prefixes.reserve()
        if place is not None:
            self.cache.copy([(slot, place)], row.length)
            self._prefixes[place] = Prefix([*row.request.prompt, *row.tokens][: row.length])

    def give_back(self) -> None:
        """Drops the slots, whatever is in them, and the graphs that were made for them."""
        if self._runner.graphs:
            self._runner.graphs.clear()
        self._cache, self._scheduler.slot_length = None, 0
        self._prefixes.clear()
        release(self._runner.device)

    def _resize(self, length: int) -> None:
        """Slots of this length, as many as there are tokens for. Rows stay, kept prompts as far as they fit."""
        self._scheduler.plan(length)
        width, prefix_slots = self._scheduler.width, self._scheduler.prefix_slots
        if self._cache is None:
            probe = DynamicCache()
            self._runner.prefill(torch.zeros(1, 1, dtype=torch.long, device=self._runner.device), cache=probe)
            self._cache = KVCache(layers_of(probe), width + prefix_slots, length)
            self._prefixes.use(range(width, width + prefix_slots))
        else:
            if self._runner.graphs:
                self._runner.graphs.clear()
            places = self._prefixes.move(width, prefix_slots)
            rows = {slot: slot for slot in range(len(self._scheduler.rows))}
            self._cache.resize({**rows, **places}, width + max(prefix_slots, len(places)), length)
            for waiting in self._scheduler.queue:
                waiting.slot = places.get(waiting.slot) if waiting.slot is not None else None
        self._scheduler.slot_length = length
