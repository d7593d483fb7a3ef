"""What the engines share that ask a vLLM for tokens: the one in this process (``vllm``), and servers of a training
(``vllm_servers``).

They differ in how a single ask is put to vLLM. Prompts that fit, samples tried once more, thoughts that may only be so
long, stop strings, and weights on their way into vLLM are here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.prompting import Prompting, no_room
from cipo_eval.engines.pump import Pump
from cipo_eval.engines.retries import Again, Retries
from cipo_eval.records import Completion, Failure, FinishReason, Request, derive_seed

if TYPE_CHECKING:
    import torch

    from cipo_eval.engines.chat import Prompt

UNDER_WAY = 2048
"""Samples that vLLM is given at once; how many of them run together is its business."""


class VLLMSamples(ABC):
    """Samples as coroutines, each a request of its own with its own seed: as vLLM's ``n`` would make them, only that a
    resumed or extended run gets the same ones; the prefix cache computes their prompt once."""

    texts: Prompting
    _pump: Pump
    _retries: Retries

    @property
    def under_way(self) -> int:
        return self._pump.under_way

    def refuses_begun(self) -> str:
        """Why it does not go on with an answer that is begun: it does."""
        return ""

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        return self._pump.run(as_feed(requests), self._complete)

    @abstractmethod
    async def _ask(
        self, request: Request, ids: Sequence[int], most: int, seed: int
    ) -> tuple[list[int], FinishReason, list[float] | None]:
        """At most so many tokens that follow these, the reason that they end, and their log-probabilities if they are
        wanted. Raises ``Again`` where another try may do better."""

    async def _complete(self, request: Request) -> list[Completion | Failure]:
        """One sample."""
        try:
            return [await self._retries.run(lambda: self._sample(request, request.seeds[0]))]
        except Again as error:
            return [Failure(why=f"{error.why} ({self._retries.tries})")]

    async def _sample(self, request: Request, seed: int) -> Completion:
        started = time.perf_counter()
        prompt = self.texts.prompt(request)
        room = self.texts.room(prompt, request.sampling.max_tokens)
        if not room:
            return no_room(prompt)
        stops = self.texts.cut(request.sampling.stop)
        thoughts = self.texts.thoughts(room)
        tokens, reason, logprobs = await self._ask(request, prompt.ids, thoughts, seed)
        if reason is FinishReason.LENGTH and len(tokens) < room:
            tokens, reason, logprobs = await self._answer(request, prompt, tokens, logprobs, room, seed)
        text = None
        if stops and (cut := stops.first(tokens)):
            kept, text = cut
            tokens, reason, logprobs = tokens[:kept], FinishReason.STOP, logprobs and logprobs[:kept]
        return self.texts.completion(
            prompt, tokens, reason, text=text, logprobs=logprobs, seconds=time.perf_counter() - started
        )

    async def _answer(
        self,
        request: Request,
        prompt: Prompt,
        tokens: list[int],
        logprobs: list[float] | None,
        room: int,
        seed: int,
    ) -> tuple[list[int], FinishReason, list[float] | None]:
        """What follows thoughts whose budget is used up."""
        closing = self.texts.closing(prompt, tokens)
        spoken = [*tokens, *closing][:room]
        if len(spoken) == room:
            return spoken, FinishReason.LENGTH, None if closing else logprobs
        more, reason, drawn = await self._ask(
            request, [*prompt.ids, *spoken], room - len(spoken), derive_seed(seed, "after thoughts")
        )
        both = None if closing or logprobs is None or drawn is None else [*logprobs, *drawn]
        return [*spoken, *more], reason, both


def write_weights(state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Writes the parameters of a model into a folder, as vLLM reads them: safetensors, under the names that its
    checkpoint has. Tied parameters, which are the same memory, are written once."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    tensors = {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.detach().contiguous().cpu()
    save_file(tensors, str(folder / "model.safetensors"))


def said(error: BaseException) -> str:
    """One line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
