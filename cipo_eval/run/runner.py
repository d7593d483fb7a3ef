"""The one loop: generate what is missing, judge it while more is generated, keep every attempt, then summarise.

``Run`` ties a run directory to what was asked. A directory belongs to one configuration (model, data, prompts,
decoding, seed, mode); what may change between calls is how much of it is wanted: more tasks, more problems, more
samples.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cipo_eval.analysis.chains import revisions
from cipo_eval.analysis.selection import Selected, Selection
from cipo_eval.analysis.summary import summarise
from cipo_eval.engines.engine import Engine
from cipo_eval.engines.feed import Feed
from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import (
    SCHEMA_VERSION,
    Attempt,
    AttemptKey,
    Completion,
    Failure,
    Mode,
    Problem,
    Request,
    State,
    Turn,
)
from cipo_eval.run.info import bind
from cipo_eval.run.judging import Judging, judged_again
from cipo_eval.run.plan import TaskPlan
from cipo_eval.storage.store import RunStore, read_problems
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_eval.verifiers.pool import VerifierPool

GRACE_SECONDS = 3.0
"""How long an interrupted run waits for the verdicts under way: schedulers kill soon after their signal."""
FAILED_STATES = (State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR, State.FILTERED)


@dataclass(slots=True)
class Progress:
    """Counts that a progress display reads, and what it is told: ``changed`` after each attempt."""

    total: int = 0
    done: int = 0
    tokens: int = 0
    judging: int = 0
    """Completions that wait for their verdict."""
    failed: int = 0
    """Samples that the engine could not get."""
    states: Counter[str] = dataclasses.field(default_factory=Counter)
    changed: Callable[[Progress], None] = lambda _: None
    stopping: Callable[[int], None] = lambda _: None
    """Called once when interrupted, with the number of verdicts that are waited for."""


class Run:
    """A run directory bound to what is asked of it now. Raises ``UsageError`` where the two do not fit.

    ``regrade``: the attempts stay and their verdicts are to be replaced, so mode, ``think`` and ``harness``
    may differ.
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
        regrade: bool = False,
    ) -> None:
        self.store = store
        self.plans = list(plans)
        self.seed = seed
        self.modes = tuple(modes)
        self.bootstrap = bootstrap
        self.ks = ks
        self.warnings = store.warnings
        self.warnings += [warning for plan in self.plans for warning in plan.problems.warnings]
        self._keeping = threading.Lock()
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
        planned = {plan.name for plan in self.plans}
        old = (store.read_results() or {}).get("tasks", {})
        self._other_results = {name: block for name, block in old.items() if name not in planned}
        self._selections: dict[str, Selection] = {}
        self._attempts: dict[str, dict[AttemptKey, Attempt]] = {}
        for plan in self.plans:
            self._selections[plan.name] = self._write_problems(plan)
            self._attempts[plan.name] = {key: _slim(a) for key, a in store.load(plan.name).items()}

    def _write_problems(self, plan: TaskPlan) -> Selection:
        """Notes in the run's directory which problems were ever asked for, and returns what is asked for now."""
        known = read_problems(self.store.path, plan.name)
        pooled = {name: dict(counts) for name, counts in plan.pooled.items()}
        rows = {}
        for problem in plan.problems.problems:
            row = _shown(plan, problem)
            pool = {name: counts[problem.id] for name, counts in pooled.items()}
            if pool := {**known.get(problem.id, {}).get("pool", {}), **pool}:
                row["pool"] = pool
            rows[problem.id] = row
        selection = Selection.stored(plan.name, self.info["tasks"][plan.name], rows)
        asked = {p for protocol in selection.extents for p in selection.problems_of(protocol)}
        noted = {p: row for p, row in rows.items() if p in asked or p in known}
        if noted != known:
            self.store.write_problems(plan.name, list(noted.values()))
        return selection

    def selected(self, plan: TaskPlan) -> Selected:
        """The attempts that count: of this call, and of protocols that earlier calls asked for."""
        return self._selections[plan.name].select(self._attempts[plan.name].values())

    def missing(self, plan: TaskPlan) -> list[Request]:
        """Requests for the attempts that are not on disk yet, as far as they are known now."""
        have = self._attempts[plan.name]
        problems = {p.id: p for p in plan.selected}
        wanted: dict[str, list[int]] = {}
        for key in plan.selection.first_keys():
            if key not in have:
                wanted.setdefault(key.problem, []).append(key.sample)
        requests = [plan.first(problems[problem], samples, self.seed) for problem, samples in wanted.items()]
        if plan.revising.protocols:
            whole = self.store.load(plan.name)  # with their texts
            for attempt in plan.selection.select(whole.values()).attempts:
                if attempt.turn == 1:
                    requests += self.following(plan, problems[attempt.problem], attempt, whole)
        return requests

    def given(self, plan: TaskPlan) -> list[tuple[Request, Completion, bool | None]]:
        """Attempts of a pool that have no verdict here yet, with what the pool says of them: none is generated."""
        have = self._attempts[plan.name]
        return [
            (
                Request(
                    problem=problem,
                    messages=(),
                    samples=(key.sample,),
                    seeds=(0,),
                    sampling=plan.sampling,
                    protocol=key.protocol,
                ),
                Completion(text=item.text, finish_reason=None),
                item.right,
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
        known: Mapping[AttemptKey, Attempt],
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
            if key in known:
                requests += self.following(plan, problem, known[key], known, history)
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
        given = [pair for plan in self.plans for pair in self.given(plan)]
        feed.expect(len(given))
        for plan in self.plans:
            for attempt in self._wanted(plan):
                _count(progress, attempt)
        progress.total = progress.done + feed.open
        progress.changed(progress)
        if not feed.open:
            return
        self._withdraw_results()
        judging = Judging(self, pool, progress, feed)
        completions = iter(engine.generate(feed))
        try:
            for request, completion, label in given:
                with interrupts.allowed():
                    judging.reserve()
                judging.submit(request, request.samples[0], completion, label)
            while True:
                with interrupts.allowed():
                    judging.reserve()
                    found = next(completions, None)
                if found is None:
                    break
                request, sample, said = found
                if isinstance(said, Failure):
                    self._lost(request, said, progress)
                    judging.skip()
                else:
                    judging.submit(request, sample, said)
            with interrupts.allowed():
                judging.wait()
        except KeyboardInterrupt:
            progress.stopping(judging.open)
            try:
                with interrupts.allowed():
                    judging.wait(GRACE_SECONDS)
            finally:
                judging.shelve()
            raise
        except Exception:  # an engine that fails must not take finished samples with it
            try:
                with interrupts.allowed():
                    judging.wait()
            finally:
                judging.shelve()
            raise
        finally:
            self._note(engine)

    def _lost(self, request: Request, failure: Failure, progress: Progress) -> None:
        """Counts a sample that the engine could not get; nothing of it is stored."""
        self._failed[request.problem.task][failure.why] += 1
        progress.failed += 1
        progress.changed(progress)

    def _note(self, engine: Engine) -> None:
        """Keeps what an engine had to do otherwise than asked (a server that takes no seed) in ``run.json``."""
        said = getattr(engine, "notes", None)
        notes: list[str] = said() if said else []
        known = self.info.get("adaptations", [])
        if new := [note for note in notes if note not in known]:
            self.info["adaptations"] = [*known, *new]
            self.store.write_info(self.info)
        self.warnings += notes

    def _unsure(self, plan: TaskPlan) -> dict[AttemptKey, Attempt]:
        """Attempts that are asked for and have no verdict that holds, with their texts: none at all (an interrupted
        run), or that the verifier failed (a harness that was being killed said so as well)."""
        suspects = {
            key
            for key, a in self._attempts[plan.name].items()
            if plan.selection.wants(key)
            and (not a.verdicts or any(v.state is State.VERIFIER_ERROR for v in a.verdicts.values()))
        }
        if not suspects:
            return {}
        return {key: a for key, a in self.store.load(plan.name).items() if key in suspects}

    def _judge_again(
        self,
        plan: TaskPlan,
        unsure: Mapping[AttemptKey, Attempt],
        pool: VerifierPool,
        interrupts: Interrupts,
    ) -> None:
        """Judges attempts again and appends those whose verdict is another one, and the judgements of them.

        Turns that follow from a verdict which has changed stay on disk and do not count (``chains.trajectories``).
        """
        if not unsure:
            return
        whole = self.store.load(plan.name)
        judged = {k: a for k, a in unsure.items() if not PROTOCOLS[a.protocol].is_judgement(a.turn)}
        after = {key._replace(turn=key.turn + 1) for key in judged}
        for key, attempt in whole.items():
            if PROTOCOLS[attempt.protocol].is_judgement(attempt.turn) and (key in unsure or key in after):
                judged[key] = attempt
        fresh = dict(whole)
        for attempt, found in judged_again(plan, judged, pool, self.modes, interrupts, fresh):
            verdicts = {mode.value: verdict for mode, verdict in found.items()}
            fresh[attempt.key] = replace(attempt, verdicts=verdicts)
            states = {mode: verdict.state for mode, verdict in attempt.verdicts.items()}
            if states != {mode: verdict.state for mode, verdict in verdicts.items()}:
                self._keep(fresh[attempt.key])

    def results(self) -> dict[str, Any]:
        """The contents of ``results.json``: this call's tasks, and those of earlier calls as they stood."""
        tasks: dict[str, Any] = dict(self._other_results)
        for plan in self.plans:
            selected = self.selected(plan)
            metadata = {p.id: p.metadata for p in plan.problems.problems}
            asked = {p: metadata[p] for p in selected.selection.problems_of(DIRECT)}
            first = list(selected.first)
            block: dict[str, Any] = {
                mode.value: self._summary(plan, first, asked, mode) for mode in self.modes if first
            }
            if protocols := self._protocols(plan, selected, metadata):
                block["protocols"] = protocols
            if len(self.modes) > 1:
                block["disagreements"] = disagreements(first, self.modes)
            block["missing_attempts"] = len(selected.selection.first_keys()) - len(first)
            if selected.not_asked:
                block["not_asked"] = selected.not_asked
            tasks[plan.name] = block
        return self._framed(tasks)

    def _protocols(
        self, plan: TaskPlan, selected: Selected, metadata: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Figures of every protocol that was ever asked for, by mode: of earlier calls as far as they asked."""
        return {
            name: {
                mode.value: revisions(
                    plan.name,
                    attempts,
                    PROTOCOLS[name],
                    mode=mode,
                    turns=selected.turns(name),
                    bootstrap=self.bootstrap,
                    first=selected.fresh(name),
                    votes="maj@k" in plan.problems.spec.metrics,
                    metadata=metadata,
                    breakdown=plan.problems.spec.breakdown,
                )
                for mode in self.modes
            }
            for name in selected.protocols
            if (attempts := selected.of(name))
        }

    def _framed(self, tasks: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            "run": self.store.path.name,
            "model": self.info["engine"],
            **({"sandbox": self.info["sandbox"]} if "sandbox" in self.info else {}),
            "tasks": tasks,
        }

    def _withdraw_results(self) -> None:
        """Figures of this call's tasks must not be read while their attempts change; the others stay."""
        if self._other_results:
            self.store.write_results(self._framed(self._other_results))
        else:
            self.store.drop_results()

    def _summary(
        self,
        plan: TaskPlan,
        attempts: list[Attempt],
        metadata: Mapping[str, Mapping[str, Any]],
        mode: Mode,
    ) -> dict[str, Any]:
        try:
            return summarise(
                plan.name,
                attempts,
                metadata,
                mode=mode,
                ks=self.ks,
                bootstrap=self.bootstrap,
                breakdown=plan.problems.spec.breakdown,
                parts=plan.parts,
                majority="maj@k" in plan.problems.spec.metrics,
            )
        except ValueError as error:  # a k above the attempts that a replayed file has at some problem
            raise UsageError(f"{plan.name}: {error}") from error

    def _wanted(self, plan: TaskPlan) -> list[Attempt]:
        """The attempts of all turns that this call asks for, and that are there."""
        return list(plan.selection.select(self._attempts[plan.name].values()).attempts)

    def failures(self) -> list[str]:
        """What went wrong in attempts of this call, a line each: a failed verifier is never silently a lower score."""
        found = []
        for plan in self.plans:
            counts: Counter[str] = Counter()
            for attempt in self._wanted(plan):
                counts.update({v.state.value for v in attempt.verdicts.values() if v.state in FAILED_STATES})
                counts["prompt does not fit the model's context"] += attempt.finish_reason == "context"
            found += [
                f"{plan.name}: {count} attempt(s): {what}" for what, count in sorted(counts.items()) if count
            ]
            found += [
                f"{plan.name}: {count} sample(s) could not be had: {why} (the same command asks for them again)"
                for why, count in sorted(self._failed[plan.name].items())
            ]
        return found

    def keep(self, attempt: Attempt, progress: Progress) -> None:
        """Writes one attempt; what figures do not need of it stays on disk only."""
        with self._keeping:
            self._keep(attempt)
            if attempt.verdicts:
                _count(progress, attempt)
            progress.changed(progress)

    def _keep(self, attempt: Attempt) -> None:
        self.store.append(attempt)
        self._attempts[attempt.task][attempt.key] = _slim(attempt)

    def rescore(self, pool: VerifierPool, progress: Progress, interrupts: Interrupts | None = None) -> None:
        """Judges every stored attempt of the planned tasks anew, in this run's modes. Nothing is generated."""
        interrupts = interrupts or Interrupts()
        every: dict[str, list[Attempt]] = {}
        for plan in self.plans:
            loaded = self.store.load(plan.name)
            progress.total += len(loaded)
            fresh: dict[AttemptKey, Attempt] = {}
            for attempt, found in judged_again(plan, loaded, pool, self.modes, interrupts, fresh):
                fresh[attempt.key] = replace(
                    attempt, verdicts={mode.value: verdict for mode, verdict in found.items()}
                )
                _count(progress, fresh[attempt.key])
                progress.changed(progress)
            every[plan.name] = [fresh[key] for key in loaded]
            self._attempts[plan.name] = {key: _slim(fresh[key]) for key in loaded}
        self.store.replace(every, info=self.info, results=self.results())

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


def _count(progress: Progress, attempt: Attempt) -> None:
    progress.done += 1
    progress.tokens += attempt.completion_tokens or 0
    progress.states[next(iter(attempt.verdicts.values())).state.value] += 1


def disagreements(attempts: Iterable[Attempt], modes: Sequence[Mode]) -> list[dict[str, Any]]:
    """Attempts that the modes judge differently, by problem and sample, with the answer that each mode saw."""
    found = []
    for a in sorted(attempts, key=lambda a: a.key):
        verdicts = [a.verdicts[m.value] for m in modes]
        if len({v.correct for v in verdicts}) > 1:
            judged = {
                m.value: {"correct": v.correct, "answer": v.extracted}
                for m, v in zip(modes, verdicts, strict=True)
            }
            found.append({"problem": a.problem, "sample": a.sample, **judged})
    return found
