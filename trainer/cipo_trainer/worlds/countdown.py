"""Countdown: reach a number with three others. A failed attempt says little here: the family where correction is hard.

    7 3 12 -> 48 =
    \\boxed{(7-3)*12}

An expression uses each number once, with + - * and exact division. The warm start imitates a teacher that writes a
right expression with probability ``skill``, else a random one over the same numbers; what is learned of a wrong attempt
is an attempt that is not the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from cipo_eval.records import Problem
from cipo_eval.turns.revising import tagged
from cipo_eval.verifiers.countdown import value_of
from cipo_trainer.worlds.derivations import AGAIN, WRONG
from cipo_trainer.worlds.family import DRAWS, Family, Pair, draws, vocabulary
from cipo_trainer.worlds.tiny import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PIECES = r"\\boxed\{|->|</?attempt>|[A-Z]\w+[:.]|[}()+*/=-]|\d+|\w+"
WORDS = ("=", "->", "(", ")", "+", "-", "*", "/", "\\boxed{", "}")
ASKED = ("<attempt>", "</attempt>", AGAIN, WRONG)
SHAPES = ("({0}{3}{1}){4}{2}", "{0}{3}({1}{4}{2})")


class Countdown(Family):
    """The dial of the countdown."""

    name: ClassVar[str] = "countdown"
    summary: ClassVar[str] = "expressions that reach a number, made by this project"
    verifier: ClassVar[str] = "countdown"

    largest: int = Field(default=20, ge=3, le=99)
    """Numbers are drawn between 1 and this."""
    skill: float = Field(default=0.5, ge=0, le=1)
    """Share of the teacher's attempts that are right."""
    right: float = Field(default=0.35, ge=0, le=1)
    """Rows for corrections: share that shows a right attempt, which is copied."""

    def problem_at(self, position: int, *, seed: int) -> Problem:
        text, _ = self._draw(draws(self.name, "problem", seed, position), held_out=False)
        gold = text.removesuffix(" =")
        return Problem(
            task=self.name, id=f"{text}{position}", index=position, question=text, prompt=text, gold=gold
        )

    def pair_at(self, position: int, *, seed: int, corrections: float = 0.0) -> Pair:
        rng = draws(self.name, "pair", seed, position)
        text, right = self._draw(rng, held_out=False)
        if rng.random() >= corrections:
            return text, _boxed(self._attempt(text, right, rng))
        shown = right
        if rng.random() >= self.right:
            shown = self._wrong(text, rng)
        again = right
        for _ in range(DRAWS if shown != right else 0):
            again = self._attempt(text, right, rng)
            if again != shown:
                break
        return f"{text}\n{tagged('attempt', _boxed(shown))}\n{AGAIN}", _boxed(again)

    def _draw(self, rng: random.Random, *, held_out: bool) -> tuple[str, str]:
        """A problem and an expression that solves it. Which side it is on depends on numbers and target, not on the
        numbers' order."""
        for _ in range(DRAWS):
            numbers = [rng.randint(1, self.largest) for _ in range(3)]
            expression = _random(numbers, rng)
            value = value_of(expression)
            if value is None or value.denominator != 1 or not 0 < value < 1000:
                continue
            side = " ".join(map(str, [*sorted(numbers), value]))
            if self.is_held_out(side) == held_out:
                return f"{' '.join(map(str, numbers))} -> {value} =", expression
        raise RuntimeError("no problem of the wanted side was drawn")

    def _attempt(self, text: str, right: str, rng: random.Random) -> str:
        return right if rng.random() < self.skill else self._wrong(text, rng)

    def _wrong(self, text: str, rng: random.Random) -> str:
        numbers, target = _asked(text)
        for _ in range(DRAWS):
            expression = _random(numbers, rng)
            if value_of(expression) != target:
                return expression
        raise RuntimeError("every expression is right")

    def rows(self) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for position in range(4 * self.items):
            text, _ = self._draw(draws(self.name, "evaluation", position), held_out=True)
            numbers, target = _asked(text)
            side = " ".join(map(str, [*sorted(numbers), target]))
            if side in seen:
                continue
            seen.add(side)
            yield {
                "id": f"countdown-{len(seen):04d}",
                "problem": text,
                "answer": text.removesuffix(" ="),
                "solutions": _amount(sum(value_of(e) == target for e in _all(numbers))),
            }
            if len(seen) == self.items:
                return

    def definition(self) -> dict[str, Any]:
        columns = {"question": "problem", "gold": "answer", "id": "id"}
        return {"cipo": {"columns": columns, "breakdown": ["solutions"]}}

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """One token for each number, sign and word."""
        words = vocabulary(SPECIAL, [str(n) for n in range(1000)], WORDS, ASKED)
        return word_tokenizer(words, PIECES, context=128)


def _asked(text: str) -> tuple[list[int], int]:
    left, right = text.removesuffix(" =").split(" -> ")
    return [int(n) for n in left.split()], int(right)


def _random(numbers: list[int], rng: random.Random) -> str:
    order = rng.sample(numbers, len(numbers))
    return rng.choice(SHAPES).format(*order, rng.choice("+-*/"), rng.choice("+-*/"))


def _all(numbers: list[int]) -> Iterator[str]:
    for order in set(itertools.permutations(numbers)):
        for shape, first, second in itertools.product(SHAPES, "+-*/", "+-*/"):
            yield shape.format(*order, first, second)


def _amount(count: int) -> str:
    return "1 or 2" if count <= 2 else "3 to 8" if count <= 8 else "more"


def _boxed(expression: str) -> str:
    return f"\\boxed{{{expression}}}"
