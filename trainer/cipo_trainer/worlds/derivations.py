"""Problems that are a start and a list of operations, solved by writing one word after the other; a noisy teacher.

Each word follows from an operation and the state that the word before it left. The warm start imitates a *noisy
teacher*: at each entry (operation, state) it is right with probability Q; otherwise it writes mostly one fixed wrong
word (a systematic error), else any other (a slip). A share of the entries is hard, with a low Q. Errors are carried on.

Rows for corrections show one of the teacher's attempts; what is learned copies it up to its first wrong step, draws
that step again, never the word that it sees there, and derives the rest anew. ``location`` and ``redraw`` say how much
of that is known.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from cipo_eval.records import Problem
from cipo_eval.turns.revising import tagged
from cipo_trainer.worlds.family import DRAWS, Family, Pair, draws

AGAIN, WRONG = "Again:", "Wrong:"
"""How ``self.txt`` and ``oracle.txt`` of ``trainer/configs/prompts`` ask: a word each, so that an attempt stands at the
same distance from its correction under both. With a word more, small models did not learn to copy it."""

Task = tuple[str, tuple[str, ...]]
"""Start and operations."""


class Derivations(Family):
    """A family of such problems; the dial of its teacher."""

    options: ClassVar[Mapping[str, str]]
    """What the verifier must know beside the gold."""

    steps: int = Field(default=10, ge=1, le=64)
    """Number of operations of a problem."""
    hard: float = Field(default=0.1, ge=0, le=1)
    """Share of entries that are hard."""
    low: float = Field(default=0.0, ge=0, le=1)
    """Q of a hard entry is uniform between this and ``high``."""
    high: float = Field(default=0.15, ge=0, le=1)
    easy: float = Field(default=0.99, gt=0, le=1)
    """Q of the others."""
    systematic: float = Field(default=0.9, ge=0, le=1)
    """Share of errors that are the entry's one wrong word; 0: pure slips."""
    right: float = Field(default=0.35, ge=0, le=1)
    """Rows for corrections: share that shows an attempt without an error, which is copied."""
    location: float = Field(default=1.0, ge=0, le=1)
    """Rows for corrections: share of wrong attempts whose first wrong step is known; in others any step is taken for
    it."""
    redraw: Literal["step", "attempt"] = "step"
    """Rows for corrections. attempt: nothing is known of where the error is; what is learned is another attempt of the
    teacher's that the verifier finds right, as a model could collect it by itself."""

    world: int = Field(default=0, ge=0)
    """Which entries are hard, how hard they are, and their wrong words: another number is another world."""
    one_hard: bool = False
    """Problems and rows of a training have exactly one hard entry on their right way."""

    told: float = Field(default=0.0, ge=0, le=1)
    """Rows for corrections: share of attempts with a wrong result that are said to be wrong, as the protocols `oracle`
    and, where tests judge, `feedback` do."""

    _entries: dict[tuple[str, str], tuple[float, str]] = PrivateAttr(default_factory=dict)

    # --- what a family says of itself ------------------------------------------------------------------------

    @abstractmethod
    def starts(self) -> Sequence[str]: ...

    @abstractmethod
    def operations(self) -> Sequence[str]: ...

    @abstractmethod
    def words(self) -> Sequence[str]:
        """All that may be written after an operation."""

    @abstractmethod
    def apply(self, operation: str, state: str) -> str:
        """The right word of a step: what an operation makes of a state."""

    @abstractmethod
    def state(self, word: str) -> str:
        """What a word leaves to the next step."""

    @abstractmethod
    def mistakes(self, operation: str, state: str) -> Sequence[str]:
        """Plausible wrong words, of which an entry has one."""

    @abstractmethod
    def text(self, words: Sequence[str]) -> str:
        """The completion that writes these words out."""

    @abstractmethod
    def is_right(self, task: Task, words: Sequence[str]) -> bool:
        """Whether the verifier would judge an attempt of these words right."""

    @abstractmethod
    def gold(self, task: Task) -> str:
        """The gold answer that the verifier judges by."""

    # --- the teacher -----------------------------------------------------------------------------------------

    def entry(self, operation: str, state: str) -> tuple[float, str]:
        """Q, and the entry's wrong word. The same for all seeds of a training: it is part of the world."""
        key = operation, state
        if key not in self._entries:
            of_world = ("world", self.world) if self.world else ()
            rng = draws(self.name, "entry", operation, state, *of_world)
            hard = rng.random() < self.hard
            q = self.low + (self.high - self.low) * rng.random() if hard else self.easy
            self._entries[key] = q, rng.choice(self.mistakes(operation, state))
        return self._entries[key]

    def step(self, operation: str, state: str, rng: random.Random, seen: str | None = None) -> str:
        """The word that the teacher writes for a step; never ``seen``."""
        q, wrong = self.entry(operation, state)
        for _ in range(DRAWS):
            if rng.random() < q:
                word = self.apply(operation, state)
            elif rng.random() < self.systematic:
                word = wrong
            else:
                word = rng.choice(self.words())
            if word != seen:
                return word
        return rng.choice([other for other in self.words() if other != seen])

    def attempt(self, task: Task, rng: random.Random, before: Sequence[str] = ()) -> list[str]:
        """Its words, after those that stand already; an error is carried on."""
        start, operations = task
        words = list(before)
        for operation in operations[len(words) :]:
            words.append(self.step(operation, self.state(words[-1]) if words else start, rng))
        return words

    def solve(self, task: Task) -> list[str]:
        """The right words of all steps."""
        start, operations = task
        words: list[str] = []
        for operation in operations:
            words.append(self.apply(operation, self.state(words[-1]) if words else start))
        return words

    def first_wrong(self, task: Task, words: Sequence[str]) -> int | None:
        """The first step that does not follow from the one before it."""
        start, operations = task
        for at, operation in enumerate(operations):
            if words[at] != self.apply(operation, self.state(words[at - 1]) if at else start):
                return at
        return None

    def corrected(self, task: Task, words: Sequence[str], rng: random.Random) -> list[str]:
        """What is learned where an attempt is shown; a right attempt stays as it is."""
        at = self.first_wrong(task, words)
        if at is None:
            return list(words)
        if self.redraw == "attempt":
            for _ in range(DRAWS):
                attempt = self.attempt(task, rng)
                if self.is_right(task, attempt):
                    return attempt
            return self.solve(task)
        if rng.random() >= self.location:
            at = rng.randrange(self.steps)
        start, operations = task
        state = self.state(words[at - 1]) if at else start
        return self.attempt(task, rng, [*words[:at], self.step(operations[at], state, rng, seen=words[at])])

    # --- problems and rows -----------------------------------------------------------------------------------

    def prompt(self, task: Task) -> str:
        """The problem as it is asked."""
        return " ".join([task[0], *task[1], "="])

    def draw(self, rng: random.Random, *, held_out: bool) -> Task:
        starts, operations = self.starts(), self.operations()
        for _ in range(DRAWS):
            task = starts[rng.randrange(len(starts))], tuple(rng.choices(operations, k=self.steps))
            if self.is_held_out(self.prompt(task)) != held_out:
                continue
            if held_out or not self.one_hard or self._count_hard(task) == 1:
                return task
        raise RuntimeError("no problem of the wanted side was drawn")

    def as_problem(self, task: Task, position: int) -> Problem:
        """For training, at a position of its stream."""
        text = self.prompt(task)
        return Problem(
            task=self.name,
            id=f"{text}{position}",
            index=position,
            question=text,
            prompt=text,
            gold=self.gold(task),
            options=self.options,
        )

    def problem_at(self, position: int, *, seed: int) -> Problem:
        return self.as_problem(
            self.draw(draws(self.name, "problem", seed, position), held_out=False), position
        )

    def pair_at(self, position: int, *, seed: int, corrections: float = 0.0) -> Pair:
        rng = draws(self.name, "pair", seed, position)
        task = self.draw(rng, held_out=False)
        prompt = self.prompt(task)
        if rng.random() >= corrections:
            return prompt, self.text(self.attempt(task, rng))
        words = self.solve(task)
        if rng.random() >= self.right:
            for _ in range(DRAWS):
                words = self.attempt(task, rng)
                if self.first_wrong(task, words) is not None:
                    break
        return self._row(task, words, rng)

    def _row(self, task: Task, words: Sequence[str], rng: random.Random) -> Pair:
        """What shows an attempt, and its correction."""
        instruction = AGAIN
        if self.told and rng.random() < self.told and not self.is_right(task, words):
            instruction = self.telling(task, words, rng)
        shown = f"{self.prompt(task)}\n{tagged('attempt', self.text(words))}\n{instruction}"
        return shown, self.text(self.corrected(task, words, rng))

    @property
    def share_right(self) -> float:
        return self.right

    def judged(self, problem: str, attempt: str) -> bool | None:
        words = self.read(attempt)
        return None if words is None else self.first_wrong(_task(problem), words) is None

    def correction_of(self, problem: str, attempt: str, rng: random.Random) -> Pair:
        words = self.read(attempt)
        assert words is not None
        return self._row(_task(problem), words, rng)

    def read(self, attempt: str) -> list[str] | None:
        """The words of a text that is in the form of ``text``; None for any other."""
        words = self.split(attempt)
        in_form = len(words) == self.steps and self.text(words) == attempt.strip()
        return words if in_form and set(self.words()).issuperset(words) else None

    @abstractmethod
    def split(self, attempt: str) -> list[str]:
        """The words of a text in the form of ``text``; of another one anything."""

    def telling(self, task: Task, words: Sequence[str], rng: random.Random) -> str:  # noqa: ARG002  for other families
        """How a wrong attempt is said to be wrong."""
        return WRONG

    def rows(self) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for position in range(2 * self.items):
            task = self.draw(draws(self.name, "evaluation", position), held_out=True)
            prompt = self.prompt(task)
            if prompt in seen:
                continue
            seen.add(prompt)
            yield {**self.item(f"{self.name[:-1]}-{len(seen):04d}", task), "hard": self._hard(task)}
            if len(seen) == self.items:
                return

    @abstractmethod
    def item(self, name: str, task: Task) -> dict[str, Any]:
        """A row of the task's data."""

    def _hard(self, task: Task) -> str:
        """Hard entries on the right way: ``0``, ``1`` or ``2 or more``."""
        count = self._count_hard(task)
        return str(count) if count < 2 else "2 or more"

    def _count_hard(self, task: Task) -> int:
        states = [task[0], *map(self.state, self.solve(task))]
        return sum(self.entry(*e)[0] < self.easy for e in zip(task[1], states, strict=False))


def _task(prompt: str) -> Task:
    """The problem that is asked so."""
    start, *operations, _ = prompt.split()
    return start, tuple(operations)
