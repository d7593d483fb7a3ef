"""Chains of turns, and as arrays: what every figure of attempts and their revisions is made of.

``chains_of`` puts stored attempts together, ``Chains.of`` makes arrays of those that are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.majority import Tally
from cipo_eval.records import Attempt, Mode, State
from cipo_eval.storage.attempts import Attempts, BoolArray, IntArray
from cipo_eval.storage.numbers import SAID_RIGHT, SAID_SOMETHING, SAID_WRONG, STATES, UNKNOWN
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol

FloatArray = NDArray[np.float64]
Chain = tuple[Attempt, ...]
"""An attempt and its revisions, turn by turn, with the judgements between them where a protocol has such."""


@dataclass(frozen=True, eq=False)  # no slots: parts of it are cached
class StoredChains:
    """Chains of a protocol as they are stored, ordered by problem and sample. Iterating reads whole attempts."""

    attempts: Attempts
    """The attempts that ``places`` refers to: those of all chains, and possibly others."""
    places: IntArray
    """Index into ``attempts`` of each turn's attempt, shape (chains, turns); −1 after a chain's end."""

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Chain]:
        there = self.places >= 0
        attempts = iter(self.attempts.only(self.places[there]))
        for length in self.lengths.tolist():
            yield tuple(next(attempts) for _ in range(length))

    @cached_property
    def lengths(self) -> IntArray:
        """Number of turns of each chain, shape (chains,)."""
        return np.asarray((self.places >= 0).sum(axis=1), dtype=np.int64)

    @property
    def problem(self) -> IntArray:
        """The number of each chain's problem, shape (chains,)."""
        return np.asarray(self.attempts.column("problem")[self.places[:, 0]], dtype=np.int64)

    def only(self, chains: BoolArray | IntArray) -> StoredChains:
        """The chains that a mask of shape (chains,) or an array of indices selects."""
        return replace(self, places=self.places[chains])

    def turn(self, turn: int, values: NDArray[Any], otherwise: Any = 0) -> NDArray[Any]:
        """Values of attempts, given in the order of ``attempts``, at a turn (from 1) of each chain: shape (chains,);
        ``otherwise`` where a chain has no such turn."""
        if turn > self.places.shape[1]:
            return np.full(len(self), otherwise, values.dtype)
        places = self.places[:, turn - 1]
        return np.where(places >= 0, values[places], values.dtype.type(otherwise))

    def complete(self, protocol: Protocol, mode: Mode, turns: int) -> StoredChains:
        """The chains of which no turn that should be there is missing, each as far as it counts.

        Where only wrong attempts are revised, what follows a right one (a verdict may have changed) does not count.
        """
        counted, whole = self._counted(protocol, mode, turns)
        return replace(self, places=counted[whole])

    def unfinished(self, protocol: Protocol, mode: Mode, turns: int) -> StoredChains:
        """The chains that ``complete`` leaves out, as they are stored."""
        return self.only(~self._counted(protocol, mode, turns)[1])

    def _counted(self, protocol: Protocol, mode: Mode, turns: int) -> tuple[IntArray, BoolArray]:
        """Places as far as turns count, and which chains have all of theirs."""
        last = protocol.last_turn(turns)
        places = self.places[:, :last].copy()
        lengths = (places >= 0).sum(axis=1)
        if not protocol.only_wrong or not len(self):
            return places, np.asarray(lengths == last, dtype=bool)
        right = (places >= 0) & self.attempts.verdicts(mode, "correct")[places]
        ends = np.where(right.any(axis=1), right.argmax(axis=1), places.shape[1])
        places[np.arange(places.shape[1]) > ends[:, None]] = -1
        return places, np.asarray(right.any(axis=1) | (lengths == turns), dtype=bool)


def chains_of(attempts: Iterable[Attempt], protocol: Protocol) -> StoredChains:
    """All chains of a protocol that have their first turn, ordered by problem and sample.

    A chain ends where the next turn is not there; a turn without its predecessor is left out.
    """
    attempts = Attempts.of(attempts).latest()
    of, turn = attempts.column("protocol"), attempts.column("turn")
    begun = of == attempts.number_of("protocol", DIRECT if protocol.own else protocol.name)
    firsts = np.flatnonzero(begun & (turn == 1))
    columns = [firsts[attempts.only(firsts).order()]]
    own = of == attempts.number_of("protocol", protocol.name)
    if not (own & (turn > 1)).any():  # as it is of first attempts alone, of which there may be millions
        return StoredChains(attempts, columns[0][:, None])
    samples = int(attempts.column("sample").max(initial=0)) + 1
    names = len(attempts.words("problem"))
    chain = (attempts.column("task").astype(np.int64) * names + attempts.column("problem")) * samples
    chain += attempts.column("sample")  # a number for each chain
    while len(columns[-1]) and (columns[-1] >= 0).any():
        following = np.flatnonzero(own & (turn == len(columns) + 1))
        if not len(following):
            break
        following = following[np.argsort(chain[following])]
        known, wanted = chain[following], chain[columns[0]]
        at = np.minimum(np.searchsorted(known, wanted), len(following) - 1)
        there = (known[at] == wanted) & (columns[-1] >= 0)
        columns.append(np.where(there, following[at], -1))
    return StoredChains(attempts, np.stack(columns, axis=1))


def attempts_of(chain: Chain, protocol: Protocol) -> Chain:
    """A chain without the judgements in it."""
    return chain[::2] if protocol.judges else chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """First attempts of the model itself, by problem: what revising is compared with."""

    attempts: IntArray
    """Number of first attempts at each problem, shape (problems,)."""
    right: IntArray
    """Number of right first attempts at each problem, shape (problems,)."""
    among: bool = True
    """Whether the chains begin with these attempts; otherwise they begin with somebody else's."""
    votes: Sequence[Tally] | None = None
    """How the answers of the same attempts divide (``metrics.majority``), one entry a problem; None: there is no
    vote."""
    tokens: float = 0.0
    """Mean number of generated tokens of a first attempt; 0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """The first judgement of each chain, shape (chains,) each."""

    wrong: BoolArray
    """Whether the attempt that is judged is wrong."""
    says_wrong: BoolArray
    """Whether the judgement says so."""
    says_right: BoolArray
    """Whether the judgement says that the attempt is right; one that cannot be read says neither."""
    true: BoolArray
    """Whether the judgement is true; where it names a step, whether it names the right one."""

    @classmethod
    def of(cls, chains: StoredChains, mode: Mode, *, locates: bool = False) -> Judgements:
        """The judgements of chains that have one at their second turn, which ``locates`` the first wrong step or says
        right or wrong. ``paper`` mode takes one that cannot be read for the opposite of the truth, as CriticBench
        (arXiv:2402.14809) does."""
        attempts = chains.attempts
        said = chains.turn(2, attempts.verdicts(mode, "said"))
        wrong = ~chains.turn(1, _counts_as_right(attempts, mode))
        says_wrong, says_right = said == (SAID_SOMETHING if locates else SAID_WRONG), said == SAID_RIGHT
        true = chains.turn(2, attempts.verdicts(mode, "correct"))
        if mode is Mode.PAPER and not locates:
            unread = ~says_wrong & ~says_right
            says_wrong, says_right = says_wrong | (unread & ~wrong), says_right | (unread & wrong)
        return cls(wrong=wrong, says_wrong=says_wrong, says_right=says_right, true=true)

    def only(self, rows: BoolArray) -> Judgements:
        """The judgements of the chains that a mask of shape (chains,) selects."""
        return Judgements(
            wrong=self.wrong[rows],
            says_wrong=self.says_wrong[rows],
            says_right=self.says_right[rows],
            true=self.true[rows],
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
    """The first judgement of each chain; None: the protocol has no judgements."""
    item: IntArray | None = None
    """Number of the pool's attempt that a chain begins with, shape (chains,); None: the model's own."""
    beside: FloatArray | None = None
    """Whether the same attempt of the pool was made right (1) or not (0) by the protocol that this one is compared
    with, shape (chains,); NaN where that lacks it. None: there is no such protocol."""

    def __post_init__(self) -> None:
        shape = self.right.shape
        if len(shape) != 2 or shape[1] < 1 or self.problem.shape != shape[:1]:
            raise ValueError(f"needs (chains, turns), got {shape} for {self.problem.shape} problems")
        for name, expected in (
            ("asked", shape),
            ("same", (shape[0], shape[1] - 1)),
            ("tokens", shape),
            ("item", shape[:1]),
            ("beside", shape[:1]),
        ):
            array = getattr(self, name)
            if array is not None and array.shape != expected:
                raise ValueError(f"{name} has shape {array.shape}, not {expected}")
        if shape[0] and (not self.asked[:, 0].all() or (self.asked[:, 1:] > self.asked[:, :-1]).any()):
            raise ValueError("each chain has its first turn, and no turn after one that it lacks")

    @classmethod
    def of(
        cls,
        chains: StoredChains,
        protocol: Protocol,
        mode: Mode,
        turns: int,
        *,
        first: Iterable[Attempt] = (),
        votes: bool = False,
        beside: tuple[Protocol, Attempts] | None = None,
    ) -> Chains:
        """Arrays of ``complete`` chains. ``first``: the model's own first attempts; ``votes``: their answers can be
        put to a vote; ``beside``: the protocol that this one is compared with, and its attempts.

        A judgement counts with the tokens of the attempt that follows, where one does.
        """
        attempts = chains.attempts
        words = attempts.words("problem")
        there = np.bincount(chains.problem, minlength=len(words)) > 0
        names = sorted(words[number] for number in np.flatnonzero(there))
        places = {name: place for place, name in enumerate(names)}
        rank = np.array([places.get(word, -1) for word in words], np.int64)
        right, asked = np.zeros((len(chains), turns), bool), np.zeros((len(chains), turns), bool)
        same, tokens = np.zeros((len(chains), turns - 1), bool), np.zeros((len(chains), turns), np.int64)
        correct, label = (attempts.verdicts(mode, name) for name in ("correct", "label"))
        spent = _known(attempts.column("completion_tokens"))
        for turn in range(1, chains.places.shape[1] + 1):
            t = min(turn // 2 if protocol.judges else turn - 1, turns - 1)
            tokens[:, t] += chains.turn(turn, spent)
            if protocol.is_judgement(turn):
                continue
            right[:, t], asked[:, t] = chains.turn(turn, correct), chains.places[:, turn - 1] >= 0
            if t:
                answer = chains.turn(turn, label)
                before = chains.turn(turn - (2 if protocol.judges else 1), label)
                same[:, t - 1] = (answer != 0) & (answer == before)
        return cls(
            problem=rank[chains.problem],
            right=right,
            asked=asked,
            same=same,
            tokens=tokens,
            names=tuple(names),
            fresh=_fresh(names, Attempts.of(first), mode, among=protocol.own, votes=votes),
            judgements=Judgements.of(chains, mode, locates=protocol.locates) if protocol.judges else None,
            item=None if protocol.own else _items(chains),
            beside=None if beside is None else _beside(chains, *beside, mode),
        )

    def __len__(self) -> int:
        return len(self.problem)

    def only(self, rows: BoolArray) -> Chains:
        """The chains that a mask of shape (chains,) selects."""
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
            beside=None if self.beside is None else self.beside[rows],
        )

    @property
    def turns(self) -> int:
        """Number of turns of a whole chain."""
        return int(self.right.shape[1])

    @cached_property
    def state(self) -> BoolArray:
        """Whether the answer that stands after each turn is right, shape (chains, turns): a turn that did not take
        place leaves the answer before it."""
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
        """Whether the first attempt was followed by a revision, shape (chains,)."""
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
        """Index of each chain's problem among those that have chains, shape (chains,)."""
        return self._grouped[1]

    @property
    def counts(self) -> IntArray:
        """Number of chains of each problem, shape (problems,)."""
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


def _items(chains: StoredChains) -> IntArray:
    """Of each chain the number of the pool's attempt that it begins with, which is known by its problem and its text;
    in the order of their first chains, shape (chains,)."""
    prompts = chains.turn(1, chains.attempts.column("prompt"))
    texts = np.stack([chains.problem.astype(np.uint64), prompts.astype(np.uint64)], axis=1)
    _, begins, item = np.unique(texts, axis=0, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(begins))[item.ravel()], dtype=np.int64)


def _beside(chains: StoredChains, protocol: Protocol, attempts: Attempts, mode: Mode) -> FloatArray:
    """Of each chain whether the chain of another protocol that begins with the same attempt of the pool, under the same
    number, was right after its first step; NaN where there is none. Shape (chains,)."""

    def keys(of: StoredChains) -> list[tuple[str, int, int]]:
        words = of.attempts.words("problem")
        columns = (of.turn(1, of.attempts.column(name)).tolist() for name in ("sample", "prompt"))
        return list(zip((words[number] for number in of.problem), *columns, strict=True))

    others = chains_of(attempts, protocol).complete(protocol, mode, 2)
    right = others.turn(2, others.attempts.verdicts(mode, "correct"))
    known = dict(zip(keys(others), right.astype(float).tolist(), strict=True))
    return np.array([known.get(key, np.nan) for key in keys(chains)], dtype=np.float64)


def _known(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts of tokens, 0 where they are not known."""
    return np.where(counts == UNKNOWN, 0, counts)


def _counts_as_right(attempts: Attempts, mode: Mode) -> BoolArray:
    """``critique.counts_as_right`` of many attempts, shape (attempts,)."""
    correct = attempts.verdicts(mode, "correct")
    if mode is not Mode.PAPER:
        return np.asarray(correct, dtype=bool)
    report = attempts.verdicts(mode, "report")
    labels = [of.get("label") for of in attempts.decoded("report")]
    known = np.array([label is not None for label in labels] + [False])[
        report
    ]  # −1, no report, is the last one
    labelled = np.array([bool(label) for label in labels] + [False])[report]
    return np.asarray(np.where(known, labelled, correct), dtype=bool)


def _fresh(names: Sequence[str], first: Attempts, mode: Mode, *, among: bool, votes: bool) -> Fresh:
    """The model's own first attempts at some problems, in the order of their names."""
    places = {name: place for place, name in enumerate(names)}
    of_word = np.array([places.get(word, -1) for word in first.words("problem")], dtype=np.int64)
    place = of_word[first.column("problem")] if len(first) else np.zeros(0, np.int64)
    there = place >= 0
    place, correct = place[there], first.verdicts(mode, "correct")[there]
    tokens = _known(first.column("completion_tokens"))[there]
    label = first.verdicts(mode, "label")[there]
    return Fresh(
        attempts=np.bincount(place, minlength=len(names)),
        right=np.bincount(place[correct], minlength=len(names)),
        among=among,
        votes=tallies(place, label, correct, len(names)) if votes else None,
        tokens=float(np.mean(tokens)) if len(tokens) else 0.0,
    )


def tallies(problem: IntArray, label: NDArray[Any], correct: BoolArray, problems: int) -> list[Tally]:
    """How the answers at each problem divide. ``problem``: numbers below ``problems``, ``label``: hashes of answers (0
    abstains), ``correct``: shape (attempts,) each."""
    attempts = np.bincount(problem, minlength=problems)
    right = np.bincount(problem[correct], minlength=problems)
    voting = ~correct & (label != 0)
    order = np.lexsort((label[voting], problem[voting]))
    of, answer = problem[voting][order], label[voting][order]
    new = np.append(True, (of[1:] != of[:-1]) | (answer[1:] != answer[:-1]))[: len(of)]
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(of)))
    by_problem: list[list[int]] = [[] for _ in range(problems)]
    for place, size in zip(of[starts].tolist(), sizes.tolist(), strict=True):
        by_problem[place].append(size)
    counted = zip(by_problem, attempts.tolist(), right.tolist(), strict=True)
    return [
        Tally(good, tuple(sorted(wrong, reverse=True)), every - good - sum(wrong))
        for wrong, every, good in counted
    ]


def states(chains: StoredChains, mode: Mode, turn: int) -> dict[str, int]:
    """How many attempts (or judgements) of a turn ended in each state."""
    there = chains.places[:, turn - 1] >= 0 if turn <= chains.places.shape[1] else np.zeros(len(chains), bool)
    state = chains.turn(turn, chains.attempts.verdicts(mode, "state"))[there]
    counts = np.bincount(state, minlength=len(STATES)).tolist()
    return dict(zip((s.value for s in State), counts, strict=True))


def first_attempts(attempts: Iterable[Attempt], mode: Mode, *, votes: bool = False) -> Chains:
    """The model's own first attempts as chains of one turn, ordered by problem and sample."""
    direct, attempts = PROTOCOLS[DIRECT], Attempts.of(attempts)
    return Chains.of(chains_of(attempts, direct), direct, mode, 1, first=attempts, votes=votes)
