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
from cipo_eval.engines.core.request import GenOutput, GenRequest, empty_outputs
from cipo_eval.engines.core.row import finished
from cipo_eval.engines.core.sampler import RandomStream, sample_tokens
from cipo_eval.errors import UsageError

_Sample = tuple[GenRequest, int]
"""One sample: a request and the position of its seed."""


class Plain:
    """What ``Core`` is for the others: the same calls, without slots that are filled again."""

    def __init__(self, model: Any, *, ends: Iterable[int], pad: int, tokens: int) -> None:
        self.model, self._ends, self._pad, self._tokens = model, frozenset(ends), pad, tokens
        self._alike = recurrent(model)
        self._drawing: _Drawing | None = None

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
        """Does nothing: no memory is kept between calls."""

    def run(self, take: Callable[[bool], Iterable[GenRequest]]) -> Iterator[GenOutput]:
        """Generates the requests that ``take`` gives, and yields each sample as it ends (as ``Core.run``)."""
        waiting: list[_Sample] = []
        limit = 1 if self.model.config.model_type in SINGLY else MAX_ROWS["cpu"]
        while True:
            new = list(take(not waiting))
            if not new and not waiting:
                return
            for request in new:
                if request.max_new <= 0:
                    yield from empty_outputs(request)
                else:
                    waiting += [(request, number) for number in range(len(request.seeds))]
            waiting.sort(key=lambda s: (repr(s[0].sampling), -s[0].max_new, -len(s[0].prompt)))
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

    def _batch_size(self, waiting: Sequence[_Sample], limit: int) -> int:
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
    def _batch(self, samples: Sequence[_Sample]) -> list[GenOutput]:
        started = time.perf_counter()
        width = max(len(request.prompt) for request, _ in samples)
        ids = torch.full((len(samples), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        # left padding: every prompt ends where its completion begins
        for i, (request, _) in enumerate(samples):
            ids[i, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[i, width - len(request.prompt) :] = 1
        drawing = self._drawing = _Drawing(self.model, samples, self._ends)
        output = self._generated(ids, mask, samples, drawing)
        self._drawing = None
        logprobs = torch.stack(drawing.logprobs, dim=1).tolist()
        seconds = (time.perf_counter() - started) / len(samples)
        return [
            self._output(*row, seconds)
            for row in zip(samples, output[:, width:].tolist(), logprobs, strict=True)
        ]

    def _generated(
        self, ids: torch.Tensor, mask: torch.Tensor, samples: Sequence[_Sample], drawing: _Drawing
    ) -> torch.Tensor:
        """Prompts and completions, shape (rows, tokens). Raises ``UsageError`` for a model that transformers cannot
        generate with."""
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            max_new_tokens=samples[0][0].max_new, do_sample=False, use_cache=True
        )
        try:
            generated: torch.Tensor = self.model.generate(
                ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([drawing]),
                stopping_criteria=StoppingCriteriaList([_Cut(samples, ids.shape[1])]),
            )
        except (NotFinite, UsageError):
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            family, message = self.model.config.model_type, " ".join(str(error).split())[:300]
            raise UsageError(
                f"transformers cannot generate with this {family} model ({type(error).__name__}: {message})"
            ) from error
        return generated

    def _output(self, sample: _Sample, tokens: list[int], logprobs: list[float], seconds: float) -> GenOutput:
        """The output of a row of the batch: up to its end token, or to where the caller says so."""
        request, number = sample
        for count, token in enumerate(tokens, start=1):
            last = count == len(tokens)
            if request.cut is None and token not in self._ends and not last:
                continue
            part = tokens[:count], logprobs[:count]
            if output := finished(request, number, *part, ends=self._ends, seconds=seconds, full=last):
                return output
        raise AssertionError("a batch without tokens")


class _Drawing(LogitsProcessor):
    """Turns greedy decoding into drawing, a random stream for each row, and keeps log-probabilities."""

    def __init__(self, model: Any, samples: Sequence[_Sample], ends: frozenset[int]) -> None:
        self._model, self._samples, self._ends = model, samples, ends
        self._sampling = samples[0][0].sampling
        self.rows = len(samples)
        self._streams = [RandomStream(request.seeds[number]) for request, number in samples]
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        numbers = [stream.next() for stream in self._streams] if self._sampling.temperature else []
        tokens, logprobs = sample_tokens(scores, self._sampling, numbers)
        if not bool(logprobs.isfinite().all()):
            self._check(input_ids, logprobs)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def _check(self, input_ids: torch.Tensor, logprobs: torch.Tensor) -> None:
        """Raises ``NotFinite`` for the first row that has not ended and whose scores are no numbers."""
        for (request, _), row, logprob in zip(
            self._samples, input_ids.tolist(), logprobs.tolist(), strict=True
        ):
            tokens = row[len(row) - len(self.logprobs) :] if self.logprobs else []
            if not math.isfinite(logprob) and self._ends.isdisjoint(tokens):
                raise NotFinite(request.tag, explained(self._model, [*request.prompt, *tokens]))


class _Cut(StoppingCriteria):
    """Ends rows where the caller says so."""

    def __init__(self, samples: Sequence[_Sample], width: int) -> None:
        self._cuts, self._width = [request.cut for request, _ in samples], width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002
        ended = [
            cut is not None and cut(row) is not None
            for cut, row in zip(self._cuts, input_ids[:, self._width :].tolist(), strict=True)
        ]
        return torch.tensor(ended, device=input_ids.device)
