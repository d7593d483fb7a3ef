"""Which attempts count: what a run was asked for, and the attempts on its disk that belong to that.

A run directory may hold more than its last call asked for: samples of an earlier, larger call, problems outside of the
window that counts now, turns that a protocol no longer has. Every figure that any command prints goes through
``Selection``, so that all of them are made of the same attempts:

- The model's own first attempts count as far as the last call that asked for them went (its samples, its limit, its
  scope); a protocol's chains as far as the last call that named the protocol went.
- Revisions are compared with fresh first attempts: those that the protocol's own chains begin with; for chains that
  begin with somebody else's attempts, those that count as first attempts.
- An attempt without a verdict (its run was interrupted) is no attempt yet.

Nothing is ever deleted: asked for again, it counts again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cipo_eval.data.scope import Scope
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, AttemptKey
from cipo_eval.storage.attempts import Attempts, BoolArray, IntArray
from cipo_eval.storage.store import attempts_of_task, read_info, read_problems
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol, partners


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of one protocol was asked for when it last was."""

    samples: int | None
    """Samples of each problem; None: the run does not say, and all that are stored count."""
    limit: int | None = None
    """The first so many problems of the scope; None: all."""
    scope: Scope | None = None
    """Problems that count; None: all."""
    turns: int = 1
    """Number of attempts of a whole chain."""

    def to_json(self) -> dict[str, Any]:
        """Its entries in ``run.json``, beside the other facts of a protocol."""
        scope = self.scope.to_text() if self.scope else None
        return {"turns": self.turns, "samples": self.samples, "limit": self.limit, "scope": scope}

    @classmethod
    def of(cls, facts: Mapping[str, Any], scope: str | None) -> Extent:
        """The extent that a protocol's facts in ``run.json`` say; ``scope``: the task's, for runs that noted it there
        only."""
        text = facts.get("scope", scope)
        return cls(
            samples=facts.get("samples"),
            limit=facts.get("limit"),
            scope=Scope.from_text(text) if text else None,
            turns=facts.get("turns", 1),
        )


@dataclass(frozen=True)  # no slots: parts of it are cached
class Selection:
    """What a run was asked for at one task."""

    task: str
    extents: Mapping[str, Extent]
    """By protocol; ``direct`` among them where first attempts of the model were asked for."""
    problems: Mapping[str, Mapping[str, Any]]
    """Metadata of the problems by id, in the order of the data: at least those that any extent includes. Empty: not
    known."""
    pooled: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of the pool's attempts that a protocol corrects, by protocol and problem, where that is known."""
    shares: Mapping[str, tuple[int, int]] | None = None
    """The samples of one shard of a run, by problem: the first, and the end (exclusive). None: the whole run."""

    @classmethod
    def stored(cls, task: str, facts: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> Selection:
        """What a run directory says: the task's entry in ``run.json``, and its problems (``store.read_problems``)."""
        scope = facts.get("scope")
        extents = {name: Extent.of(of, scope) for name, of in facts.get("protocols", {}).items()}
        if facts.get("direct", True):
            direct = {"samples": facts.get("samples"), "limit": facts.get("limit"), "scope": scope}
            extents[DIRECT] = Extent.of(direct, scope)
        pooled: dict[str, dict[str, int]] = {}
        for problem, row in rows.items():
            for protocol, count in row.get("pool", {}).items():
                pooled.setdefault(protocol, {})[problem] = count
        shares = {problem: _share(task, row["shard"]) for problem, row in rows.items() if "shard" in row}
        return cls(
            task=task,
            extents=extents,
            problems={problem: row.get("metadata", {}) for problem, row in rows.items()},
            pooled=pooled,
            shares=shares or None,
        )

    @cached_property
    def _asked(self) -> Mapping[str, frozenset[str] | None]:
        """By protocol, the problems that it was asked for; None: whatever is there."""
        return {name: frozenset(self.problems_of(name)) if self.problems else None for name in self.extents}

    def problems_of(self, protocol: str) -> tuple[str, ...]:
        """The problems that a protocol was asked for, in the order of the data; none where it was not. Of a shard,
        those of which it has a sample."""
        return tuple(p for p in self.problems_of_run(protocol) if self.range_of(p))

    def problems_of_run(self, protocol: str) -> tuple[str, ...]:
        """The problems that a protocol of the whole run was asked for, also where this is one shard of it."""
        extent = self.extents.get(protocol)
        if extent is None:
            return ()
        scope = extent.scope
        admitted = [p for p, of in self.problems.items() if scope is None or scope.admits_metadata(of)]
        return tuple(admitted[: extent.limit])

    def range_of(self, problem: str) -> range:
        """The samples of a problem that may count: all, unless this is a shard."""
        return range(sys.maxsize) if self.shares is None else range(*self.shares.get(problem, (0, 0)))

    def first_samples_of(self, problem: str) -> range:
        """The samples of first attempts that were asked for at a problem."""
        every = self.range_of(problem)
        return range(every.start, min(every.stop, self.first_samples))

    def _sampled(self, key: AttemptKey, protocol: str) -> bool:
        """Whether so many samples were asked for."""
        if key.sample not in self.range_of(key.problem):
            return False
        samples = self.extents[protocol].samples
        if samples is not None and not PROTOCOLS[protocol].own:
            items = self.pooled.get(protocol, {}).get(key.problem)
            samples = None if items is None else samples * items
        return samples is None or key.sample < samples

    def belongs(self, key: AttemptKey, protocol: str) -> bool:
        """Whether an attempt is part of a protocol's chains (of ``direct``: a first attempt) as they were asked for."""
        extent = self.extents.get(protocol)
        if extent is None:
            return False
        asked = self._asked[protocol]
        if asked is not None and key.problem not in asked:
            return False
        if protocol == DIRECT or (key.protocol == DIRECT and PROTOCOLS[protocol].own):
            return key.protocol == DIRECT and key.turn == 1 and self._sampled(key, protocol)
        within = key.turn <= PROTOCOLS[protocol].last_turn(extent.turns)
        return key.protocol == protocol and within and self._sampled(key, protocol)

    def wants(self, key: AttemptKey) -> bool:
        """Whether an attempt is part of anything that was asked for."""
        return any(self.belongs(key, protocol) for protocol in self.extents)

    @property
    def first_samples(self) -> int:
        """Number of first attempts that were asked for of each problem."""
        extent = self.extents.get(DIRECT)
        return (extent and extent.samples) or 0

    @property
    def first_attempts(self) -> int:
        """Number of first attempts that were asked for in all, stored or not."""
        if self.shares is None:
            return len(self.problems_of(DIRECT)) * self.first_samples
        return sum(len(self.first_samples_of(problem)) for problem in self.problems_of(DIRECT))

    def part_of(self, attempts: Attempts, protocol: str) -> BoolArray:
        """``belongs`` of many attempts, shape (attempts,)."""
        extent = self.extents.get(protocol)
        if extent is None:
            return np.zeros(len(attempts), bool)
        problem, sample, turn = (attempts.column(name) for name in ("problem", "sample", "turn"))
        of = attempts.column("protocol")
        part = np.ones(len(attempts), bool)
        if (asked := self._asked[protocol]) is not None:
            part &= np.array([name in asked for name in attempts.words("problem")], bool)[problem]
        own = PROTOCOLS[protocol].own
        if self.shares is not None:
            part &= self.shared(attempts)
        if extent.samples is not None:
            part &= sample < self._samples(attempts.words("problem"), protocol)[problem]
        first = (of == attempts.number_of("protocol", DIRECT)) & (turn == 1)
        if protocol == DIRECT:
            return np.asarray(part & first, dtype=bool)
        later = of == attempts.number_of("protocol", protocol)
        later &= turn <= PROTOCOLS[protocol].last_turn(extent.turns)
        return np.asarray(part & (first | later if own else later), dtype=bool)

    def shared(self, attempts: Attempts) -> BoolArray:
        """Which attempts are of conversations of this shard, shape (attempts,)."""
        if self.shares is None:
            return np.ones(len(attempts), bool)
        bounds = [self.shares.get(name, (0, 0)) for name in attempts.words("problem")]
        starts, stops = np.array(bounds, np.int64).reshape(-1, 2).T
        problem, sample = attempts.column("problem"), attempts.column("sample")
        return np.asarray((sample >= starts[problem]) & (sample < stops[problem]), dtype=bool)

    def _samples(self, problems: Sequence[str], protocol: str) -> IntArray:
        """How many samples were asked for of each problem, shape (problems,)."""
        samples = self.extents[protocol].samples or 0
        if PROTOCOLS[protocol].own:
            return np.full(len(problems), samples)
        pooled, all_of_them = self.pooled.get(protocol, {}), np.iinfo(np.int64).max
        return np.array([samples * pooled[p] if p in pooled else all_of_them for p in problems], np.int64)

    def wanted(self, attempts: Attempts) -> BoolArray:
        """``wants`` of many attempts, shape (attempts,)."""
        wanted = np.zeros(len(attempts), bool)
        for protocol in self.extents:
            wanted |= self.part_of(attempts, protocol)
        return wanted

    def select(self, attempts: Iterable[Attempt]) -> Selected:
        """The attempts that count, of all that are there."""
        every = Attempts.of(attempts)
        return Selected(selection=self, every=every.only(every.judged))


def _share(task: str, value: Any) -> tuple[int, int]:
    """What a problem's row says of its samples in a shard. Raises ``UsageError`` for what cannot be."""
    if isinstance(value, list | tuple) and [type(part) for part in value] == [int, int]:
        return value[0], value[1]
    raise UsageError(f"problems/{task}.jsonl names samples of a shard that there cannot be ({value!r:.60})")


@dataclass(frozen=True)  # no slots: parts of it are cached
class Selected:
    """The attempts of a run at a task that belong to what it was asked for."""

    selection: Selection
    every: Attempts
    """All stored attempts that have a verdict, whether they were asked for or not."""

    @cached_property
    def attempts(self) -> Attempts:
        """The attempts that belong to anything that was asked for, in the order of the file."""
        wanted = self.selection.wanted(self.every)
        return self.every if wanted.all() else self.every.only(wanted)

    @property
    def not_asked(self) -> int:
        """Number of stored attempts that were not asked for."""
        return len(self.every) - len(self.attempts)

    @cached_property
    def first(self) -> Attempts:
        """The model's own first attempts."""
        return self.of(DIRECT)

    def of(self, protocol: str) -> Attempts:
        """Attempts of a protocol's chains, the first turns that they begin with included."""
        part = self.selection.part_of(self.attempts, protocol)
        return self.attempts if part.all() else self.attempts.only(part)

    def fresh(self, protocol: str) -> Attempts:
        """The model's own first attempts that revisions of a protocol are compared with."""
        if not PROTOCOLS[protocol].own:
            return self.first
        chained = self.of(protocol)
        return chained.only(chained.column("protocol") == chained.number_of("protocol", DIRECT))

    def beside(self, protocol: str) -> tuple[Protocol, Attempts] | None:
        """The protocol of this run that one which continues attempts is compared with, and its attempts."""
        there = [name for name in partners(PROTOCOLS[protocol]) if name in self.selection.extents]
        return (PROTOCOLS[there[0]], self.of(there[0])) if there else None

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols with revisions that were asked for."""
        return tuple(name for name in self.selection.extents if name != DIRECT)

    def turns(self, protocol: str) -> int:
        """Attempts of a whole chain of a protocol."""
        return PROTOCOLS[protocol].attempts(self.selection.extents[protocol].turns)


def selected_attempts(
    run: Path, task: str, info: Mapping[str, Any] | None = None, *, shards: bool = False
) -> Selected:
    """The attempts of a run directory at a task that count; ``info``: its ``run.json`` where it was read already.

    Raises ``UsageError`` for a damaged file, where only some of the problems were asked for and the run does not say
    which, and for a shard, which must not pass for the whole run, unless ``shards`` are wanted.
    """
    info = read_info(run) if info is None else info
    if "shard" in info and not shards:
        raise UsageError(
            f"{run} is part {info['shard'].get('index')} of {info['shard'].get('of')} of a run: `cipo-eval merge` "
            "makes one of all parts (`cipo-eval merge SHARD… -o RUN`)"
        )
    facts = info["tasks"][task]
    selection = Selection.stored(task, facts, read_problems(run, task))
    attempts = attempts_of_task(run, task)
    if not selection.problems:
        _check_limits(run, selection, attempts)
    return selection.select(attempts)


def _check_limits(run: Path, selection: Selection, attempts: Attempts) -> None:
    """Without a list of problems a limit says something only where it is no limit."""
    there = len(np.unique(attempts.column("problem")))
    limits = [e.limit for e in selection.extents.values() if e.limit is not None]
    if limits and min(limits) < there:
        raise UsageError(
            f"{run} was asked for the first {min(limits)} problems of {selection.task}, has attempts at {there}, and "
            f"does not say which are the first (problems/{selection.task}.jsonl is not there): "
            f"`cipo-eval rescore {run}` writes it"
        )
