"""Tiny programs: instructions are translated into Python, line by line, and tests in the sandbox judge the whole.

A problem names the variable that is at hand, then operations on it; ``into-c`` stores it in another one, which is at
hand from then on. All arithmetic is modulo ten::

    a add-b plus-3 into-c mul-d sub-a =
    def f(a,b,c,d): a=(a+b)%10; a=(a+3)%10; c=a; c=(c*d)%10; c=(c-a)%10; return a,b,c,d

A wrong line is local, as in chains, but what counts is what the tests see: an error that a later line overwrites does
no harm. The first test is public, so the `feedback` protocol shows what a wrong program returned for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row
from cipo_eval.records import Problem, State, Verdict
from cipo_eval.sandbox.codec import encode
from cipo_eval.turns.revising import feedback
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet
from cipo_trainer.worlds.derivations import AGAIN, WRONG, Derivations, Task
from cipo_trainer.worlds.family import draws, vocabulary
from cipo_trainer.worlds.tiny import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MODULUS = 10
NAMES = "abcdefgh"
TESTS = 6
POOL = 4096
"""Distinct problems of a training stream: each has its tests in a file of the cache."""
SIGNS = {"add": "+", "sub": "-", "mul": "*"}
PIECES = r"def f\([a-h,]*\):|return [a-h,]+|[a-h]=[^;\s]*;|[a-z]+-[a-h\d]|\d+|[(),]|[^\s\d(),]+"
"""What a token is: a line of a program, a number, a bracket, a word."""
WORDS = (
    *("=", "<attempt>", "</attempt>", AGAIN, WRONG, "(", ")", ","),
    *("A", "test", "gave", "a", "wrong", "result.", "Input:", "Expected:", "Result:"),
    *(f"<{slash}{name}>" for name in ("input", "expected", "actual") for slash in ("", "/")),
)
"""What prompts of corrections are made of, beside programs and operations."""


class Programs(Derivations):
    """The dial of the programs."""

    name: ClassVar[str] = "programs"
    summary: ClassVar[str] = "instructions to be translated into tiny Python programs, made by this project"
    verifier: ClassVar[str] = "code"
    options: ClassVar[Mapping[str, str]] = {"entry_point": "f"}

    steps: int = Field(default=8, ge=1, le=64)
    variables: int = Field(default=4, ge=2, le=len(NAMES))

    def starts(self) -> Sequence[str]:
        return NAMES[: self.variables]

    def operations(self) -> Sequence[str]:
        return _operations(self.variables)

    def words(self) -> Sequence[str]:
        return _lines(self.variables)

    def apply(self, operation: str, state: str) -> str:
        return _line(operation, state)

    def state(self, word: str) -> str:
        return word[0]

    def mistakes(self, operation: str, state: str) -> Sequence[str]:
        """Another operand, an operator taken for another, a number off by one, an assignment the wrong way round."""
        verb, _, operand = operation.partition("-")
        if verb in ("plus", "times"):
            operations = [f"{verb}-{(int(operand) + by) % MODULUS}" for by in (-1, 1)]
        else:
            operations = [f"{verb}-{name}" for name in self.starts() if name != operand]
        operations += [f"{other}-{operand}" for other in SIGNS if verb in SIGNS and other != verb]
        lines = [_line(other, state) for other in operations]
        return [*lines, *([f"{state}={operand};"] if verb == "into" and operand != state else [])]

    def text(self, words: Sequence[str]) -> str:
        names = ",".join(self.starts())
        return " ".join([f"def f({names}):", *words, f"return {names}"])

    def split(self, attempt: str) -> list[str]:
        names = ",".join(self.starts())
        return attempt.strip().removeprefix(f"def f({names}):").removesuffix(f"return {names}").split()

    def is_right(self, task: Task, words: Sequence[str]) -> bool:
        inputs = self.inputs(task)
        return all(run(words, given) == run(self.solve(task), given) for given in inputs)

    def inputs(self, task: Task) -> list[tuple[int, ...]]:
        """Of the tests of a problem; they depend on its text alone."""
        rng = draws(self.name, "tests", self.prompt(task))
        return [tuple(rng.randrange(MODULUS) for _ in self.starts()) for _ in range(TESTS)]

    def tests(self, task: Task) -> TestSet:
        """The first is public."""
        inputs, right = self.inputs(task), self.solve(task)
        return _tests(inputs, [run(right, given) for given in inputs])

    def telling(self, task: Task, words: Sequence[str], rng: random.Random) -> str:
        """Half of them with what the verifier would show of the first test that fails."""
        if rng.random() < 0.5:
            return super().telling(task, words, rng)
        given = self.inputs(task)[0]
        expected, actual = run(self.solve(task), given), run(words, given)
        failure: dict[str, Any] = {"kind": "wrong_answer", "public": expected != actual}
        if expected != actual:
            failure |= {"input": ", ".join(map(repr, given)), "expected": expected, "actual": actual}
        verdict = Verdict(correct=False, state=State.INCORRECT, report={"failure": failure})
        return f"{feedback(verdict)}\n{AGAIN}"

    def problem_at(self, position: int, *, seed: int) -> Problem:
        task = self.draw(draws(self.name, "problem", seed, position % POOL), held_out=False)
        return self.as_problem(task, position)

    def gold(self, task: Task) -> str:
        return testsets.store(self.tests(task))

    def item(self, name: str, task: Task) -> dict[str, Any]:
        inputs = [list(given) for given in self.inputs(task)]
        outputs = [list(run(self.solve(task), given)) for given in inputs]
        return {"id": name, "problem": self.prompt(task), "inputs": inputs, "outputs": outputs}

    def definition(self) -> dict[str, Any]:
        return {"cipo": {"reader": "cipo_trainer.worlds.programs:read", "breakdown": ["hard"]}}

    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """One token for each line, operation, number and word."""
        names = ",".join(self.starts())
        digits = [str(number) for number in range(MODULUS)]
        starts = [name for name in self.starts() if name not in WORDS]  # the article is a variable, too
        ends = [f"def f({names}):", f"return {names}"]
        words = vocabulary(SPECIAL, self.words(), ends, starts, self.operations(), digits, WORDS)
        return word_tokenizer(words, PIECES, context=max(192, 12 * self.steps))


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """A row that ``Programs.item`` made."""
    return ReadProblem(
        id=row["id"],
        question=row["problem"],
        tests=_tests(row["inputs"], row["outputs"]),
        options=Programs.options,
        metadata={"hard": row["hard"]},
    )


def _tests(inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> TestSet:
    pairs = enumerate(zip(inputs, outputs, strict=True))
    tests = [Test(args=list(a), expected=encode(tuple(b)), public=n == 0) for n, (a, b) in pairs]
    group = Group(name="tests", tests=tuple(tests))
    return TestSet(kind=Kind.CALLS, groups=(group,), entry_point="f", cpu_seconds=2.0, memory=1 << 30)


def run(lines: Sequence[str], given: Sequence[int]) -> tuple[int, ...]:
    """What a program of these lines returns. For the generator alone, on lines that it made: attempts are judged in the
    sandbox, on what it says here."""
    values = dict(zip(NAMES, given, strict=False))
    for line in lines:
        target, expression = line[0], line[2:-1].removesuffix(f"%{MODULUS}").strip("()")
        left, sign, right = (expression[:1], expression[1:2], expression[2:])
        first = values[left]
        if sign:
            second = values[right] if right in values else int(right)
            first = first + second if sign == "+" else first - second if sign == "-" else first * second
        values[target] = first % MODULUS
    return tuple(values.values())


@lru_cache(maxsize=8)
def _operations(variables: int) -> tuple[str, ...]:
    names = NAMES[:variables]
    own = [f"{verb}-{name}" for verb in (*SIGNS, "into") for name in names]
    numbers = [f"plus-{k}" for k in range(MODULUS)] + [f"times-{k}" for k in range(MODULUS)]
    return (*own, *(n for n in numbers if n not in ("plus-0", "times-0", "times-1")))


@lru_cache(maxsize=4096)
def _line(operation: str, state: str) -> str:
    verb, _, operand = operation.partition("-")
    if verb == "into":
        return f"{operand}={state};"
    sign = SIGNS.get(verb) or {"plus": "+", "times": "*"}[verb]
    return f"{state}=({state}{sign}{operand})%{MODULUS};"


@lru_cache(maxsize=8)
def _lines(variables: int) -> tuple[str, ...]:
    names = NAMES[:variables]
    extra = ("plus-0", "times-0", "times-1")
    return tuple(dict.fromkeys(_line(o, n) for o in (*_operations(variables), *extra) for n in names))
