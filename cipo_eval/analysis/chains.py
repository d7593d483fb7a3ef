"""Chains of turns, and as arrays: what every figure of attempts and their revisions is made of.

``chains_of`` puts stored attempts together, ``Chains.of`` makes arrays of those that are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.majority import Votes
from cipo_eval.records import Attempt, AttemptKey, Mode, Verdict
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol
from cipo_eval.verifiers.critique import RIGHT, WRONG, counts_as_right

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Chain = tuple[Attempt, ...]
"""An attempt and its revisions, turn by turn, with the judgements between them where a protocol has such."""


def label(verdict: Verdict) -> str | None:
    """What an attempt votes for: its answer in normal form, else as it was written; None abstains."""
    return verdict.canonical if verdict.canonical is not None else verdict.extracted


def chains_of(attempts: Iterable[Attempt], protocol: Protocol) -> list[Chain]:
    """All chains of a protocol that have their first turn, ordered by problem and sample.

    A chain ends where the next turn is not there; a turn without its predecessor is left out.
    """
    by_key = {attempt.key: attempt for attempt in attempts}
    start = DIRECT if protocol.own else protocol.name
    chains = []
    for key, first in sorted(by_key.items()):
        if key.turn != 1 or key.protocol != start:
            continue
        chain = [first]
        while following := by_key.get(
            AttemptKey(key.task, key.problem, protocol.name, key.sample, len(chain) + 1)
        ):
            chain.append(following)
        chains.append(tuple(chain))
    return chains


def attempts_of(chain: Chain, protocol: Protocol) -> Chain:
    """A chain without the judgements in it."""
    return chain[::2] if protocol.judges else chain


def complete_chains(chains: Sequence[Chain], protocol: Protocol, mode: Mode, turns: int) -> list[Chain]:
    """The chains of which no turn that should be there is missing, each as far as it counts.

    Where only wrong attempts are revised, what follows a right one (a verdict may have changed) does not count.
    """
    complete: list[Chain] = []
    for chain in chains:
        counted = list(chain[: protocol.last_turn(turns)])
        whole = len(counted) == protocol.last_turn(turns)
        if protocol.only_wrong:
            end = next((i for i, a in enumerate(counted) if a.verdicts[mode.value].correct), None)
            counted = counted if end is None else counted[: end + 1]
            whole = end is not None or len(counted) == turns
        if whole:
            complete.append(tuple(counted))
    return complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """First attempts of the model itself, by problem: what revising is compared with."""

    attempts: IntArray
    """How many there are at each problem, shape (problems,)."""
    right: IntArray
    """How many of them are right, shape (problems,)."""
    among: bool = True
    """The chains begin with them; otherwise with somebody else's."""
    votes: Sequence[Votes] | None = None
    """Answers of the same attempts (``metrics.majority``), one entry a problem; None: there is no vote."""
    tokens: float = 0.0
    """Mean tokens of one; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """The first judgement of each chain, shape (chains,) each."""

    wrong: BoolArray
    """Whether the attempt that is judged is wrong."""
    says_wrong: BoolArray
    """Whether the judgement says so."""
    says_right: BoolArray
    """Whether it says the opposite; one that cannot be read says neither."""

    @classmethod
    def of(cls, chains: Sequence[Chain], mode: Mode) -> Judgements:
        """Of chains with a judgement at their second turn. ``paper`` mode takes one that cannot be read for the
        opposite of the truth, as CriticBench (arXiv:2402.14809) does."""
        words = [chain[1].verdicts[mode.value].extracted for chain in chains]
        wrong = np.array([not counts_as_right(chain[0].verdicts[mode.value], mode) for chain in chains])
        says_wrong = np.array([word == WRONG for word in words])
        says_right = np.array([word == RIGHT for word in words])
        if mode is Mode.PAPER:
            unread = ~says_wrong & ~says_right
            says_wrong, says_right = says_wrong | (unread & ~wrong), says_right | (unread & wrong)
        return cls(wrong=wrong, says_wrong=says_wrong, says_right=says_right)

    def only(self, rows: BoolArray) -> Judgements:
        """Those of some chains. ``rows``: shape (chains,)."""
        return Judgements(
            wrong=self.wrong[rows], says_wrong=self.says_wrong[rows], says_right=self.says_right[rows]
        )


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: parts of it are cached
class Chains:
    """Complete chains as arrays, one row each; first attempts alone are chains of one turn.

    Raises ``ValueError`` for shapes that do not fit, or rows without a first turn.
    """

    problem: IntArray
    """Number of the problem, shape (chains,)."""
    right: BoolArray
    """Whether the attempt of each turn is right, shape (chains, turns)."""
    asked: BoolArray
    """Whether the turn took place, shape (chains, turns). After the last one the attempt stands as it was."""
    same: BoolArray | None = None
    """Whether a turn's answer is that of the turn before, shape (chains, turns − 1)."""
    tokens: IntArray | None = None
    """Tokens that were generated at each turn, with those of the judgement before it, shape (chains, turns)."""
    names: Sequence[str] = ()
    """Names of problems, by the number that ``problem`` has; empty: they have none."""
    fresh: Fresh | None = None
    """The model's own first attempts, by the number that ``problem`` has; None: the chains' first turns."""
    judgements: Judgements | None = None
    """Where the protocol has such."""
    item: IntArray | None = None
    """Number of the pool's attempt that a chain begins with, shape (chains,); None: the model's own."""

    def __post_init__(self) -> None:
        shape = self.right.shape
        if len(shape) != 2 or shape[1] < 1 or self.problem.shape != shape[:1]:
            raise ValueError(f"needs (chains, turns), got {shape} for {self.problem.shape} problems")
        for name, expected in (
            ("asked", shape),
            ("same", (shape[0], shape[1] - 1)),
            ("tokens", shape),
            ("item", shape[:1]),
        ):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise ValueError(f"{name} has shape {array.shape}, not {expected}")
        if shape[0] and (not self.asked[:, 0].all() or (self.asked[:, 1:] > self.asked[:, :-1]).any()):
            raise ValueError("each chain has its first turn, and no turn after one that it lacks")

    @classmethod
    def of(
        cls,
        chains: Sequence[Chain],
        protocol: Protocol,
        mode: Mode,
        turns: int,
        *,
        first: Iterable[Attempt] = (),
        votes: bool = False,
    ) -> Chains:
        """Of ``complete_chains``. ``first``: the model's own first attempts; ``votes``: their answers can be put to a
        vote.

        A judgement counts with the tokens of the attempt that follows.
        """
        names = sorted({chain[0].problem for chain in chains})
        numbers = {name: number for number, name in enumerate(names)}
        right, asked = np.zeros((len(chains), turns), bool), np.zeros((len(chains), turns), bool)
        same, tokens = np.zeros((len(chains), turns - 1), bool), np.zeros((len(chains), turns), np.int64)
        for row, chain in enumerate(chains):
            verdicts = [attempt.verdicts[mode.value] for attempt in attempts_of(chain, protocol)]
            for t, verdict in enumerate(verdicts):
                right[row, t], asked[row, t] = verdict.correct, True
                if t:
                    answer = label(verdict)
                    same[row, t - 1] = answer is not None and answer == label(verdicts[t - 1])
            for place, turn in enumerate(chain):
                t = (place + 1) // 2 if protocol.judges else place
                tokens[row, t] += turn.completion_tokens or 0
        item = None
        if not protocol.own:  # an attempt of a pool is known by its problem and its text
            texts = [(chain[0].problem, chain[0].prompt_hash) for chain in chains]
            places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            item = np.array([places[text] for text in texts], dtype=np.int64)
        return cls(
            problem=np.array([numbers[chain[0].problem] for chain in chains], dtype=np.int64),
            right=right,
            asked=asked,
            same=same,
            tokens=tokens,
            names=tuple(names),
            fresh=_fresh(names, first, mode, among=protocol.own, votes=votes),
            judgements=Judgements.of(chains, mode) if protocol.judges else None,
            item=item,
        )

    def __len__(self) -> int:
        return len(self.problem)

    def only(self, rows: BoolArray) -> Chains:
        """Some of the chains. ``rows``: shape (chains,)."""
        return Chains(
            problem=self.problem[rows],
            right=self.right[rows],
            asked=self.asked[rows],
            same=None if self.same is None else self.same[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            names=self.names,
            fresh=self.fresh,
            judgements=None if self.judgements is None else self.judgements.only(rows),
            item=None if self.item is None else self.item[rows],
        )

    @property
    def turns(self) -> int:
        """Attempts of a whole chain."""
        return int(self.right.shape[1])

    @cached_property
    def state(self) -> BoolArray:
        """Right or not after each turn, shape (chains, turns): a turn that did not take place leaves what was there."""
        state = self.right.copy()
        for turn in range(1, state.shape[1]):
            state[:, turn] = np.where(self.asked[:, turn], self.right[:, turn], state[:, turn - 1])
        return state

    def after(self, turn: int) -> BoolArray:
        """Whether the attempt is right after a turn, counted from 1; after the last one where there are fewer. Shape
        (chains,)."""
        return np.asarray(self.state[:, min(turn, self.turns) - 1], dtype=bool)

    @property
    def revised(self) -> BoolArray:
        """Whether the first attempt was asked again, shape (chains,)."""
        return np.asarray(self.asked[:, 1] if self.turns > 1 else np.zeros(len(self), bool), dtype=bool)

    @property
    def either(self) -> BoolArray:
        """Whether the first attempt or its revision is right, where there was one; shape (chains,)."""
        return np.asarray((self.right & self.asked)[:, :2].any(axis=1), dtype=bool)

    # --- by problem: those that have chains, in the order of their numbers

    @cached_property
    def _grouped(self) -> tuple[IntArray, IntArray, IntArray]:
        numbers, place, counts = np.unique(self.problem, return_inverse=True, return_counts=True)
        return numbers, place, counts

    @property
    def problems(self) -> list[str]:
        """Names of the problems that have chains."""
        return [self.names[number] for number in self._grouped[0]]

    @property
    def place(self) -> IntArray:
        """Of each chain its problem's place among those that have chains, shape (chains,)."""
        return self._grouped[1]

    @property
    def counts(self) -> IntArray:
        """Chains of each problem, shape (problems,)."""
        return self._grouped[2]

    def total(self, values: NDArray[np.generic]) -> IntArray:
        """How many chains of each problem have something, shape (problems,). ``values``: shape (chains,)."""
        return np.bincount(self.place, weights=np.asarray(values, np.float64)).astype(np.int64)

    def mean(self, values: NDArray[np.generic]) -> FloatArray:
        """Mean over the chains of each problem, shape (problems,), so that problems weigh the same. ``values``: shape
        (chains,)."""
        sums = np.bincount(self.place, weights=np.asarray(values, np.float64))
        return np.asarray(sums / self.counts, dtype=np.float64)

    @cached_property
    def own(self) -> Fresh:
        """The model's own first attempts at the problems that have chains, shape (problems,) each."""
        if self.fresh is None:
            return Fresh(attempts=self.counts, right=self.total(self.state[:, 0]))
        numbers, fresh = self._grouped[0], self.fresh
        return Fresh(
            attempts=fresh.attempts[numbers],
            right=fresh.right[numbers],
            among=fresh.among,
            votes=None if fresh.votes is None else [fresh.votes[number] for number in numbers],
            tokens=fresh.tokens,
        )


def _fresh(names: Sequence[str], first: Iterable[Attempt], mode: Mode, *, among: bool, votes: bool) -> Fresh:
    """The model's own first attempts at some problems, in the order of their names."""
    by_problem: dict[str, list[Attempt]] = {name: [] for name in names}
    for attempt in first:
        if attempt.problem in by_problem:
            by_problem[attempt.problem].append(attempt)
    answers = [
        [(label(verdict), verdict.correct) for a in attempts if (verdict := a.verdicts[mode.value])]
        for attempts in by_problem.values()
    ]
    tokens = [a.completion_tokens or 0 for attempts in by_problem.values() for a in attempts]
    return Fresh(
        attempts=np.array([len(of_problem) for of_problem in answers], dtype=np.int64),
        right=np.array([sum(right for _, right in of_problem) for of_problem in answers], dtype=np.int64),
        among=among,
        votes=answers if votes else None,
        tokens=float(np.mean(tokens)) if tokens else 0.0,
    )


def first_attempts(attempts: Iterable[Attempt], mode: Mode, *, votes: bool = False) -> Chains:
    """The model's own first attempts as chains of one turn, ordered by problem and sample."""
    direct, attempts = PROTOCOLS[DIRECT], list(attempts)
    return Chains.of(chains_of(attempts, direct), direct, mode, 1, first=attempts, votes=votes)
