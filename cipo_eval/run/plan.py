"""What is asked of one task in a run, and what of it must stay the same for attempts to belong together."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cipo_eval.analysis.selection import Extent, Selection
from cipo_eval.data.dates import BETWEEN
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import ProblemSet, TaskSpec, task_dir
from cipo_eval.records import (
    AttemptKey,
    Problem,
    Request,
    Sampling,
    Turn,
    derive_seed,
    derive_seeds,
    fingerprint,
)
from cipo_eval.turns.fewshot import FewShot
from cipo_eval.turns.protocols import DIRECT, Protocol
from cipo_eval.turns.revising import Revising

if TYPE_CHECKING:
    from cipo_eval.run.shards import Share
    from cipo_eval.turns.pools import PoolItem


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task of a run: its problems and how they are sampled."""

    problems: ProblemSet
    samples: int
    """First attempts at each problem."""
    sampling: Sampling
    limit: int | None = None
    """How many problems are asked for, the first of those that count; None: all of them."""
    scope: Scope | None = None
    """The problems that count; None: all."""
    system_prompt: str | None = None
    fewshot: FewShot = FewShot()  # noqa: RUF009  it is frozen
    """The worked examples before each problem; by default none."""
    think: str = "strip"
    """Which thoughts do not count (``texts.think_tags``); ``keep``: all do."""
    allow_unsafe: bool = False
    """Programs may run where they cannot be confined."""
    revising: Revising = Revising()  # noqa: RUF009  it is frozen
    """What follows the first turn; by default nothing."""
    available: Mapping[str, int] | None = None
    """By problem, how many corrections of its attempts a file has: no attempt of a pool is corrected a second time that
    the file does not. None: as often as there are samples."""
    share: Share | None = None
    """Which conversations belong to the shard that is asked for; None: all."""
    harness: str | None = None
    """Version of the reference harness that ``paper`` mode follows; None: the verifier's choice for the task."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.problems.spec.name

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """The data set, with the verifier options of this run."""
        options: dict[str, Any] = {"think": self.think} if self.think != "strip" else {}
        options |= {"harness": self.harness} if self.harness else {}
        options |= {"allow_unsafe": True} if self.allow_unsafe else {}
        if not options:
            return self.problems.problems
        return tuple(replace(p, options={**p.options, **options}) for p in self.problems.problems)

    @property
    def selected(self) -> tuple[Problem, ...]:
        """The problems that are asked for: the first of those that count."""
        scope = self.scope
        admitted = [p for p in self.all_problems if scope is None or scope.admits(p)]
        return tuple(admitted[: self.limit])

    @property
    def released(self) -> str:
        """When the golds that count became public; empty: not known."""
        scope = self.scope
        if scope is None or not scope.start or not scope.end:
            return self.problems.spec.released
        last = datetime.date.fromisoformat(scope.end) - datetime.timedelta(days=1)
        return f"{scope.start}{BETWEEN}{last}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Named results of the problems' tests, such as ``base`` and ``plus``."""
        return tuple(dict.fromkeys(name for p in self.selected for name in p.options.get("parts", ())))

    def messages(self, problem: Problem, *, given: bool = False) -> tuple[dict[str, str], ...]:
        """The messages that ask a problem, before a first attempt; ``given``: one that is not the model's own."""
        system = ({"role": "system", "content": self.system_prompt},) if self.system_prompt else ()
        prompt = (given and problem.given_prompt) or problem.prompt
        return (*system, *self.fewshot.messages(prompt))

    @property
    def extent(self) -> Extent:
        """How much is asked for, of every protocol of this plan."""
        return Extent(samples=self.samples, limit=self.limit, scope=self.scope, turns=self.revising.turns)

    @property
    def selection(self) -> Selection:
        """What of a run's attempts is part of what this plan asks for."""
        names = [protocol.name for protocol in self.revising.protocols]
        if self.revising.generates_first:
            names.append(DIRECT)
        return Selection(
            task=self.name,
            extents=dict.fromkeys(names, self.extent),
            problems={p.id: p.metadata for p in self.problems.problems},
            pooled=self.pooled,
            shares=self.share.samples if self.share else None,
        )

    @property
    def pooled(self) -> dict[str, dict[str, int]]:
        """By protocol that corrects a pool and by problem, how many attempts the pool has; empty without a pool."""
        if self.revising.pool is None:
            return {}
        counts = {p.id: len(self.revising.given(self.name, p.id)) for p in self.problems.problems}
        return {protocol.name: counts for protocol in self.revising.protocols if not protocol.own}

    @property
    def conversations(self) -> dict[str, int]:
        """By problem, how many conversations there are: those about a pool's attempts under the same number as one
        that the model begins are dealt out together with it."""
        own = self.samples if self.revising.generates_first else 0
        given = any(not protocol.own for protocol in self.revising.protocols)
        counts = {}
        for problem in self.selected:
            pooled = len(self.revising.given(self.name, problem.id)) if given else 0
            counts[problem.id] = max(own, pooled * self.samples)
        return counts

    @property
    def first_attempts(self) -> int:
        """How many first attempts the model makes. Whether others follow, their verdicts tell."""
        return self.selection.first_attempts

    @property
    def most_later_attempts(self) -> int:
        """Attempts of later turns if none of them ends a chain early."""
        return sum(count for (_, turn), count in self.most_by_turn.items() if turn > 1)

    @property
    def most_by_turn(self) -> dict[tuple[str, int], int]:
        """By protocol and turn, attempts that the model makes if none of them ends a chain early; those at turn 1 are
        shared by all protocols that begin with the model's own."""
        pooled = Counter(key.protocol for problem in self.selected for key, _ in self.given(problem))
        counts = {(DIRECT, 1): self.first_attempts} if self.revising.generates_first else {}
        for protocol in self.revising.protocols:
            chains = self.first_attempts if protocol.own else pooled[protocol.name]
            turns = range(2, protocol.last_turn(self.revising.turns) + 1)
            counts |= {(protocol.name, turn): chains for turn in turns}
        return counts

    def given(self, problem: Problem) -> list[tuple[AttemptKey, PoolItem]]:
        """The pool's attempts at a problem, each as often as there are samples, with the keys that they get as turn 1:
        more samples of the same pool only add keys."""
        items = self.revising.given(self.name, problem.id)
        most = len(items) * self.samples
        if self.available is not None:
            most = max(len(items), min(most, self.available.get(problem.id, 0)))
        start, stop = self.share.of(problem.id) if self.share else (0, most)
        return [
            (AttemptKey(self.name, problem.id, protocol.name, number, 1), items[number % len(items)])
            for protocol in self.revising.protocols
            if not protocol.own
            for number in range(start, min(stop, most))
        ]

    def first(self, problem: Problem, samples: Sequence[int], seed: int) -> Request:
        """The request for these first attempts at a problem; ``seed`` is the run's."""
        return Request(
            problem=problem,
            messages=self.messages(problem),
            samples=tuple(samples),
            seeds=derive_seeds((seed, self.name, problem.id, DIRECT), samples, 1),
            sampling=self.sampling,
        )

    def next(
        self, problem: Problem, protocol: Protocol, sample: int, history: Sequence[Turn], seed: int
    ) -> Request | None:
        """The request for the turn after these of one chain; None where the chain ends. ``seed`` is the run's."""
        if not self.revising.asks(protocol, history):
            return None
        turn = len(history) + 1
        first = self.messages(problem, given=not protocol.own)
        error_end = None
        if protocol.cut is not None:
            items = self.revising.given(self.name, problem.id)
            error_end = items[sample % len(items)].error_end if items else None
        messages, carried = self.revising.messages(protocol, first, history, error_end)
        return Request(
            problem=problem,
            messages=messages,
            samples=(sample,),
            seeds=(derive_seed(seed, self.name, problem.id, protocol.name, sample, turn),),
            sampling=self.sampling,
            protocol=protocol.name,
            turn=turn,
            history=tuple(history),
            carried=carried,
        )

    def identity(self) -> dict[str, Any]:
        """What must stay the same for attempts to belong together."""
        sampling = dataclasses.asdict(self.sampling)
        return {
            "data": self.problems.fingerprint,
            "prompts": fingerprint([self.messages(p) for p in self.problems.problems]),
            **self.fewshot.identity(),
            "verifier": self.problems.spec.verifier,
            "think": self.think,
            "harness": self.harness,
            "sampling": {**sampling, "stop": list(self.sampling.stop)},
            "protocols": self._protocols(),
        }

    def _protocols(self) -> dict[str, Any]:
        """Of each protocol; of those that do not begin with the task's prompt, also what they begin with."""
        protocols = self.revising.identity()
        if any(p.given_prompt for p in self.problems.problems):
            begun = fingerprint([self.messages(p, given=True) for p in self.problems.problems])
            for protocol in self.revising.protocols:
                protocols[protocol.name] |= {} if protocol.own else {"prompts": begun}
        return protocols


def definition_name(spec: TaskSpec) -> str:
    """What ``load_problems`` takes to find a task again: the name of a built-in one, the path of a user's."""
    return spec.name if spec.path.parent == task_dir() else str(spec.path)
