"""The worlds that need no data: generators of problems and of rows, with a tokenizer and a tiny model for each.

A world is a module with these four functions, and a task of its own name whose problems its streams never meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cipo_eval.records import Problem
from cipo_trainer import arithmetic, chains

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


Pair = tuple[str, str]
"""A prompt, and the completion that is to be learned."""


class World(Protocol):
    """What a world's module has."""

    def problem_at(self, position: int, *, seed: int) -> Problem: ...

    def pair_at(self, position: int, *, seed: int, corrections: float = 0.0) -> Pair: ...

    def build_tokenizer(self) -> PreTrainedTokenizerFast: ...

    def build_model(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM: ...


WORLDS: dict[str, World] = {"arithmetic": arithmetic, "chains": chains}
