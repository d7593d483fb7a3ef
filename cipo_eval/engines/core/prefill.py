"""Prompts through the model: side by side where they are new, and from a kept one on where they continue it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicCache

from cipo_eval.engines.core.kv_cache import KVCache, layers_of
from cipo_eval.engines.core.prefix_cache import Prefix, PrefixCache
from cipo_eval.engines.core.runner import ModelRunner
from cipo_eval.engines.core.scheduler import Scheduler, Waiting

PREFILL_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""Tokens of prompts, padding included, that go through the model at once, by kind of device."""
FEWEST_SHARED = 16
"""Tokens that a prompt must share with a kept one at the least for that one to be used."""


class Prefiller:
    """Gives the first requests of the queue a slot of the prefix cache with their prompt."""

    def __init__(self, runner: ModelRunner, scheduler: Scheduler, prefixes: PrefixCache) -> None:
        self._runner, self._scheduler, self._prefixes = runner, scheduler, prefixes
        self._most_tokens = PREFILL_TOKENS.get(runner.device.type, PREFILL_TOKENS["cpu"])

    def run(self, cache: KVCache) -> None:
        """The prompts of the first that wait, as many as there is room for; a kept prompt is not run again."""
        fresh: list[tuple[int, Prefix]] = []
        samples, longest = 0, 0
        for waiting in self._scheduler.queue:
            if samples >= self._scheduler.free or not self._scheduler.fits(waiting.request):
                break
            samples += len(waiting.numbers)
            if waiting.slot is not None:
                continue
            prompt = list(waiting.request.prompt)
            slot, shared = self._prefixes.nearest(prompt)
            if shared >= FEWEST_SHARED:
                if not self._continue(cache, waiting, prompt, slot, shared):
                    break
                continue
            longest = max(longest, len(prompt))
            if fresh and longest * (len(fresh) + 1) > self._most_tokens:
                break
            place = self._prefixes.reserve()
            if place is None:
                break
            self._prefixes[place] = Prefix(prompt, ready=False, pinned=1)
            waiting.slot = place
            fresh.append((place, self._prefixes[place]))
        if fresh:
            self._side_by_side(cache, fresh)

    def _side_by_side(self, cache: KVCache, fresh: Sequence[tuple[int, Prefix]]) -> None:
        """Prompts filled up on the right: no token sees what comes after it."""
        started = time.perf_counter()
        prefixes = [prefix for _, prefix in fresh]
        lengths = [len(prefix.tokens) for prefix in prefixes]
        ids = torch.zeros(len(prefixes), max(lengths), dtype=torch.long)
        for i, prefix in enumerate(prefixes):
            ids[i, : lengths[i]] = torch.tensor(prefix.tokens)
        computed = DynamicCache()
        ends = sorted({length - 1 for length in lengths})
        hidden = self._runner.prefill(ids.to(self._runner.device), cache=computed)[:, ends]
        layers = layers_of(computed)
        for i, (slot, prefix) in enumerate(fresh):
            prefix.logits = self._runner.logits(hidden[i, ends.index(lengths[i] - 1)]).float()
            cache.put(slot, ((keys[i], values[i]) for keys, values in layers), lengths[i])
        for prefix in prefixes:
            prefix.ready = True
            prefix.seconds = (time.perf_counter() - started) / len(prefixes)

    def _continue(self, cache: KVCache, waiting: Waiting, prompt: list[int], slot: int, shared: int) -> bool:
        """A prompt from a kept one on. False where there is no slot for it."""
        started, prefix = time.perf_counter(), self._prefixes[slot]
        if shared == len(prompt) == len(prefix.tokens) and prefix.logits is not None:
            prefix.pinned += 1
            waiting.slot = slot
            return True
        prefix.pinned += 1  # it must not be the one that makes room
        place = self._prefixes.reserve()
        prefix.pinned -= 1
        if place is None:
            return False
        shared = min(shared, len(prompt) - 1)  # the last token goes through the model: its logits are needed
        computed = cache.view(slot, shared)
        rest = torch.tensor([prompt[shared:]], device=self._runner.device)
        hidden = self._runner.prefill(rest, cache=computed, past=shared)[0, -1]
        layers = layers_of(computed)
        cache.put(place, ((keys[0], values[0]) for keys, values in layers), len(prompt))
        seconds = time.perf_counter() - started
        self._prefixes[place] = Prefix(prompt, self._runner.logits(hidden).float(), pinned=1, seconds=seconds)
        waiting.slot = place
        return True
