"""The one loop: generate what is missing, judge it while more is generated, keep every attempt, then summarise.

``Run`` ties a run directory to what was asked. A directory belongs to one configuration (model, data, prompts,
decoding, seed, mode); what may change between calls is how much of it is wanted: more tasks, more problems, more
samples.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.selection import Selected, Selection
from cipo_eval.engines.engine import Engine
from cipo_eval.engines.feed import Feed
from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Attempt, AttemptKey, Completion, Failure, Mode, Problem, Request, Turn
from cipo_eval.run.info import bind
from cipo_eval.run.judging import Generated, Judging
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.progress import Progress
from cipo_eval.run.rescore import judged_again, with_judgements, without_verdict
from cipo_eval.run.results import Measures, failures, framed, task_results
from cipo_eval.storage.store import RunStore, read_problems
from cipo_eval.verifiers.pool import VerifierPool

GRACE_SECONDS = 3.0
"""How long an interrupted run waits for the verdicts under way: schedulers kill soon after their signal."""
LOOK_SECONDS = 0.2
"""Between two looks at the verdicts that are waited for: an interrupt gets through in between."""


class Run:
    """A run directory bound to what is asked of it now. Raises ``UsageError`` where the two do not fit.

    ``regrade``: the attempts stay and their verdicts are to be replaced, so mode, ``think`` and ``harness``
    may differ. ``figures``: of users' own, beside those of the table.
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
        self._failed: dict[str, Counter[str]] = {plan.name: Counter() for plan in self.plans}
        before = store.read_info()
        self.info = bind(store, self.plans, common, command, regrade=regrade)
        facts = self.info["tasks"]
        self._asked_otherwise = before is not None and any(
            before["tasks"].get(plan.name) != facts[plan.name] for plan in self.plans
        )
        self._plan_of = planned = {plan.name: plan for plan in self.plans}
        old = (store.read_results() or {}).get("tasks", {})
        self._other_results = {name: block for name, block in old.items() if name not in planned}
        self._selections: dict[str, Selection] = {}
        self._attempts: dict[str, dict[AttemptKey, Attempt]] = {}
        for plan in self.plans:
            self._selections[plan.name] = self._write_problems(plan)
            self._attempts[plan.name] = {key: _slim(a) for key, a in store.load(plan.name).items()}

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
            rows[problem.id] = row
        selection = Selection.stored(plan.name, self.info["tasks"][plan.name], rows)
        selected = {p for protocol in selection.extents for p in selection.problems_of(protocol)}
        noted = {p: row for p, row in rows.items() if p in selected or p in stored}
        if noted != stored:
            self.store.write_problems(plan.name, list(noted.values()))
        return selection

    def selected(self, plan: TaskPlan) -> Selected:
        """The attempts that count: of this call, and of protocols that earlier calls asked for."""
        return self._selections[plan.name].select(self._attempts[plan.name].values())

    def missing(self, plan: TaskPlan) -> list[Request]:
        """Requests for the attempts that are not on disk yet, as far as they are known now."""
        have = self._attempts[plan.name]
        problems = {p.id: p for p in plan.selected}
        samples_of: dict[str, list[int]] = {}
        for key in plan.selection.first_keys():
            if key not in have:
                samples_of.setdefault(key.problem, []).append(key.sample)
        requests = [
            plan.first(problems[problem], samples, self.seed) for problem, samples in samples_of.items()
        ]
        if plan.revising.protocols:
            whole = self.store.load(plan.name)  # with their texts
            for attempt in plan.selection.select(whole.values()).attempts:
                if attempt.turn == 1:
                    requests += self.following(plan, problems[attempt.problem], attempt, whole)
        return requests

    def given(self, plan: TaskPlan) -> list[Generated]:
        """Attempts of a pool that have no verdict here yet, with what the pool says of them: none is generated."""
        have = self._attempts[plan.name]
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
            if key not in have
        ]

    def following(
        self,
        plan: TaskPlan,
        problem: Problem,
        attempt: Attempt,
        stored: Mapping[AttemptKey, Attempt],
        history: Sequence[Turn] = (),
    ) -> list[Request]:
        """What follows from an attempt with this history, passing over turns that are ``known`` (with their texts)."""
        verdicts = {mode.value: attempt.verdicts[mode.value] for mode in self.modes}
        history = (*history, Turn(attempt.text, verdicts))
        requests = []
        for protocol in plan.revising.protocols:
            if not plan.revising.follows(protocol, attempt.protocol, attempt.turn):
                continue
            request = plan.next(problem, protocol, attempt.sample, history, self.seed)
            if request is None:
                continue
            key = AttemptKey(plan.name, problem.id, protocol.name, attempt.sample, request.turn)
            if key in stored:
                requests += self.following(plan, problem, stored[key], stored, history)
            else:
                requests.append(request)
        return requests

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
        feed = Feed((request for plan in self.plans for request in self.missing(plan)), follow=follow)
        pooled = [generated for plan in self.plans for generated in self.given(plan)]
        feed.expect(len(pooled))
        for plan in self.plans:
            for attempt in self._wanted(plan):
                progress.count(attempt)
        progress.total = progress.done + feed.open
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

        def settle(seconds: float) -> None:
            """Keeps the attempts that are judged by now, or within so many seconds, and asks for what follows."""
            with interrupts.allowed():
                judging.wait(seconds)
            with interrupts.held():
                for generated, attempt in judging.judged():
                    self._keep(attempt)
                    progress.count(attempt)
                    requests = self.following(
                        self._plan_of[attempt.task],
                        generated.request.problem,
                        attempt,
                        {},
                        generated.request.history,
                    )
                    progress.total += len(requests)
                    feed.add(requests)
                    feed.done()
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
            for attempt in judging.without_verdict():
                self._keep(attempt)
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
        self.warnings += notes

    def _unsure(self, plan: TaskPlan) -> set[AttemptKey]:
        """Attempts that are asked for and have no verdict that holds."""
        attempts = self._attempts[plan.name]
        return {key for key, a in attempts.items() if plan.selection.wants(key) and without_verdict(a)}

    def _judge_again(
        self, plan: TaskPlan, unsure: set[AttemptKey], pool: VerifierPool, interrupts: Interrupts
    ) -> None:
        """Judges attempts again and appends those whose verdict is another one, and the judgements of them.

        Turns that follow from a verdict which has changed stay on disk and do not count (``chains.trajectories``).
        """
        if not unsure:
            return
        stored = self.store.load(plan.name)  # with their texts
        judged = dict(stored)
        chosen = with_judgements(unsure & stored.keys(), stored)
        for attempt in judged_again(plan, chosen, pool, self.modes, interrupts, judged):
            before = {mode: verdict.state for mode, verdict in stored[attempt.key].verdicts.items()}
            if before != {mode: verdict.state for mode, verdict in attempt.verdicts.items()}:
                self._keep(attempt)

    def results(self) -> dict[str, Any]:
        """The contents of ``results.json``: this call's tasks, and those of earlier calls as they stood."""
        tasks = {plan.name: task_results(plan, self.selected(plan), self.measures) for plan in self.plans}
        return framed(self.store.path.name, self.info, {**self._other_results, **tasks})

    def _withdraw_results(self) -> None:
        """Figures of this call's tasks must not be read while their attempts change; the others stay."""
        if self._other_results:
            self.store.write_results(framed(self.store.path.name, self.info, self._other_results))
        else:
            self.store.drop_results()

    def _wanted(self, plan: TaskPlan) -> list[Attempt]:
        """The attempts of all turns that this call asks for, and that are there."""
        return list(plan.selection.select(self._attempts[plan.name].values()).attempts)

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
        every: dict[str, list[Attempt]] = {}
        for plan in self.plans:
            stored = self.store.load(plan.name)
            progress.total += len(stored)
            judged: dict[AttemptKey, Attempt] = {}
            for attempt in judged_again(plan, stored, pool, self.modes, interrupts, judged):
                progress.count(attempt)
                progress.changed(progress)
            every[plan.name] = [judged[key] for key in stored]
            self._attempts[plan.name] = {key: _slim(judged[key]) for key in stored}
        self.store.replace(every, info=self.info, results=self.results())

    def _keep(self, attempt: Attempt) -> None:
        """Writes one attempt; what figures do not need of it stays on disk only."""
        self.store.append(attempt)
        self._attempts[attempt.task][attempt.key] = _slim(attempt)

    def _check_verdicts(self) -> None:
        """An interrupted rescore leaves tasks in different modes; their figures must not be mixed."""
        for task, attempts in self._attempts.items():
            judged = [a for a in attempts.values() if a.verdicts]
            if any(m.value not in a.verdicts for a in judged for m in self.modes):
                asked = "both" if len(self.modes) > 1 else self.modes[0].value
                raise UsageError(
                    f"attempts of {task} were not judged in mode {asked} (an interrupted rescore?): "
                    f"`cipo-eval rescore {self.store.path} --mode {asked}` judges them anew",
                )


def _shown(plan: TaskPlan, problem: Problem) -> dict[str, Any]:
    """A problem as people see it beside its attempts. The gold of a program is its tests: they stay with the data."""
    answer = {"answer": problem.gold} if plan.problems.spec.verifier == "math" else {}
    return {
        "id": problem.id,
        "question": problem.question,
        **answer,
        "metadata": dict(problem.metadata),
    }


def _slim(attempt: Attempt) -> Attempt:
    """What figures need of an attempt: neither its text nor, of reports, more than their integrity."""
    verdicts = {
        mode: replace(v, report={key: v.report[key] for key in ("integrity", "label") if key in v.report})
        for mode, v in attempt.verdicts.items()
    }
    return replace(attempt, text="", verdicts=verdicts)
