"""Chained modular arithmetic: a long derivation with local slips, where a failed attempt is mostly right.

A problem is a number modulo 13 and ten operations; an attempt writes every value on the way, one token each, the last
of them as its answer::

    7 +3 *5 +11 *2 +12 *4 +1 *9 +6 *3 =
    10 11 9 5 4 3 4 10 3 \\boxed{9}

The warm start imitates a *noisy teacher*. At each of the 299 entries (operation, value) it is right with probability Q;
otherwise it writes mostly one fixed wrong value (a systematic error), else any other (a slip). A share of the entries
is hard, with a low Q. ``Teacher`` has the dial, from pure slips to systematic errors. Rows for corrections show one of
the teacher's attempts; what is learned copies it up to its first wrong step, draws that step again, never the value
that it sees there, and derives the rest anew.

The task `chains` has 1,000 problems. Which problems are held out is decided by a hash of their text, so no training
stream can meet one of them, however long it is.

``python -m cipo_trainer.chains --write tasks/chains.jsonl`` writes the evaluation items.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cipo_eval.protocols import tagged
from cipo_eval.records import Problem, derive_seed
from cipo_trainer.tiny import SPECIAL, fast_tokenizer, tiny_llama

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Pair = tuple[str, str]
"""A prompt, and the completion that is to be learned."""

MODULUS = 13
STEPS = 10
OPERATIONS = tuple(f"+{k}" for k in range(1, MODULUS)) + tuple(f"*{k}" for k in range(2, MODULUS))
EVALUATION_ITEMS = 1000
HELD_OUT = 10
"""One problem in so many is held out."""
DRAWS = 1000
"""Most draws until a problem is on the wanted side: a chance of 1 in 10^45 to need more."""
MAX_LENGTH = 128
ANSWERS = tuple(f"\\boxed{{{value}}}" for value in range(MODULUS))
WORDS = ("=", "<attempt>", "</attempt>", "Again:", "Wrong.")
"""What prompts of corrections are made of, beside values and operations."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whom the warm start imitates. The same for all seeds of a training: it is part of the world."""

    hard: float = 0.1
    """Share of entries that are hard."""
    low: float = 0.0
    high: float = 0.15
    """Q of a hard entry is uniform between these."""
    easy: float = 0.99
    """Q of the others."""
    systematic: float = 0.9
    """Share of errors that are the entry's one wrong value; 0: pure slips."""

    def entry(self, operation: str, value: int) -> tuple[float, int]:
        """Q, and the entry's wrong value."""
        rng = random.Random(derive_seed("chains", "entry", operation, value))
        hard = rng.random() < self.hard
        q = self.low + (self.high - self.low) * rng.random() if hard else self.easy
        return q, (apply(operation, value) + rng.choice((-2, -1, 1, 2))) % MODULUS

    def step(self, operation: str, value: int, rng: random.Random, seen: int | None = None) -> int:
        """What it writes after a value; never ``seen``."""
        q, wrong = self.entry(operation, value)
        for _ in range(DRAWS):
            if rng.random() < q:
                found = apply(operation, value)
            elif rng.random() < self.systematic:
                found = wrong
            else:
                found = rng.randrange(MODULUS)
            if found != seen:
                return found
        return rng.choice([x for x in range(MODULUS) if x != seen])

    def attempt(self, start: int, operations: tuple[str, ...], rng: random.Random) -> list[int]:
        """Values after each operation; an error is carried on."""
        values = []
        for operation in operations:
            start = self.step(operation, start, rng)
            values.append(start)
        return values


def apply(operation: str, value: int) -> int:
    """The right value after one: ``apply("*5", 4)`` is 7."""
    number = int(operation[1:])
    return (value + number if operation[0] == "+" else value * number) % MODULUS


def solve(start: int, operations: tuple[str, ...]) -> list[int]:
    """The right values."""
    values = []
    for operation in operations:
        start = apply(operation, start)
        values.append(start)
    return values


def text_of(start: int, operations: tuple[str, ...]) -> str:
    """The problem as it is asked."""
    return " ".join([str(start), *operations, "="])


def is_held_out(text: str) -> bool:
    """Whether a problem belongs to the evaluation side."""
    return derive_seed("chains", "split", text) % HELD_OUT == 0


def _draw(rng: random.Random, *, held_out: bool) -> tuple[int, tuple[str, ...]]:
    for _ in range(DRAWS):
        start, operations = rng.randrange(MODULUS), tuple(rng.choices(OPERATIONS, k=STEPS))
        if is_held_out(text_of(start, operations)) == held_out:
            return start, operations
    raise RuntimeError("no problem of the wanted side was drawn")


def problem_at(position: int, *, seed: int) -> Problem:
    """The problem for reinforcement learning at a position of an endless stream."""
    rng = random.Random(derive_seed("chains", "problem", seed, position))
    start, operations = _draw(rng, held_out=False)
    text = text_of(start, operations)
    return Problem(
        task="chains",
        id=f"{text}{position}",
        index=position,
        question=text,
        prompt=text,
        gold=str(solve(start, operations)[-1]),
        options={"kind": "integer"},
    )


def pair_at(position: int, *, seed: int, corrections: float = 0.0, right: float = 0.35) -> Pair:
    """The row for supervised training at a position: a problem with one of the teacher's attempts.

    ``corrections``: share of rows whose prompt also shows an attempt and whose completion corrects it, in the form of
    the ``self`` protocol, inline, with the short templates of ``trainer/configs/prompts``; ``right`` of these show an
    attempt without an error, which is copied.
    """
    teacher = Teacher()
    rng = random.Random(derive_seed("chains", "pair", seed, position))
    start, operations = _draw(rng, held_out=False)
    text = text_of(start, operations)
    if rng.random() >= corrections:
        return text, _text(teacher.attempt(start, operations, rng))
    attempt = solve(start, operations)
    if rng.random() >= right:
        for _ in range(DRAWS):
            attempt = teacher.attempt(start, operations, rng)
            if attempt != solve(start, operations):
                break
    shown = f"{text}\n{tagged('attempt', _text(attempt))}\nAgain:"
    return shown, _text(corrected(teacher, start, operations, attempt, rng))


def corrected(
    teacher: Teacher, start: int, operations: tuple[str, ...], attempt: list[int], rng: random.Random
) -> list[int]:
    """An attempt up to its first wrong step, that step drawn again without the value that stands there, and the rest
    derived anew; a right attempt as it is."""
    values: list[int] = []
    for at, (operation, value) in enumerate(zip(operations, attempt, strict=True)):
        before = values[-1] if values else start
        if value != apply(operation, before):
            values.append(teacher.step(operation, before, rng, seen=value))
            return [*values, *teacher.attempt(values[-1], operations[at + 1 :], rng)]
        values.append(value)
    return values


def _text(values: list[int]) -> str:
    return " ".join([*map(str, values[:-1]), ANSWERS[values[-1]]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem with its answer; a line of ``tasks/chains.jsonl``."""

    id: str
    problem: str
    answer: str
    hard: str
    """Hard entries on the right way: ``0``, ``1`` or ``2 or more``."""


def evaluation_items() -> list[Item]:
    """The built-in evaluation items: distinct problems of the held-out side."""
    return list(_items())


def _items() -> Iterator[Item]:
    teacher, seen = Teacher(), set()
    for position in range(2 * EVALUATION_ITEMS):
        rng = random.Random(derive_seed("chains", "evaluation", position))
        start, operations = _draw(rng, held_out=True)
        text = text_of(start, operations)
        if text in seen:
            continue
        seen.add(text)
        values = solve(start, operations)
        entries = zip(operations, [start, *values], strict=False)
        hard = sum(teacher.entry(*entry)[0] < teacher.easy for entry in entries)
        name = f"chain-{len(seen):04d}"
        yield Item(id=name, problem=text, answer=str(values[-1]), hard=str(hard) if hard < 2 else "2 or more")
        if len(seen) == EVALUATION_ITEMS:
            return


def write_items(path: Path) -> None:
    """Writes the evaluation items as JSON lines; the bytes are the same on every call."""
    lines = (
        json.dumps({"id": i.id, "problem": i.problem, "answer": i.answer, "hard": i.hard}) + "\n"
        for i in evaluation_items()
    )
    path.write_bytes("".join(lines).encode())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each value, operation and word; words stand between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [*SPECIAL.values(), *map(str, range(MODULUS)), *ANSWERS, *OPERATIONS, *WORDS]
    core = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=SPECIAL["unk_token"])
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast_tokenizer(core, MAX_LENGTH)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of 0.34 M parameters with random weights that depend on ``seed`` alone (float32, CPU)."""
    return tiny_llama(tokenizer, "chains", seed, hidden=128, inner=256, heads=4)


def main() -> None:
    """``--write PATH``: the evaluation items."""
    parser = argparse.ArgumentParser(prog="python -m cipo_trainer.chains", description=write_items.__doc__)
    parser.add_argument("--write", type=Path, metavar="PATH", required=True)
    write_items(parser.parse_args().write)


if __name__ == "__main__":
    main()
