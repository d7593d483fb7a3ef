"""The world of ``cipo-eval demo``: arithmetic problems in four levels, and a tiny model that can learn them on a CPU.

A problem reads ``37+48=``; a completion shows its working, lowest digit first, and then the final answer::

    7+8=15 3+4+1=8 \\boxed{85}

Levels: 1 one-digit, 2 two-digit and 3 three-digit sums and differences, 4 two digits times one digit. All numbers are
non-negative. The 200 evaluation items are a fixed sample, 50 per level, and the training stream leaves them out (by
problem text; the twin 48+37 may be trained on).

Left out on purpose: a chat template (this is a base model), and byte-level fallback (what is not printable ASCII or a
newline becomes ``<unk>``).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cipo_eval.records import Problem, derive_seed
from cipo_eval.turns.revising import tagged
from cipo_trainer.config import Shape
from cipo_trainer.worlds.family import Family, Pair
from cipo_trainer.worlds.tiny import SPECIAL, fast_tokenizer, tiny_llama

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""The characters the tokenizer knows, one token each: newline and printable ASCII."""

ITEMS_PER_LEVEL = 50
EVALUATION_SEED = 2605
MAX_LENGTH = 256
"""Context of the demo model in tokens. A problem with its completion needs fewer than 64; the rest is for prompts that
quote an attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of problem: ``a op b`` with both operands drawn uniformly from inclusive ranges."""

    name: str
    """Prefix of item ids."""
    level: int
    op: str
    a: tuple[int, int]
    b: tuple[int, int]
    weight: float
    """Share in the training stream, relative to the other kinds."""


KINDS = (
    Kind(name="add1", level=1, op="+", a=(0, 9), b=(0, 9), weight=0.5),
    Kind(name="sub1", level=1, op="-", a=(0, 9), b=(0, 9), weight=0.5),
    Kind(name="add2", level=2, op="+", a=(10, 99), b=(10, 99), weight=1),
    Kind(name="sub2", level=2, op="-", a=(10, 99), b=(10, 99), weight=1),
    Kind(name="add3", level=3, op="+", a=(100, 999), b=(100, 999), weight=1),
    Kind(name="sub3", level=3, op="-", a=(100, 999), b=(100, 999), weight=1),
    Kind(name="mul1", level=4, op="*", a=(10, 99), b=(2, 9), weight=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem with its answer; a line of ``tasks/arithmetic.jsonl``."""

    id: str
    problem: str
    answer: str
    level: int


def _operands(kind: Kind, rng: random.Random) -> tuple[int, int]:
    a, b = rng.randint(*kind.a), rng.randint(*kind.b)
    return (max(a, b), min(a, b)) if kind.op == "-" else (a, b)


def _digits(number: int, width: int) -> list[int]:
    """Lowest digit first, with zeros up to ``width``."""
    return [int(digit) for digit in reversed(str(number).zfill(width))]


def _sum_columns(a: int, b: int) -> Iterator[str]:
    width, carry = len(str(max(a, b))), 0
    for x, y in zip(_digits(a, width), _digits(b, width), strict=True):
        total = x + y + carry
        yield f"{x}+{y}{'+1' if carry else ''}={total}"
        carry = total // 10


def _difference_columns(a: int, b: int) -> Iterator[str]:
    """For a ≥ b; a column that borrows shows its upper digit with ten added."""
    width, borrow = len(str(a)), 0
    for digit, y in zip(_digits(a, width), _digits(b, width), strict=True):
        lent = int(digit < y + borrow)
        x = digit + 10 * lent
        yield f"{x}-{y}{'-1' if borrow else ''}={x - y - borrow}"
        borrow = lent


def _product_columns(a: int, b: int) -> Iterator[str]:
    """``a`` times the single digit ``b``."""
    carry = 0
    for x in _digits(a, len(str(a))):
        total = x * b + carry
        yield f"{x}*{b}{f'+{carry}' if carry else ''}={total}"
        carry = total // 10


def _solve(a: int, op: str, b: int) -> tuple[int, Iterator[str]]:
    """The answer, and the steps of the working."""
    if op == "+":
        return a + b, _sum_columns(a, b)
    if op == "-":
        return a - b, _difference_columns(a, b)
    return a * b, _product_columns(a, b)


def _draw(kind: Kind, rng: random.Random) -> tuple[str, int, Iterator[str]]:
    a, b = _operands(kind, rng)
    return f"{a}{kind.op}{b}=", *_solve(a, kind.op, b)


def evaluation_items() -> list[Item]:
    """The built-in evaluation items: distinct problems, the levels interleaved so that the first n are a mix."""
    rng = random.Random(derive_seed("arithmetic", "evaluation", EVALUATION_SEED))
    levels = sorted({kind.level for kind in KINDS})
    items: list[Item] = []
    count = dict.fromkeys((kind.name for kind in KINDS), 0)
    seen: set[str] = set()
    for turn in range(ITEMS_PER_LEVEL):
        for level in levels:
            kinds = [kind for kind in KINDS if kind.level == level]
            kind = kinds[turn % len(kinds)]
            problem, answer, _ = _draw(kind, rng)
            while problem in seen:
                problem, answer, _ = _draw(kind, rng)
            seen.add(problem)
            count[kind.name] += 1
            item_id = f"{kind.name}-{count[kind.name]:03d}"
            items.append(Item(id=item_id, problem=problem, answer=str(answer), level=level))
    return items


@functools.cache
def evaluation_prompts() -> frozenset[str]:
    """Problem texts of the evaluation items: what a training stream leaves out."""
    return frozenset(item.problem for item in evaluation_items())


def problem_at(position: int, *, seed: int) -> Problem:
    """The problem for reinforcement learning at a position of an endless stream."""
    text, answer, _ = _draw_at("problem", position, seed)
    return Problem(
        task="arithmetic",
        id=f"{text}{position}",
        index=position,
        question=text,
        prompt=text,
        gold=str(answer),
        options={"kind": "integer"},
    )


def pair_at(position: int, *, seed: int, corrections: float = 0.0) -> Pair:
    """The row for supervised training at a position: a problem with its working.

    ``corrections``: share of rows whose prompt also shows an attempt, two of three times with a slip in one step, and
    asks to go through it (the ``self`` protocol, inline, with the short templates of ``trainer/configs/prompts``).
    """
    text, answer, steps = _draw_at("pair", position, seed)
    working = [*steps]
    whole = f"{' '.join(working)} \\boxed{{{answer}}}"
    rng = random.Random(derive_seed("arithmetic", "correction", seed, position))
    if rng.random() >= corrections:
        return text, whole
    return (
        f"{text}\n{tagged('attempt', _slipped(working, answer, rng) if rng.random() < 2 / 3 else whole)}\nAgain:",
        whole,
    )


def _draw_at(what: str, position: int, seed: int) -> tuple[str, int, Iterator[str]]:
    rng = random.Random(derive_seed("arithmetic", what, seed, position))
    (kind,) = rng.choices(KINDS, [kind.weight for kind in KINDS])
    pair = _draw(kind, rng)
    while pair[0] in evaluation_prompts():
        pair = _draw(kind, rng)
    return pair


def _slipped(steps: list[str], answer: int, rng: random.Random) -> str:
    """A working in which one step's result is off by one, and the answer with it."""
    at = rng.randrange(len(steps))
    off = rng.choice((-1, 1)) if answer >= 10**at else 1
    left, _, result = steps[at].partition("=")
    wrong = [*steps[:at], f"{left}={abs(int(result) + off)}", *steps[at + 1 :]]
    return f"{' '.join(wrong)} \\boxed{{{answer + off * 10**at}}}"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character of ``ALPHABET``; ``decode(encode(text)) == text`` for every text over it.

    Nothing is added at the ends: the model sees exactly the characters of the prompt.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate([*SPECIAL.values(), *ALPHABET])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return fast_tokenizer(core, MAX_LENGTH)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of 0.26 M parameters with random weights that depend on ``seed`` alone (float32, CPU).

    Head size 32 is the smallest that vLLM's CPU kernels take.
    """
    return tiny_llama(tokenizer, Arithmetic.name, seed, Arithmetic.shape)


class Arithmetic(Family):
    """The family; it has no dial."""

    name: ClassVar[str] = "arithmetic"
    summary: ClassVar[str] = "sums, differences and products, made by this project; needs no data"
    items: ClassVar[int] = ITEMS_PER_LEVEL * len({kind.level for kind in KINDS})
    shape: ClassVar[Shape] = Shape(layers=2, hidden=96, inner=288, heads=3)

    def problem_at(self, position: int, *, seed: int) -> Problem:
        return problem_at(position, seed=seed)

    def pair_at(self, position: int, *, seed: int, corrections: float = 0.0) -> Pair:
        return pair_at(position, seed=seed, corrections=corrections)

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer()

    def is_held_out(self, text: str) -> bool:
        """By text: these items are older than the rule of the other families."""
        return text in evaluation_prompts()

    def rows(self) -> Iterator[dict[str, Any]]:
        for item in evaluation_items():
            yield {"id": item.id, "problem": item.problem, "answer": item.answer, "level": item.level}

    def definition(self) -> dict[str, Any]:
        columns = {"question": "problem", "gold": "answer", "id": "id"}
        return {"cipo": {"options": {"kind": "integer"}, "columns": columns, "breakdown": ["level"]}}
