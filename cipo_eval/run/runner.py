"""The one loop: generate what is missing, judge it while more is generated, keep every attempt, then summarise.

``Run`` ties a run directory to what was asked. A directory belongs to one configuration (model, data, prompts,
decoding, seed, mode); what may change between calls is how much of it is wanted: more tasks, more problems, more
samples.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from cipo_eval.analysis.chains import StoredChains, chains_of
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.selection import Selected, Selection
from cipo_eval.engines.engine import Engine
from cipo_eval.engines.feed import Feed
from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Attempt, Completion, Failure, Mode, Problem, Request, State, Turn
from cipo_eval.run.chunks import StoredChunk, UnderWay, chunks_of_stored
from cipo_eval.run.info import bind
from cipo_eval.run.judging import Generated, Judging
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.progress import Progress
from cipo_eval.run.rescore import (
    judged_again,
    judgements,
    problems_of,
    with_judgements,
    without_verdict,
)
from cipo_eval.run.results import Measures, failures, framed, task_results
from cipo_eval.storage.attempts import Attempts, IntArray
from cipo_eval.storage.blocks import Block
from cipo_eval.storage.numbers import NONE
from cipo_eval.storage.store import RunStore, attempts_path, read_problems
from cipo_eval.turns.protocols import DIRECT, Protocol
from cipo_eval.verifiers.pool import VerifierPool

GRACE_SECONDS = 3.0
"""How long an interrupted run waits for the verdicts under way: schedulers kill soon after their signal."""
LOOK_SECONDS = 0.2
"""Between two looks at the verdicts that are waited for: an interrupt gets through in between."""
TOGETHER = 32
"""So many attempts that are judged are kept at once, if not a moment has passed before."""
NO_SAMPLES = np.zeros(0, np.int64)


class Run:
    """A run directory bound to what is asked of it now. Raises ``UsageError`` where the two do not fit.

    ``regrade``: the attempts stay and their verdicts are to be replaced, so mode, ``think`` and ``harness``
    may differ. ``figures``: of users' own, beside those of the table; ``cutoff``: when the model's training data ends.
    """

    def __init__(
        self,
        store: RunStore,
        plans: Sequence[TaskPlan],
        *,
        engine: Mapping[str, Any],
        seed: int,
        modes: Sequence[Mode],
        command: Sequence[str],
        bootstrap: int = 2000,
        ks: Sequence[int] | None = None,
        figures: Sequence[Figure] = (),
        cutoff: str | None = None,
        regrade: bool = False,
    ) -> None:
        self.store = store
        self.plans = list(plans)
        self.seed = seed
        self.modes = tuple(modes)
        self.measures = Measures(modes=self.modes, ks=ks, bootstrap=bootstrap, figures=figures)
        self.warnings = store.warnings
        self.warnings += [warning for plan in self.plans for warning in plan.problems.warnings]
        common = {
            "engine": dict(engine),
            "seed": seed,
            "modes": [m.value for m in modes],
        }
        self._results: dict[str, Any] | None = None
        """Of the attempts that are there; None: to be made."""
        self._failed: dict[str, Counter[str]] = {plan.name: Counter() for plan in self.plans}
        before = store.read_info()
        self.info = bind(store, self.plans, common, command, cutoff=cutoff, regrade=regrade)
        facts = self.info["tasks"]
        self._asked_otherwise = before is not None and any(
            before["tasks"].get(plan.name) != facts[plan.name] for plan in self.plans
        )
        self._plan_of = planned = {plan.name: plan for plan in self.plans}
        old = (store.read_results() or {}).get("tasks", {})
        self._other_results = {name: block for name, block in old.items() if name not in planned}
        self._selections = {plan.name: self._write_problems(plan) for plan in self.plans}
        for plan in self.plans:
            store.load(plan.name)  # what is damaged is said now

    def _write_problems(self, plan: TaskPlan) -> Selection:
        """Notes in the run's directory which problems were ever asked for, and returns what is asked for now."""
        stored = read_problems(self.store.path, plan.name)
        pooled = {name: dict(counts) for name, counts in plan.pooled.items()}
        rows = {}
        for problem in plan.problems.problems:
            row = _shown(plan, problem)
            pool = {name: counts[problem.id] for name, counts in pooled.items()}
            if pool := {**stored.get(problem.id, {}).get("pool", {}), **pool}:
                row["pool"] = pool
            if plan.share or "shard" in stored.get(problem.id, {}):
                row["shard"] = plan.share.of(problem.id) if plan.share else stored[problem.id]["shard"]
            rows[problem.id] = row
        selection = Selection.stored(plan.name, self.info["tasks"][plan.name], rows)
        selected = {p for protocol in selection.extents for p in selection.problems_of_run(protocol)}
        noted = {p: row for p, row in rows.items() if p in selected or p in stored}
        if noted != stored:
            self.store.write_problems(plan.name, list(noted.values()))
        return selection

    def selected(self, plan: TaskPlan) -> Selected:
        """The attempts that count: of this call, and of protocols that earlier calls asked for."""
        return self._selections[plan.name].select(self.store.load(plan.name))

    def missing(self, plan: TaskPlan) -> tuple[int, Iterator[Request]]:
        """How many attempts are not on disk yet, as far as they are known now, and the requests for them, which are
        made as they are taken."""
        stored = self.store.load(plan.name)
        problems = {p.id: p for p in plan.selected}
        there = present(stored, DIRECT)
        selection = plan.selection
        asked = {problem: selection.first_samples_of(problem) for problem in selection.problems_of(DIRECT)}
        lacking = {
            problem: len(samples)
            - int(
                ((done := there.get(problem, NO_SAMPLES)) < samples.stop).sum() - (done < samples.start).sum()
            )
            for problem, samples in asked.items()
        }
        chains = [(protocol, self._to_go_on(plan, protocol, stored)) for protocol in plan.revising.protocols]

        def requests() -> Iterator[Request]:
            for problem, count in lacking.items():
                if count:
                    samples = np.arange(asked[problem].start, asked[problem].stop)
                    wanted = np.setdiff1d(samples, there.get(problem, NO_SAMPLES))
                    yield plan.first(problems[problem], wanted.tolist(), self.seed)
            for protocol, unfinished in chains:
                for turns in unfinished:
                    history = [self._turn(attempt) for attempt in turns]
                    begun, sample = problems[turns[0].problem], turns[0].sample
                    if request := plan.next(begun, protocol, sample, history, self.seed):
                        yield request

        return sum(lacking.values()) + sum(len(unfinished) for _, unfinished in chains), requests()

    def _to_go_on(self, plan: TaskPlan, protocol: Protocol, stored: Attempts) -> StoredChains:
        """The chains of a protocol that are asked for and do not have all of their turns."""
        chains = chains_of(stored, protocol)
        wanted = plan.selection.wanted(stored) & stored.judged
        chains = chains.only(chains.turn(1, wanted, otherwise=False))
        return chains.unfinished(protocol, self.modes[0], plan.revising.turns)

    def _turn(self, attempt: Attempt) -> Turn:
        return Turn(attempt.text, {mode: attempt.verdicts[mode] for mode in self.modes})

    def given(self, plan: TaskPlan) -> list[Generated]:
        """Attempts of a pool that have no verdict here yet, with what the pool says of them: none is generated."""
        stored = self.store.load(plan.name)
        there = {
            (protocol.name, problem): set(samples.tolist())
            for protocol in plan.revising.protocols
            if not protocol.own
            for problem, samples in present(stored, protocol.name).items()
        }
        return [
            Generated(
                request=Request(
                    problem=problem,
                    messages=(),
                    samples=(key.sample,),
                    seeds=(0,),
                    sampling=plan.sampling,
                    protocol=key.protocol,
                ),
                sample=key.sample,
                completion=Completion(text=item.text, finish_reason=None),
                label=item.right,
            )
            for problem in plan.selected
            for key, item in plan.given(problem)
            if key.sample not in there.get((key.protocol, key.problem), ())
        ]

    def following(self, generated: Generated, attempt: Attempt) -> list[Request]:
        """What follows from an attempt that was just judged."""
        plan, request = self._plan_of[attempt.task], generated.request
        history = (*request.history, self._turn(attempt))
        following = [
            plan.next(request.problem, protocol, attempt.sample, history, self.seed)
            for protocol in plan.revising.protocols
            if plan.revising.follows(protocol, attempt.protocol, attempt.turn)
        ]
        return [request for request in following if request is not None]

    def execute(
        self, engine: Engine, pool: VerifierPool, progress: Progress, interrupts: Interrupts | None = None
    ) -> None:
        """Generates and judges what is missing; first judges again what has no verdict that holds.

        An interruption is no verdict: generating stops, verdicts under way are waited for at most ``GRACE_SECONDS``,
        and what has none by then is stored without, for the next start. An engine that fails stops generating as well;
        all verdicts are waited for, then its error is raised.
        """
        interrupts = interrupts or Interrupts()
        self._check_verdicts()
        unsure = {plan.name: self._unsure(plan) for plan in self.plans}
        if any(unsure.values()) or self._asked_otherwise:
            self._withdraw_results()
        for plan in self.plans:
            self._judge_again(plan, unsure[plan.name], pool, interrupts)
        follow = any(plan.revising.protocols for plan in self.plans)
        missing = [self.missing(plan) for plan in self.plans]
        feed = Feed(
            chain.from_iterable(requests for _, requests in missing),
            follow=follow,
            samples=sum(count for count, _ in missing),
        )
        pooled = [generated for plan in self.plans for generated in self.given(plan)]
        feed.expect(len(pooled))
        for plan in self.plans:
            progress.count_stored(self._wanted(plan), self.modes[0])
        progress.total = progress.done + feed.open
        progress.wanted_of = progress.done_of + Counter(
            generated.request.problem.task for generated in pooled
        )
        progress.wanted_of.update({p.name: count for p, (count, _) in zip(self.plans, missing, strict=True)})
        progress.changed(progress)
        if not feed.open:
            return
        self._withdraw_results()
        self._generate(engine, feed, pooled, Judging(self.plans, pool, self.modes), progress, interrupts)

    def _generate(
        self,
        engine: Engine,
        feed: Feed,
        pooled: Sequence[Generated],
        judging: Judging,
        progress: Progress,
        interrupts: Interrupts,
    ) -> None:
        """The loop: completions go to the verifiers, judged attempts to the store, what follows into the feed."""

        follow, looked = feed.follow, time.monotonic()

        def settle(seconds: float) -> None:
            """Keeps the attempts that are judged by now, or within so many seconds, and asks for what follows."""
            nonlocal looked
            looked = time.monotonic()
            with interrupts.allowed():
                judging.wait(seconds)
            with interrupts.held():
                judged: list[tuple[Generated, Attempt]] = []
                try:
                    for pair in judging.judged():
                        judged.append(pair)
                finally:
                    self._keep([attempt for _, attempt in judged])
                for generated, attempt in judged:
                    progress.count(attempt)
                    if follow:
                        requests = self.following(generated, attempt)
                        progress.total += len(requests)
                        progress.wanted_of[attempt.task] += len(requests)
                        feed.add(requests)
                if judged:
                    feed.done(len(judged))
                    progress.judging = judging.open
                    progress.changed(progress)

        def finish(seconds: float = float("inf")) -> None:
            """Waits for all verdicts that are under way, at most so long."""
            end = time.monotonic() + seconds
            while judging.open and time.monotonic() < end:
                settle(LOOK_SECONDS)

        def judge(generated: Generated) -> None:
            judging.submit(generated)
            progress.judging = judging.open
            if judging.ready >= TOGETHER or time.monotonic() > looked + LOOK_SECONDS / 4:
                settle(0)
            while judging.full:
                settle(LOOK_SECONDS)

        feed.settle = settle
        try:
            for generated in pooled:
                judge(generated)
            for request, sample, completion in interrupts.during(engine.generate(feed)):
                if isinstance(completion, Failure):
                    self._lost(request, completion, progress)
                    feed.done()
                else:
                    judge(Generated(request, sample, completion))
            finish()
        except KeyboardInterrupt:
            progress.stopping(judging.open)
            finish(GRACE_SECONDS)
            raise
        except Exception:  # an engine that fails must not take finished samples with it
            finish()
            raise
        finally:
            self._keep(list(judging.without_verdict()))
            self._note(engine)

    def _lost(self, request: Request, failure: Failure, progress: Progress) -> None:
        """Counts a sample that the engine could not get; nothing of it is stored."""
        self._failed[request.problem.task][failure.why] += 1
        progress.failed += 1
        progress.changed(progress)

    def _note(self, engine: Engine) -> None:
        """Keeps what an engine had to do otherwise than asked (a server that takes no seed) in ``run.json``."""
        tell = getattr(engine, "notes", None)
        notes: list[str] = tell() if tell else []
        adaptations = self.info.get("adaptations", [])
        if new := [note for note in notes if note not in adaptations]:
            self.info["adaptations"] = [*adaptations, *new]
            self.store.write_info(self.info)
        self.warnings += [note for note in notes if note not in self.warnings]

    def _unsure(self, plan: TaskPlan) -> Attempts:
        """Attempts that are asked for and have no verdict that holds."""
        stored = self.store.load(plan.name)
        return stored.only(plan.selection.wanted(stored) & without_verdict(stored))

    def _judge_again(
        self, plan: TaskPlan, unsure: Attempts, pool: VerifierPool, interrupts: Interrupts
    ) -> None:
        """Judges attempts again and appends those whose verdict is another one, and the judgements of them.

        Turns that follow from a verdict which has changed stay on disk and do not count (``StoredChains.complete``).
        """
        if not unsure:
            return
        stored = self.store.load(plan.name)
        chosen = with_judgements(unsure, stored)
        for before, attempt in judged_again(plan, chosen, pool, self.modes, interrupts, stored):
            if _states(before) != _states(attempt):
                self._keep([attempt])

    def results(self) -> dict[str, Any]:
        """The contents of ``results.json``: this call's tasks, and those of earlier calls as they stood."""
        if self._results is not None:
            return self._results
        tasks = {plan.name: task_results(plan, self.selected(plan), self.measures) for plan in self.plans}
        self._results = framed(self.store.path.name, self.info, {**self._other_results, **tasks})
        return self._results

    def _withdraw_results(self) -> None:
        """Figures of this call's tasks must not be read while their attempts change; the others stay."""
        if self._other_results:
            self.store.write_results(framed(self.store.path.name, self.info, self._other_results))
        else:
            self.store.drop_results()

    def _wanted(self, plan: TaskPlan) -> Attempts:
        """The attempts of all turns that this call asks for, and that are there."""
        return plan.selection.select(self.store.load(plan.name)).attempts

    def failures(self) -> list[str]:
        """What went wrong in attempts of this call, a line each."""
        return [
            line
            for plan in self.plans
            for line in failures(plan.name, self._wanted(plan), self._failed[plan.name])
        ]

    def rescore(self, pool: VerifierPool, progress: Progress, interrupts: Interrupts | None = None) -> None:
        """Judges every stored attempt of the planned tasks anew, in this run's modes. Nothing is generated."""
        interrupts = interrupts or Interrupts()

        def counted(judged: Iterator[tuple[Attempt, Attempt]]) -> Iterator[Attempt]:
            for _, attempt in judged:
                progress.count(attempt)
                progress.changed(progress)
                yield attempt

        def anew(plan: TaskPlan) -> Iterator[Attempt] | Iterator[Block]:
            stored = self.store.load(plan.name)
            progress.total += len(stored)
            if pool.is_quick(plan.problems.spec.verifier) and not judgements(stored).any():
                path, verifier = attempts_path(self.store.path, plan.name), plan.problems.spec.verifier
                chunks = chunks_of_stored(path, stored, problems_of(plan, stored), verifier, self.modes)
                return self._rescored(chunks, UnderWay(pool, len(stored)), progress, interrupts)
            return counted(judged_again(plan, stored, pool, self.modes, interrupts, stored))

        self.store.replace(
            {plan.name: anew(plan) for plan in self.plans}, info=self.info, results=self.results
        )

    def _rescored(
        self, chunks: Iterator[StoredChunk], under_way: UnderWay, progress: Progress, interrupts: Interrupts
    ) -> Iterator[Block]:
        """Attempts with new verdicts, in their order, many at a time."""

        def settled(seconds: float) -> Iterator[Block]:
            with interrupts.allowed():
                under_way.wait(seconds)
            for block in under_way.ready():
                progress.count_stored(block.attempts(), self.modes[0])
                progress.changed(progress)
                yield block

        for chunk in chunks:
            under_way.submit(chunk)
            yield from settled(0)
            while under_way.full:
                yield from settled(LOOK_SECONDS)
        while under_way.open:
            yield from settled(LOOK_SECONDS)

    def _keep_block(self, block: Block, progress: Progress) -> None:
        """Writes attempts that were judged together."""
        self._results = None
        self.store.add(block)
        progress.count_stored(block.attempts(), self.modes[0])

    def _keep(self, attempts: Sequence[Attempt]) -> None:
        """Writes attempts; what figures do not need of them stays on disk only."""
        if attempts:
            self._results = None
            self.store.extend(attempts)

    def _check_verdicts(self) -> None:
        """An interrupted rescore leaves tasks in different modes; their figures must not be mixed."""
        for plan in self.plans:
            stored = self.store.load(plan.name)
            judged = stored.judged
            if any((judged & (stored.verdicts(m, "state") == NONE)).any() for m in self.modes):
                asked = "both" if len(self.modes) > 1 else self.modes[0].value
                raise UsageError(
                    f"attempts of {plan.name} were not judged in mode {asked} (an interrupted rescore?): "
                    f"`cipo-eval rescore {self.store.path} --mode {asked}` judges them anew",
                )


def present(stored: Attempts, protocol: str, turn: int = 1) -> dict[str, IntArray]:
    """By problem, the samples of which there is this turn of a protocol (of ``direct``: a first attempt)."""
    is_of_protocol = stored.column("protocol") == stored.number_of("protocol", protocol)
    first = stored.only(is_of_protocol & (stored.column("turn") == turn))
    problem, words = first.column("problem"), first.words("problem")
    order = np.argsort(problem, kind="stable")
    samples, numbers = first.column("sample")[order].astype(np.int64), problem[order]
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)])
    return {
        words[numbers[start]]: part
        for start, part in zip(starts.tolist(), np.split(samples, starts[1:]), strict=False)
    }


def _states(attempt: Attempt) -> dict[Mode, State]:
    return {mode: verdict.state for mode, verdict in attempt.verdicts.items()}


def _shown(plan: TaskPlan, problem: Problem) -> dict[str, Any]:
    """A problem as people see it beside its attempts. The gold of a program is its tests: they stay with the data."""
    answer = {"answer": problem.gold} if plan.problems.spec.verifier == "math" else {}
    return {
        "id": problem.id,
        "question": problem.question,
        **answer,
        "metadata": dict(problem.metadata),
    }
