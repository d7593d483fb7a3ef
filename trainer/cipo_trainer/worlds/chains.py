"""Chained modular arithmetic: a long derivation with local slips, where a failed attempt is mostly right.

A problem is a number modulo 13 and ten operations; an attempt writes every value on the way, one token each, the last
of them as its answer::

    7 +3 *5 +11 *2 +12 *4 +1 *9 +6 *3 =
    10 11 9 5 4 3 4 10 3 \\boxed{9}

``derivations`` has the teacher that a warm start imitates. The task `chains` has 1,000 problems of this dial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from cipo_trainer.worlds.derivations import AGAIN, WRONG, Derivations, Task
from cipo_trainer.worlds.family import vocabulary
from cipo_trainer.worlds.tiny import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = ("=", "<attempt>", "</attempt>", AGAIN, WRONG)
"""What prompts of corrections are made of, beside values and operations."""


class Chains(Derivations):
    """The dial of the chains."""

    name: ClassVar[str] = "chains"
    summary: ClassVar[str] = "chains of modular operations, made by this project; needs no data"
    options: ClassVar[Mapping[str, str]] = {"kind": "integer"}

    modulus: int = Field(default=13, ge=5, le=97)

    def starts(self) -> Sequence[str]:
        return _numbers(self.modulus)

    def operations(self) -> Sequence[str]:
        return _operations(self.modulus)

    def words(self) -> Sequence[str]:
        return _numbers(self.modulus)

    def apply(self, operation: str, state: str) -> str:
        number, value = int(operation[1:]), int(state)
        return str((value + number if operation[0] == "+" else value * number) % self.modulus)

    def state(self, word: str) -> str:
        return word

    def mistakes(self, operation: str, state: str) -> Sequence[str]:
        right = int(self.apply(operation, state))
        return [str((right + by) % self.modulus) for by in (-2, -1, 1, 2)]

    def text(self, words: Sequence[str]) -> str:
        return " ".join([*words[:-1], f"\\boxed{{{words[-1]}}}"])

    def split(self, attempt: str) -> list[str]:
        *words, last = attempt.split() or [""]
        return [*words, last.removeprefix("\\boxed{").removesuffix("}")]

    def is_right(self, task: Task, words: Sequence[str]) -> bool:
        return words[-1] == self.solve(task)[-1]

    def gold(self, task: Task) -> str:
        return self.solve(task)[-1]

    def item(self, name: str, task: Task) -> dict[str, Any]:
        return {"id": name, "problem": self.prompt(task), "answer": self.solve(task)[-1]}

    def definition(self) -> dict[str, Any]:
        columns = {"question": "problem", "gold": "answer", "id": "id"}
        return {"cipo": {"options": dict(self.options), "columns": columns, "breakdown": ["hard"]}}

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """One token for each value, operation and word; words stand between spaces."""
        numbers = _numbers(self.modulus)
        answers = [f"\\boxed{{{value}}}" for value in numbers]
        words = vocabulary(SPECIAL, numbers, answers, self.operations(), WORDS)
        return word_tokenizer(words, r"\S+", context=max(128, 8 * self.steps))


@lru_cache(maxsize=8)
def _numbers(modulus: int) -> tuple[str, ...]:
    return tuple(map(str, range(modulus)))


@lru_cache(maxsize=8)
def _operations(modulus: int) -> tuple[str, ...]:
    return tuple(f"+{k}" for k in range(1, modulus)) + tuple(f"*{k}" for k in range(2, modulus))
