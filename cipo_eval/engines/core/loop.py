"""The generation core: token ids in, samples with their log-probabilities out. Evaluation and training share it.

The loop ties together what can be read alone: ``request`` (what is asked and given), ``scheduler`` (which samples run),
``kv_cache`` (a slot for each of them) and ``memory`` (how many slots), ``prefix_cache`` and ``prefill`` (prompts, each
through the model once), ``runner`` (the model), ``sampler`` (tokens from scores). A sample that is under way has a slot
of the cache; when it ends, the next one takes its place.

A sample depends on (model, prompt, sampling, seed) and on nothing that shares its batch, except for rounding: sums of
another shape round otherwise, which can turn a draw, or a greedy choice between equal scores.

On a GPU, tokens are drawn for several steps before the host looks at them (``BURST``); a sample that ended in between
loses what was drawn after its end. Left out on purpose: beams, penalties, paged memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from cipo_eval.engines.core.finite import check_finite
from cipo_eval.engines.core.memory import Memory
from cipo_eval.engines.core.models import out_of_memory
from cipo_eval.engines.core.prefill import Prefiller
from cipo_eval.engines.core.prefix_cache import PrefixCache
from cipo_eval.engines.core.request import GenOutput, GenRequest
from cipo_eval.engines.core.row import Row, sampling_groups
from cipo_eval.engines.core.runner import ModelRunner
from cipo_eval.engines.core.sampler import RandomStream, sample_groups
from cipo_eval.engines.core.scheduler import Scheduler, Waiting

MAX_ROWS = {"cpu": 256, "cuda": 1024}
"""Samples under way at the most, by kind of device."""
BURST = {"cpu": 1, "cuda": 16}
"""Steps between two looks of the host at what was drawn, by kind of device."""


class Core:
    """Generates with a decoder-only Hugging Face model. One call of ``run`` at a time."""

    def __init__(
        self,
        model: Any,
        *,
        ends: Iterable[int],
        tokens: int,
        rows: int | None = None,
        burst: int | None = None,
    ) -> None:
        """``ends``: ids of end tokens. ``tokens``: of all slots together, so their number depends on the longest
        sample that is asked for. ``rows``, ``burst``: in place of ``MAX_ROWS`` and ``BURST``. Raises ``ValueError``
        for a model of a family that is not known."""
        self.model, self._ends = model, frozenset(ends)
        self.runner = ModelRunner(model)
        device = model.device.type
        self._burst = burst or BURST.get(device, 1)
        self._scheduler = Scheduler(tokens=tokens, most_rows=rows or MAX_ROWS.get(device, MAX_ROWS["cpu"]))
        self._prefixes = PrefixCache()
        self._prefiller = Prefiller(self.runner, self._scheduler, self._prefixes)
        self._memory = Memory(self.runner, self._scheduler, self._prefixes)

    @property
    def width(self) -> int:
        """Samples that can be under way at once."""
        return self._scheduler.width

    @property
    def prefilled(self) -> int:
        """Tokens of prompts that went through the model, padding included."""
        return self.runner.prefilled

    @property
    def under_way(self) -> tuple[int, int]:
        """Samples under way, and the tokens that they have so far; for any thread to look at."""
        return len(rows := tuple(self._scheduler.rows)), sum(len(row.tokens) for row in rows)

    def update_weights(self, state: dict[str, torch.Tensor]) -> None:
        """New values for the model's parameters, in place. Raises ``RuntimeError`` for names or shapes that differ."""
        self.model.load_state_dict(state)
        self._forget()

    def release(self) -> None:
        """Gives the cache's memory back."""
        self._forget()
        self._memory.give_back()

    @torch.inference_mode()
    def run(self, take: Callable[[bool], Iterable[GenRequest]]) -> Iterator[GenOutput]:
        """Samples as they finish. ``take(wait)`` gives what has come since the last call, with ``wait`` not before
        there is something, and nothing at the end.
        Raises ``torch.OutOfMemoryError`` where not even one sample fits, ``NotFinite`` where scores are no numbers.
        """
        self._forget()
        while True:
            requests = list(take(self._scheduler.idle))
            if not requests and self._scheduler.idle:
                return
            yield from self._scheduler.add(requests)
            try:
                while ready := self._ready():
                    yield from self._begin(ready)
                if self._scheduler.rows:
                    yield from self._step()
            except RuntimeError as error:
                self._retreat(error)

    # --- beginning samples -----------------------------------------------------------------------------------

    def _ready(self) -> list[tuple[Waiting, list[int]]]:
        """The requests, and which of their samples, that can begin now: slots are long enough, prompts are read."""
        queue = self._scheduler.queue
        if not queue or not self._memory.make_room(queue[0].request) or self._scheduler.free <= 0:
            return []
        if queue[0].slot is None:
            self._prefiller.run(self._memory.cache)
        return self._scheduler.ready()

    def _begin(self, ready: Sequence[tuple[Waiting, list[int]]]) -> Iterator[GenOutput]:
        """The first tokens of these samples; those that go on get slots."""
        rows, sources, logits = [], [], []
        for waiting, numbers in ready:
            assert waiting.slot is not None
            request, prefix = waiting.request, self._prefixes[waiting.slot]
            assert prefix.logits is not None
            share, length = prefix.seconds / len(request.seeds), len(prefix.tokens)
            rows += [Row(request, n, RandomStream(request.seeds[n]), length, share) for n in numbers]
            sources += [waiting.slot] * len(numbers)
            logits.append(prefix.logits.expand(len(numbers), -1))
        tokens, logprobs = sample_groups(torch.cat(logits), sampling_groups(rows, 1, self.model.device), 0)
        ended = self._take(rows, tokens[:, None], logprobs[:, None])
        going = [i for i, row in enumerate(rows) if id(row) not in ended]
        slots = range(len(self._scheduler.rows), self.width)
        moves = [(sources[i], slot) for i, slot in zip(going, slots, strict=False)]
        self._memory.cache.copy(moves, max((rows[i].length for i in going), default=0))
        for waiting, numbers in ready:  # not before: what was drawn above may not have fitted into memory
            del waiting.numbers[: len(numbers)]
            if not waiting.numbers and waiting.slot is not None:
                self._prefixes[waiting.slot].pinned -= 1
                self._scheduler.queue.remove(waiting)
        self._scheduler.begin(rows[i] for i in going)
        yield from ended.values()

    # --- steps -----------------------------------------------------------------------------------------------

    def _step(self) -> Iterator[GenOutput]:
        """One more token for every row, on a GPU several; those that end make room."""
        started, rows = time.perf_counter(), self._scheduler.rows
        ended = self._take(rows, *self._draw(self._burst))
        share = (time.perf_counter() - started) / len(rows)
        for slot in range(len(rows) - 1, -1, -1):
            row = rows[slot]
            row.seconds += share
            row.length += row.taken
            if id(row) in ended and row.request.keep:
                self._memory.keep(slot, row)
        moves = self._scheduler.end(ended)
        self._memory.cache.copy(moves, self._scheduler.reach(0))
        yield from ended.values()

    def _draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``count`` more tokens for each row, without a look at them: ids and log-probabilities, shape (rows, count).

        What is drawn after a row's end is for nobody; places stay within its slot."""
        device, cache, rows = self.model.device, self._memory.cache, self._scheduler.rows
        last = torch.tensor([row.tokens[-1] for row in rows], device=device)
        places = torch.tensor([row.length for row in rows], device=device)
        groups = sampling_groups(rows, count, device)
        tokens, logprobs = [], []
        for step in range(count):
            hidden = self.runner.decode(cache, last, places, self._scheduler.reach(step + 1), self.width)
            last, logprob = sample_groups(self.runner.logits(hidden), groups, step)
            tokens.append(last)
            logprobs.append(logprob)
            places = (places + 1).clamp(max=cache.length - 1)
        return torch.stack(tokens, dim=1), torch.stack(logprobs, dim=1)

    def _take(
        self, rows: Sequence[Row], tokens: torch.Tensor, logprobs: torch.Tensor
    ) -> dict[int, GenOutput]:
        """Gives rows what was drawn for them, shape (rows, count) each; the samples that end, by the row's id."""
        ended = {}
        for row, *drawn in zip(rows, tokens.tolist(), logprobs.double().tolist(), strict=True):
            if output := row.take(drawn[0], drawn[1], self._ends):
                ended[id(row)] = output
        check_finite(self.model, rows, logprobs)
        return ended

    def _retreat(self, error: RuntimeError) -> None:
        """Out of memory: everything under way begins anew with half as many slots."""
        if not out_of_memory(error) or self.width <= 1:
            raise error
        self._scheduler.halve()
        self._memory.give_back()

    def _forget(self) -> None:
        self._scheduler.forget()
        self._prefixes.clear()
