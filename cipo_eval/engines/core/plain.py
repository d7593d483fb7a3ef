"""Generation with ``model.generate``, for models whose attention ``core`` does not know.

Batches are planned by tokens (prompt plus room for the completion), the longest first, so that memory runs out at the
start if ever; then the batch halves and the run goes on. Tokens are drawn as in ``core``, from the same streams.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from cipo_eval.engines.core.finite import NotFinite, explained
from cipo_eval.engines.core.loop import MAX_ROWS
from cipo_eval.engines.core.models import SINGLY, out_of_memory, recurrent, release
from cipo_eval.engines.core.request import Ask, Sample, empty_samples
from cipo_eval.engines.core.sampler import Stream, draw
from cipo_eval.errors import UsageError

_Place = tuple[Ask, int]
"""One sample: an ask and the position of its seed."""


class Plain:
    """What ``Core`` is for the others: the same calls, without slots that are filled again."""

    def __init__(self, model: Any, *, ends: Iterable[int], pad: int, tokens: int) -> None:
        self.model, self._ends, self._pad, self._tokens = model, frozenset(ends), pad, tokens
        self._alike = recurrent(model)
        self._drawing: _Draw | None = None

    @property
    def under_way(self) -> tuple[int, int]:
        """As ``Core.under_way``; of a batch, tokens after a row's end are counted as well."""
        if (drawing := self._drawing) is None:
            return 0, 0
        return drawing.rows, drawing.rows * len(drawing.logprobs)

    def update_weights(self, state: dict[str, torch.Tensor]) -> None:
        """New values for the model's parameters, in place. Raises ``RuntimeError`` for names or shapes that differ."""
        self.model.load_state_dict(state)

    def release(self) -> None:
        """It keeps nothing."""

    def run(self, take: Callable[[bool], Iterable[Ask]]) -> Iterator[Sample]:
        """As ``Core.run``."""
        waiting: list[_Place] = []
        limit = 1 if self.model.config.model_type in SINGLY else MAX_ROWS["cpu"]
        while True:
            new = list(take(not waiting))
            if not new and not waiting:
                return
            for ask in new:
                if ask.max_new <= 0:
                    yield from empty_samples(ask)
                else:
                    waiting += [(ask, number) for number in range(len(ask.seeds))]
            waiting.sort(
                key=lambda place: (repr(place[0].sampling), -place[0].max_new, -len(place[0].prompt))
            )
            count = self._batch_size(waiting, limit)
            try:
                done = self._batch(waiting[:count]) if count else []
            except RuntimeError as error:
                if not out_of_memory(error) or count == 1:
                    raise
                limit = count // 2
                release(self.model.device)
                continue
            yield from done
            waiting = waiting[count:]

    def _batch_size(self, waiting: Sequence[_Place], limit: int) -> int:
        """Samples from the front that share sampling parameters and room, within the token budget; at least one. Of a
        recurrent model also the length of the prompt: its state would take up what fills shorter ones."""
        if not waiting:
            return 0
        first = waiting[0][0]
        most = max(1, min(limit, self._tokens // (len(first.prompt) + first.max_new)))
        count = 1
        while (
            count < min(most, len(waiting))
            and waiting[count][0].sampling == first.sampling
            and waiting[count][0].max_new == first.max_new
            and (not self._alike or len(waiting[count][0].prompt) == len(first.prompt))
        ):
            count += 1
        return count

    @torch.inference_mode()
    def _batch(self, places: Sequence[_Place]) -> list[Sample]:
        started = time.perf_counter()
        width = max(len(ask.prompt) for ask, _ in places)
        ids = torch.full((len(places), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, (ask, _) in enumerate(places):  # left padding: every prompt ends where its completion begins
            ids[i, width - len(ask.prompt) :] = torch.tensor(ask.prompt)
            mask[i, width - len(ask.prompt) :] = 1
        drawing = self._drawing = _Draw(self.model, places, self._ends)
        output = self._generated(ids, mask, places, drawing)
        self._drawing = None
        logprobs = torch.stack(drawing.logprobs, dim=1).tolist()
        seconds = (time.perf_counter() - started) / len(places)
        return [
            self._finished(*place, tokens, said, seconds)
            for place, tokens, said in zip(places, output[:, width:].tolist(), logprobs, strict=True)
        ]

    def _generated(
        self, ids: torch.Tensor, mask: torch.Tensor, places: Sequence[_Place], drawing: _Draw
    ) -> torch.Tensor:
        """Prompts and completions, shape (rows, tokens). Raises ``UsageError`` for a model that transformers cannot
        generate with."""
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            max_new_tokens=places[0][0].max_new, do_sample=False, use_cache=True
        )
        try:
            found: torch.Tensor = self.model.generate(
                ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([drawing]),
                stopping_criteria=StoppingCriteriaList([_Cut(places, ids.shape[1])]),
            )
        except (NotFinite, UsageError):
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            family, said = self.model.config.model_type, " ".join(str(error).split())[:300]
            raise UsageError(
                f"transformers cannot generate with this {family} model ({type(error).__name__}: {said})"
            ) from error
        return found

    def _finished(
        self, ask: Ask, number: int, tokens: list[int], logprobs: list[float], seconds: float
    ) -> Sample:
        """Cuts a row of the batch at its end token, or where the caller says so."""
        for kept, token in enumerate(tokens, start=1):
            if ask.cut and (cut := ask.cut(tokens[:kept])) is not None:
                return _sample(ask, number, tokens[: cut[0]], logprobs[: cut[0]], "stop", seconds, cut[1])
            if token in self._ends:
                return _sample(ask, number, tokens[:kept], logprobs[:kept], "stop", seconds)
        return _sample(ask, number, tokens, logprobs, "length", seconds)


def _sample(
    ask: Ask,
    number: int,
    tokens: Sequence[int],
    logprobs: Sequence[float],
    reason: str,
    seconds: float,
    note: Any = None,
) -> Sample:
    return Sample(
        ask=ask,
        number=number,
        tokens=tuple(tokens),
        logprobs=tuple(logprobs),
        reason=reason,
        seconds=seconds,
        note=note,
    )


class _Draw(LogitsProcessor):
    """Turns greedy decoding into drawing, a random stream for each row, and keeps log-probabilities."""

    def __init__(self, model: Any, places: Sequence[_Place], ends: frozenset[int]) -> None:
        self._model, self._places, self._ends = model, places, ends
        self._sampling = places[0][0].sampling
        self.rows = len(places)
        self._streams = [Stream(ask.seeds[number]) for ask, number in places]
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        numbers = [stream.next() for stream in self._streams] if self._sampling.temperature else []
        tokens, logprobs = draw(scores, self._sampling, numbers)
        if not bool(logprobs.isfinite().all()):
            self._check(input_ids, logprobs)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def _check(self, input_ids: torch.Tensor, logprobs: torch.Tensor) -> None:
        """Raises ``NotFinite`` for the first row that has not ended and whose scores are no numbers."""
        for (ask, _), row, logprob in zip(self._places, input_ids.tolist(), logprobs.tolist(), strict=True):
            said = row[len(row) - len(self.logprobs) :] if self.logprobs else []
            if not math.isfinite(logprob) and self._ends.isdisjoint(said):
                raise NotFinite(ask.tag, explained(self._model, [*ask.prompt, *said]))


class _Cut(StoppingCriteria):
    """Ends rows where the caller says so."""

    def __init__(self, places: Sequence[_Place], width: int) -> None:
        self._cuts, self._width = [ask.cut for ask, _ in places], width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002
        ended = [
            cut is not None and cut(row) is not None
            for cut, row in zip(self._cuts, input_ids[:, self._width :].tolist(), strict=True)
        ]
        return torch.tensor(ended, device=input_ids.device)
