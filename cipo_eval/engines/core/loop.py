"""The generation core: token ids in, samples with their log-probabilities out. Evaluation and training share it.

Read it top-down: what is asked and given, the cache of slots, the prompts that are kept, the loop. Each sample that is
under way has a slot of the cache; when it ends, the next one takes its place. A prompt goes through the model once,
however many samples it gets; prompts that continue a kept one (the next turn of a conversation) only with what is new.

A sample depends on (model, prompt, sampling, seed) and on nothing that shares its batch, except for rounding: sums of
another shape round otherwise, which can turn a draw, or a greedy choice between equal scores.

On a GPU, tokens are drawn for several steps before the host looks at them (``BURST``), and a step's decoder is a CUDA
graph; a sample that ended in between loses what was drawn after its end.

Left out on purpose: beams, penalties, paged memory.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from cipo_eval.engines.core.finite import check_finite
from cipo_eval.engines.core.graphs import Graphs
from cipo_eval.engines.core.kv_cache import PACKED, Slots, layers_of
from cipo_eval.engines.core.models import Masks, head_logits, out_of_memory, release, supported
from cipo_eval.engines.core.request import Ask, Group, Prefix, Row, Sample, Waiting, empty_samples, shared
from cipo_eval.engines.core.sampler import Stream, draw

MAX_ROWS = {"cpu": 256, "cuda": 1024}
PREFILL_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""Tokens of prompts, padding included, that go through the model at once."""
BURST = {"cpu": 1, "cuda": 16}
"""Steps between two looks of the host at what was drawn."""
STEP = 64
"""Lengths of cache and attention are multiples of it."""
FEWEST_SHARED = 16
"""Tokens that a prompt must share with a kept one at the least for that one to be used."""


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
        sample that is asked for. ``burst``: as ``BURST``. Raises ``ValueError`` for a model of another family."""
        if not supported(model):
            raise ValueError(f"attention of {model.config.model_type} models is not known here")
        self.model, self._ends = model, frozenset(ends)
        device = model.device.type
        self._tokens, self._most_rows = tokens, rows or MAX_ROWS.get(device, MAX_ROWS["cpu"])
        self._burst = burst or BURST.get(device, 1)
        self._most_prefilled = PREFILL_TOKENS.get(device, PREFILL_TOKENS["cpu"])
        self._graphs = Graphs() if device == "cuda" else None
        self._decoder = model.get_decoder()
        parameters = inspect.signature(self._decoder.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._masks = Masks(model)
        self._slots: Slots | None = None
        self._rows: list[Row] = []
        self._bench: dict[int, Prefix] = {}
        """By slot, the one that was used last at the end."""
        self._queue: list[Waiting] = []
        self.width = 0
        """Samples that can be under way at once."""
        self.prefilled = 0
        """Tokens of prompts that went through the model, padding included."""

    def update_weights(self, state: dict[str, torch.Tensor]) -> None:
        """New values for the model's parameters, in place. Raises ``RuntimeError`` for names or shapes that differ."""
        self.model.load_state_dict(state)
        self._forget()

    @property
    def under_way(self) -> tuple[int, int]:
        """Samples under way, and the tokens that they have so far; for any thread to look at."""
        return len(rows := tuple(self._rows)), sum(len(row.tokens) for row in rows)

    def release(self) -> None:
        """Gives the cache's memory back."""
        self._forget()
        self._drop()
        release(self.model.device)

    @torch.inference_mode()
    def run(self, take: Callable[[bool], Iterable[Ask]]) -> Iterator[Sample]:
        """Samples as they finish. ``take(wait)`` gives what has come since the last call, with ``wait`` not before
        there is something, and nothing at the end.
        Raises ``torch.OutOfMemoryError`` where not even one sample fits, ``NotFinite`` where scores are no numbers.
        """
        self._forget()
        while True:
            new = list(take(not self._queue and not self._rows))
            if not new and not self._queue and not self._rows:
                return
            yield from (empty for ask in new if ask.max_new <= 0 for empty in empty_samples(ask))
            # the longest begin first, so that not one of them is left alone at the end
            waiting = [Waiting(a, list(range(len(a.seeds)))) for a in sorted(new, key=lambda a: -a.max_new)]
            self._queue[:0] = [w for w in waiting if w.ask.first and w.ask.max_new > 0]
            self._queue += [w for w in waiting if not w.ask.first and w.ask.max_new > 0]
            try:
                yield from self._admit()
                if self._rows:
                    yield from self._step()
            except RuntimeError as error:
                self._retreat(error)

    # --- the queue -------------------------------------------------------------------------------------------

    def _admit(self) -> Iterator[Sample]:
        """Begins samples while there is room."""
        while ready := self._ready():
            yield from self._begin(ready)

    def _ready(self) -> list[tuple[Waiting, list[int]]]:
        """The first that wait whose prompts went through the model, and which of their samples there is room for."""
        if not self._queue or not self._fits(self._queue[0].ask) or len(self._rows) >= self.width:
            return []
        if self._queue[0].slot is None:
            self._prefill()
        found, room = [], self.width - len(self._rows)
        for waiting in self._queue:
            if waiting.slot is None or room <= 0 or not self._fits_now(waiting.ask):
                break  # no slot: no place for its prompt before samples of others have begun
            found.append((waiting, waiting.numbers[:room]))
            room -= len(waiting.numbers)
        return found

    def _begin(self, ready: Sequence[tuple[Waiting, list[int]]]) -> Iterator[Sample]:
        """The first tokens of these samples; those that go on get slots."""
        assert self._slots is not None
        rows, sources, logits = [], [], []
        for waiting, numbers in ready:
            assert waiting.slot is not None
            ask, prefix = waiting.ask, self._bench[waiting.slot]
            assert prefix.logits is not None
            share, length = prefix.seconds / len(ask.seeds), len(prefix.tokens)
            rows += [Row(ask, number, Stream(ask.seeds[number]), length, share) for number in numbers]
            sources += [waiting.slot] * len(numbers)
            logits.append(prefix.logits.expand(len(numbers), -1))
        tokens, said = self._drawn(torch.cat(logits), self._groups(rows, 1), 0)
        ended = self._take(rows, tokens[:, None], said[:, None])
        going = [i for i, row in enumerate(rows) if id(row) not in ended]
        self._slots.copy(
            [sources[i] for i in going],
            range(len(self._rows), len(self._rows) + len(going)),
            max((rows[i].length for i in going), default=0),
        )
        for waiting, numbers in ready:  # not before: what was said above may not have fitted into memory
            del waiting.numbers[: len(numbers)]
            if not waiting.numbers and waiting.slot is not None:
                self._bench[waiting.slot].pinned -= 1
                self._queue.remove(waiting)
        self._rows += [rows[i] for i in going]
        yield from ended.values()

    def _fits(self, ask: Ask) -> bool:
        """Whether slots are long enough for it; makes them longer, if those under way still have theirs then."""
        needed = len(ask.prompt) + ask.max_new
        if self._slots is not None and needed <= self._slots.length:
            return True
        longest = max(len(w.ask.prompt) + w.ask.max_new for w in self._queue)
        if self._slots is not None and self._rows:  # turns grow: room for the next one as well
            longest = max(longest, self._slots.length * 3 // 2)
        lengths = [-(-length // STEP) * STEP for length in (longest, needed)]
        length = next((at for at in lengths if self._width_at(at) >= len(self._rows)), None)
        if length is None:
            return False
        self._resize(length)
        return True

    def _width_at(self, length: int) -> int:
        return max(1, min(self._most_rows, int(self._tokens / length / 1.25)))  # with the bench

    def _resize(self, length: int) -> None:
        """Slots of this length, as many as there are tokens for. What is kept of prompts stays as far as it fits."""
        self.width = self._width_at(length)
        if self._slots is None:
            probe = DynamicCache()
            self._forward(torch.zeros(1, 1, dtype=torch.long, device=self.model.device), probe)
            self._slots = Slots(layers_of(probe), self.width + self._benches, length)
            return
        pinned = [slot for slot, prefix in self._bench.items() if prefix.pinned]
        others = [slot for slot, prefix in self._bench.items() if not prefix.pinned]
        benches = max(self._benches, len(pinned))
        kept = [*others, *pinned][-benches:]
        places = {slot: self.width + i for i, slot in enumerate(kept)}
        if self._graphs:
            self._graphs.clear()
        self._slots.resize({**{i: i for i in range(len(self._rows))}, **places}, self.width + benches, length)
        self._bench = {places[slot]: self._bench[slot] for slot in kept}
        for waiting in self._queue:
            waiting.slot = places.get(waiting.slot) if waiting.slot is not None else None

    @property
    def _benches(self) -> int:
        return max(8, self.width // 4)

    def _retreat(self, error: RuntimeError) -> None:
        """Out of memory: everything under way begins anew with half as many slots; seeds make it what it was."""
        if not out_of_memory(error) or self.width <= 1:
            raise error
        self._most_rows = self.width // 2
        again: dict[int, Waiting] = {}
        for row in self._rows:
            again.setdefault(id(row.ask), Waiting(row.ask, [])).numbers.append(row.number)
        self._queue[:0] = again.values()
        for waiting in self._queue:
            waiting.slot = None
        self._drop()
        self._rows = []
        self._bench.clear()
        release(self.model.device)

    # --- prompts ---------------------------------------------------------------------------------------------

    def _prefill(self) -> None:
        """The prompts of the first that wait, as many as there is room for; what is kept already is not run again."""
        fresh: list[Waiting] = []
        wanted, longest = 0, 0
        for waiting in self._queue:
            if wanted >= self.width - len(self._rows) or not self._fits_now(waiting.ask):
                break
            wanted += len(waiting.numbers)
            if waiting.slot is not None:
                continue
            prompt = list(waiting.ask.prompt)
            slot, shared = self._nearest(prompt)
            if shared >= FEWEST_SHARED:
                if not self._continue(waiting, prompt, slot, shared):
                    break
                continue
            longest = max(longest, len(prompt))
            if fresh and longest * (len(fresh) + 1) > self._most_prefilled:
                break
            place = self._place()
            if place is None:
                break
            self._bench[place] = Prefix(prompt, ready=False, pinned=1)
            waiting.slot = place
            fresh.append(waiting)
        if fresh:
            self._run_prompts([self._bench[w.slot] for w in fresh if w.slot is not None], fresh)

    def _fits_now(self, ask: Ask) -> bool:
        return self._slots is not None and len(ask.prompt) + ask.max_new <= self._slots.length

    def _run_prompts(self, prefixes: Sequence[Prefix], waiting: Sequence[Waiting]) -> None:
        """Prompts side by side, filled up on the right: no token sees what comes after it."""
        assert self._slots is not None
        started = time.perf_counter()
        lengths = [len(prefix.tokens) for prefix in prefixes]
        ids = torch.zeros(len(prefixes), max(lengths), dtype=torch.long)
        for i, prefix in enumerate(prefixes):
            ids[i, : lengths[i]] = torch.tensor(prefix.tokens)
        cache = DynamicCache()
        ends = sorted({length - 1 for length in lengths})
        hidden = self._forward(ids.to(self.model.device), cache)[:, ends]
        layers = layers_of(cache)
        for i, (prefix, w) in enumerate(zip(prefixes, waiting, strict=True)):
            prefix.logits = self.logits(hidden[i, ends.index(lengths[i] - 1)]).float()
            assert w.slot is not None
            self._slots.put(w.slot, ((k[i], v[i]) for k, v in layers), lengths[i])
        for prefix in prefixes:
            prefix.ready = True
            prefix.seconds = (time.perf_counter() - started) / len(prefixes)

    def _continue(self, waiting: Waiting, prompt: list[int], slot: int, shared: int) -> bool:
        """A prompt from a kept one on. False where there is no place to keep it."""
        assert self._slots is not None
        started, known = time.perf_counter(), self._bench[slot]
        if shared == len(prompt) == len(known.tokens) and known.logits is not None:
            known.pinned += 1
            waiting.slot = slot
            return True
        known.pinned += 1  # it must not be the one that makes room
        place = self._place()
        known.pinned -= 1
        if place is None:
            return False
        shared = min(shared, len(prompt) - 1)  # the last token goes through the model: its logits are needed
        cache = self._slots.view(slot, shared)
        rest = torch.tensor([prompt[shared:]], device=self.model.device)
        hidden = self._forward(rest, cache, past=shared)[0, -1]
        self._slots.put(place, ((k[0], v[0]) for k, v in layers_of(cache)), len(prompt))
        seconds = time.perf_counter() - started
        self._bench[place] = Prefix(prompt, self.logits(hidden).float(), pinned=1, seconds=seconds)
        waiting.slot = place
        return True

    def _nearest(self, prompt: list[int]) -> tuple[int, int]:
        """The kept slot that shares most tokens with a prompt, from the beginning on, and how many."""
        best, most = -1, 0
        for slot, prefix in self._bench.items():
            common = shared(prefix.tokens, prompt) if prefix.ready else 0
            if common > most:
                best, most = slot, common
        if best >= 0:
            self._bench[best] = self._bench.pop(best)  # used last
        return best, most

    def _place(self) -> int | None:
        """A slot of the bench: an empty one, or that of the prefix that was not used for the longest time."""
        for slot in range(self.width, self.width + self._benches):
            if slot not in self._bench:
                return slot
        oldest = next((slot for slot, prefix in self._bench.items() if not prefix.pinned), None)
        if oldest is not None:
            del self._bench[oldest]
        return oldest

    def _park(self, at: int, row: Row) -> None:
        """Keeps what a sample's slot holds, for a prompt that goes on from it."""
        place = self._place()
        if place is not None and self._slots is not None:
            self._slots.copy([at], [place], row.length)
            self._bench[place] = Prefix([*row.ask.prompt, *row.tokens][: row.length])

    # --- steps -----------------------------------------------------------------------------------------------

    def _step(self) -> Iterator[Sample]:
        """One more token for every row, on a GPU several; those that end make room."""
        assert self._slots is not None
        started = time.perf_counter()
        before = [row.length for row in self._rows]
        ended = self._take(self._rows, *self._advance(self._burst))
        share = (time.perf_counter() - started) / len(self._rows)
        origins = list(range(len(self._rows)))
        for at in range(len(self._rows) - 1, -1, -1):
            row = self._rows[at]
            row.seconds += share
            row.length = before[at] + row.fed
            if id(row) in ended:
                if row.ask.keep:
                    self._park(at, row)
                tail, origin = self._rows.pop(), origins.pop()
                if at < len(self._rows):  # the last row moves into the hole
                    self._rows[at], origins[at] = tail, origin
        moved = [at for at, origin in enumerate(origins) if origin != at]
        self._slots.copy([origins[at] for at in moved], moved, self._reach(0))
        yield from ended.values()

    def _reach(self, more: int) -> int:
        """How far the slots of the rows are filled after so many more tokens, at most; a multiple of ``STEP``."""
        assert self._slots is not None
        longest = max((row.length for row in self._rows), default=0) + more
        return min(self._slots.length, -(-longest // STEP) * STEP)

    def _advance(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws ``count`` tokens for each row, without a look at them: ids and log-probabilities, (rows, count) each.

        What is drawn after a row's end is for nobody; places stay within its slot."""
        assert self._slots is not None
        device, rows = self.model.device, len(self._rows)
        last = torch.tensor([row.tokens[-1] for row in self._rows], device=device)
        places = torch.tensor([row.length for row in self._rows], device=device)
        groups = self._groups(self._rows, count)
        tokens, said = [], []
        for step in range(count):
            hidden = self._hidden(last, places, self._reach(step + 1))
            last, logprobs = self._drawn(self.logits(hidden), groups, step)
            tokens.append(last)
            said.append(logprobs)
            places = (places + 1).clamp(max=self._slots.length - 1)
        assert last.shape == (rows,)
        return torch.stack(tokens, dim=1), torch.stack(said, dim=1)

    def _hidden(self, last: torch.Tensor, places: torch.Tensor, reach: int) -> torch.Tensor:
        """The decoder's output for one more token of each row, shape (rows, width of the model)."""
        if self._graphs:
            return self._graphs.run(self._decode, last, places, reach, self.width)
        return self._decode(last, places, reach)

    def _decode(self, last: torch.Tensor, places: torch.Tensor, reach: int) -> torch.Tensor:
        assert self._slots is not None
        slots = self._slots.at(places, reach)
        return self._forward(last[:, None], slots, mask=self._masks.at(places, reach), past=places)[:, -1]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary, shape (…, vocab)."""
        return head_logits(self.model, hidden)

    def _groups(self, rows: Sequence[Row], count: int) -> list[Group]:
        """Rows by how they are sampled, each with the next ``count`` numbers of its stream."""
        found = []
        for sampling in dict.fromkeys(row.ask.sampling for row in rows):
            at = [i for i, row in enumerate(rows) if row.ask.sampling == sampling]
            numbers = None
            if sampling.temperature:
                drawn = [rows[i].stream.take(count) for i in at]
                numbers = torch.tensor(drawn, dtype=torch.float64).t().to(self.model.device)
            index = None if len(at) == len(rows) else torch.tensor(at, device=self.model.device)
            found.append(Group(sampling, index, numbers))
        return found

    def _drawn(
        self, logits: torch.Tensor, groups: Sequence[Group], step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A token for each row, and its log-probability; both of shape (rows,)."""
        parts = [
            draw(logits if group.rows is None else logits[group.rows], group.sampling, group.at(step))
            for group in groups
        ]
        if len(parts) == 1 and groups[0].rows is None:
            return parts[0]
        tokens = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        said = torch.zeros(len(logits), device=logits.device)
        for group, (drawn, logprobs) in zip(groups, parts, strict=True):
            tokens[group.rows], said[group.rows] = drawn, logprobs
        return tokens, said

    def _take(self, rows: Sequence[Row], tokens: torch.Tensor, said: torch.Tensor) -> dict[int, Sample]:
        """Gives rows what was drawn for them, up to their ends; the samples that end, by the row's id."""
        ended = {}
        for row, own, logprobs in zip(rows, tokens.tolist(), said.double().tolist(), strict=True):
            row.fed = min(len(own), row.ask.max_new - len(row.tokens))
            if row.ask.cut is None and row.fed == len(own) and self._ends.isdisjoint(own):
                row.tokens += own
                row.logprobs += logprobs
                if len(row.tokens) < row.ask.max_new:
                    continue
            else:
                row.fed = self._take_singly(row, own, logprobs)
            if sample := self._ended(row):
                ended[id(row)] = sample
        check_finite(self.model, rows, said)
        return ended

    def _take_singly(self, row: Row, tokens: Sequence[int], logprobs: Sequence[float]) -> int:
        """As many as there are up to the end of the sample; how many."""
        for count, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True), start=1):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            if self._ended(row):
                return count
        return len(tokens)

    def _ended(self, row: Row) -> Sample | None:
        ask, kept, reason, note = row.ask, len(row.tokens), "", None
        if row.tokens[-1] in self._ends:
            reason = "stop"
        elif kept == ask.max_new:
            reason = "length"
        if ask.cut is not None and (cut := ask.cut(row.tokens)) is not None:
            (kept, note), reason = cut, "stop"
        if not reason:
            return None
        return Sample(
            ask=ask,
            number=row.number,
            tokens=tuple(row.tokens[:kept]),
            logprobs=tuple(row.logprobs[:kept]),
            reason=reason,
            seconds=row.seconds,
            note=note,
        )

    def _forward(
        self, ids: torch.Tensor, cache: Any, *, mask: Any = None, past: int | torch.Tensor = 0
    ) -> torch.Tensor:
        """The decoder's output at each token of ``ids``, shape (rows, tokens, width of the model)."""
        steps = torch.arange(ids.shape[1], device=ids.device)
        positions = steps + (past[:, None] if isinstance(past, torch.Tensor) else past)
        config, usual = self.model.config, self.model.config._attn_implementation
        if mask is None:
            self.prefilled += ids.numel()
        elif usual == "sdpa":
            config._attn_implementation = PACKED
        try:
            found: torch.Tensor = self._decoder(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions.expand(ids.shape[0], -1),
                use_cache=True,
                **{self._cache_name: cache},
            ).last_hidden_state
        finally:
            config._attn_implementation = usual
        return found

    def _drop(self) -> None:
        """The slots, and the graphs that were made for them."""
        if self._graphs:
            self._graphs.clear()
        self._slots = None

    def _forget(self) -> None:
        self._rows, self._queue = [], []
        self._bench.clear()
