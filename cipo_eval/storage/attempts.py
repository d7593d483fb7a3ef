"""Attempts at hand: their numbers as columns, their texts read one after another when somebody asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cipo_eval.records import Attempt, AttemptKey, Mode, State
from cipo_eval.storage.numbers import NONE, STATES, WORDS, Numbers

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
KEY = ("task", "problem", "protocol", "sample", "turn")
"""The columns of an ``AttemptKey``."""
Read = Callable[[IntArray], Iterator[Attempt]]
"""The attempts of some rows of a table, in this order."""


@dataclass(frozen=True, eq=False)  # no slots: parts of it are cached
class Attempts(Sequence[Attempt]):
    """Some of the attempts of a table, in order. As a sequence it reads whole attempts (from a file, one at a time);
    what only counts and compares takes columns, and never sees a text."""

    numbers: Numbers
    rows: IntArray
    """Their rows in the table, shape (attempts,)."""
    read: Read
    distinct: bool = False
    """Whether it is known that no two have the same key."""

    @classmethod
    def of(cls, attempts: Iterable[Attempt]) -> Attempts:
        """Attempts that are in memory; what is such a sequence already stays as it is."""
        if isinstance(attempts, Attempts):
            return attempts
        kept, numbers = list(attempts), Numbers()
        for attempt in kept:
            numbers.add(attempt)
        return cls(numbers, np.arange(len(kept)), lambda rows: (kept[row] for row in rows))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Attempt]:
        return self.read(self.rows)

    @overload
    def __getitem__(self, place: int) -> Attempt: ...
    @overload
    def __getitem__(self, place: slice) -> Attempts: ...
    def __getitem__(self, place: int | slice) -> Attempt | Attempts:
        if isinstance(place, slice):
            return self.take(self.rows[place])
        return next(self.read(self.rows[[place]]))

    def take(self, rows: IntArray) -> Attempts:
        """Those of some rows of the table."""
        return Attempts(self.numbers, rows, self.read, self.distinct)

    def only(self, places: BoolArray | IntArray) -> Attempts:
        """Some of these: shape (attempts,) of truth values, or their places."""
        return self.take(self.rows[places])

    @cached_property
    def whole(self) -> bool:
        """Whether these are all rows of the table, in its order."""
        count = len(self.numbers)
        return len(self.rows) == count and bool((self.rows == np.arange(count)).all())

    def column(self, name: str) -> NDArray[Any]:
        """A column (``numbers.ATTEMPT``), shape (attempts,)."""
        values = self.numbers.column(name)
        return values if self.whole else values[self.rows]

    def verdicts(self, mode: Mode, name: str) -> NDArray[Any]:
        """A column of the verdicts in a mode (``numbers.VERDICT``), shape (attempts,)."""
        values = self.numbers.verdicts(mode, name)
        return values if self.whole else values[self.rows]

    def words(self, name: str) -> list[str]:
        """What the numbers in a column stand for."""
        return self.numbers.words[name].words

    def present(self, name: str) -> set[str]:
        """The words that they have in a column."""
        words = self.words(name)
        return {words[number] for number in np.unique(self.column(name)).tolist() if number != NONE}

    def number_of(self, name: str, word: str) -> int:
        """The number that stands for a word in a column; ``NONE`` where no row has it."""
        return self.numbers.words[name].find(word)

    @property
    def judged(self) -> BoolArray:
        """Whether they have a verdict in any mode, shape (attempts,)."""
        judged = np.zeros(len(self), bool)
        for mode in self.numbers.modes:
            judged |= self.verdicts(mode, "state") != NONE
        return judged

    def in_state(self, mode: Mode, state: State) -> BoolArray:
        """Whether their verdict in a mode says so, shape (attempts,)."""
        return np.asarray(self.verdicts(mode, "state") == STATES.index(state), dtype=bool)

    def decoded(self, name: str) -> list[dict[str, Any]]:
        """What the numbers in a column of JSON values stand for (``parts``, ``report``)."""
        return [dict(json.loads(word)) for word in self.words(name)]

    def each_key(self) -> Iterator[AttemptKey]:
        """Their identities."""
        tasks, problems, protocols = (self.words(name) for name in ("task", "problem", "protocol"))
        columns = [self.column(name).tolist() for name in ("task", "problem", "protocol", "sample", "turn")]
        for task, problem, protocol, sample, turn in zip(*columns, strict=True):
            yield AttemptKey(tasks[task], problems[problem], protocols[protocol], sample, turn)

    def is_at(self, key: AttemptKey) -> BoolArray:
        """Which of them have a key, shape (attempts,)."""
        at = (self.column("sample") == key.sample) & (self.column("turn") == key.turn)
        for name, word in (("task", key.task), ("problem", key.problem), ("protocol", key.protocol)):
            at &= self.column(name) == self.number_of(name, word)
        return np.asarray(at, dtype=bool)

    def _keys(self, *names: str, ranked: bool = False) -> IntArray:
        """A number for each that is the same for equal values in these columns only, and ordered as they are (of words
        by their numbers, or ``ranked``: by the alphabet); shape (attempts,)."""
        keys = np.zeros(len(self), np.int64)
        for name in names:
            column = self.column(name)
            if ranked and name in WORDS:
                column = self.rank(name)[column]
            keys *= int(column.max(initial=0)) + 1
            keys += column
        return keys

    def latest(self) -> Attempts:
        """Of attempts with the same key the last one, at the place of the first: what was judged again is appended."""
        if self.distinct:
            return self
        keys = self._keys(*KEY)
        inside = np.sort(keys)
        if not (inside[1:] == inside[:-1]).any():
            return replace(self, distinct=True)
        order = np.argsort(keys, kind="stable")
        ends = np.append(inside[1:] != inside[:-1], True)
        starts = np.append(True, ends[:-1])
        firsts, lasts = order[starts], order[ends]
        return replace(self, rows=self.rows[lasts[np.argsort(firsts, kind="stable")]], distinct=True)

    def in_order(self) -> Attempts:
        """The same, ordered as their keys are: by task, problem, protocol, sample and turn."""
        keys = self._keys(*KEY, ranked=True)
        return self if bool((keys[1:] >= keys[:-1]).all()) else self.only(np.argsort(keys, kind="stable"))

    def order(self) -> IntArray:
        """Their places in this order, shape (attempts,)."""
        return np.argsort(self._keys(*KEY, ranked=True), kind="stable")

    def rank(self, name: str) -> IntArray:
        """By number, the place of each word of a column in the alphabet."""
        words = self.words(name)
        rank = np.zeros(len(words), np.int64)
        rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
        return rank
