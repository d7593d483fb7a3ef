"""The one loop: generate what is missing, judge it while more is generated, keep every attempt, then summarise.

``Run`` ties a run directory to what was asked. A directory belongs to one configuration (model, data, prompts,
decoding, seed, mode); what may change between calls is how much of it is wanted: more tasks, more problems, more
samples.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cipo_eval import __version__
from cipo_eval.chains import revisions
from cipo_eval.errors import UsageError
from cipo_eval.feed import Feed
from cipo_eval.interrupts import Interrupts
from cipo_eval.judging import Judging, judgement, labelled
from cipo_eval.metrics.summary import summarise
from cipo_eval.plan import TaskPlan, definition_name, differences
from cipo_eval.protocols import DIRECT, PROTOCOLS, Revising
from cipo_eval.records import (
    SCHEMA_VERSION,
    Attempt,
    AttemptKey,
    Completion,
    Engine,
    Mode,
    Problem,
    Request,
    State,
    Turn,
    Verdict,
)
from cipo_eval.store import RunStore
from cipo_eval.verifiers.pool import VerifierPool

_NAMES_ONLY = ("engine.model:", "engine.file:", "engine.server:")
"""Paths may be written differently; fingerprints tell whether it is the same model or file. Of a served model the name
must be the same, its server may have moved."""
FAILED_STATES = (State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR, State.FILTERED)


@dataclass(slots=True)
class Progress:
    """Counts that a progress display reads, and what it is told: ``changed`` after each attempt."""

    total: int = 0
    done: int = 0
    tokens: int = 0
    states: Counter[str] = dataclasses.field(default_factory=Counter)
    changed: Callable[[Progress], None] = lambda _: None
    stopping: Callable[[int], None] = lambda _: None
    """Called once at the first Ctrl-C with the number of verdicts that are waited for."""


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
        self.info = self._bind(common, list(command), regrade)
        planned = {plan.name for plan in self.plans}
        old = (store.read_results() or {}).get("tasks", {})
        self._other_results = {name: block for name, block in old.items() if name not in planned}
        self._attempts: dict[str, dict[AttemptKey, Attempt]] = {}
        for plan in self.plans:
            store.write_problems(plan.name, [_shown(plan, problem) for problem in plan.selected])
            loaded = store.load(plan.name)
            self._attempts[plan.name] = {key: _slim(a) for key, a in loaded.items()}

    def missing(self, plan: TaskPlan) -> list[Request]:
        """Requests for the attempts that are not on disk yet, as far as they are known now."""
        have = self._attempts[plan.name]
        requests = []
        if plan.revising.generates_first:
            for problem in plan.selected:
                keys = [AttemptKey(plan.name, problem.id, DIRECT, s, 1) for s in range(plan.samples)]
                if samples := [key.sample for key in keys if key not in have]:
                    requests.append(plan.first(problem, samples, self.seed))
        if plan.revising.protocols:
            whole = self.store.load(plan.name)  # with their texts
            problems = {p.id: p for p in plan.selected}
            for attempt in whole.values():
                if attempt.turn == 1 and attempt.problem in problems and plan.wants(attempt.key):
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
        """Generates and judges what is missing.

        Ctrl-C, or an engine that fails, stops generating; the verdicts under way are waited for, then it is raised
        again. A second Ctrl-C does not wait. Either way every attempt with a verdict is on disk.
        """
        interrupts = interrupts or Interrupts()
        self._check_verdicts()
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
                judging.submit(*found)
            with interrupts.allowed():
                judging.wait()
        except (
            KeyboardInterrupt,
            Exception,
        ) as error:  # an engine that fails must not take finished samples with it
            if isinstance(error, KeyboardInterrupt):
                progress.stopping(judging.open)
            with interrupts.allowed():
                judging.wait()
            raise

    def results(self) -> dict[str, Any]:
        """The contents of ``results.json``: this call's tasks, and those of earlier calls as they stood."""
        tasks: dict[str, Any] = dict(self._other_results)
        for plan in self.plans:
            wanted = plan.keys()
            attempts = [a for key, a in self._attempts[plan.name].items() if key in wanted]
            metadata = {p.id: p.metadata for p in plan.selected}
            block: dict[str, Any] = {
                mode.value: self._summary(plan, attempts, metadata, mode) for mode in self.modes if attempts
            }
            if protocols := self._protocols(plan):
                block["protocols"] = protocols
            if len(self.modes) > 1:
                block["disagreements"] = disagreements(attempts, self.modes)
            block["missing_attempts"] = len(wanted) - len(attempts)
            tasks[plan.name] = block
        return self._framed(tasks)

    def _protocols(self, plan: TaskPlan) -> dict[str, Any]:
        """Figures of every protocol that was ever asked for, by mode: of earlier calls as far as they asked."""
        asked = {protocol.name for protocol in plan.revising.protocols}
        blocks: dict[str, Any] = {}
        for name, facts in self.info["tasks"][plan.name]["protocols"].items():
            protocol = PROTOCOLS[name]
            part = replace(
                plan,
                samples=facts["samples"],
                limit=facts["limit"],
                revising=replace(
                    plan.revising if name in asked else Revising(),
                    protocols=(protocol,),
                    turns=facts["turns"],
                ),
            )
            if attempts := self._wanted(part):
                first = [
                    a
                    for key, a in self._attempts[plan.name].items()
                    if a.protocol == DIRECT and (part.wants(key) or not protocol.own)
                ]
                blocks[name] = {
                    mode.value: revisions(
                        plan.name,
                        attempts,
                        protocol,
                        mode=mode,
                        turns=facts["turns"],
                        bootstrap=self.bootstrap,
                        first=first,
                        votes="maj@k" in plan.problems.spec.metrics,
                        metadata={p.id: p.metadata for p in part.selected},
                        breakdown=plan.problems.spec.breakdown,
                    )
                    for mode in self.modes
                }
        return blocks

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
        problems = {p.id for p in plan.selected}
        return [
            a for key, a in self._attempts[plan.name].items() if key.problem in problems and plan.wants(key)
        ]

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
        return found

    def keep(self, attempt: Attempt, progress: Progress) -> None:
        """Writes one attempt; what figures do not need of it stays on disk only."""
        with self._keeping:
            self.store.append(attempt)
            self._attempts[attempt.task][attempt.key] = _slim(attempt)
            _count(progress, attempt)
            progress.changed(progress)

    def rescore(self, pool: VerifierPool, progress: Progress, interrupts: Interrupts | None = None) -> None:
        """Judges every stored attempt of the planned tasks anew, in this run's modes. Nothing is generated."""
        interrupts = interrupts or Interrupts()
        self._withdraw_results()
        for plan in self.plans:
            loaded = self.store.load(plan.name)
            problems = {p.id: p for p in plan.all_problems}
            unknown = sorted({a.problem for a in loaded.values() if a.problem not in problems})
            if unknown:
                raise UsageError(
                    f"{plan.name}: attempts at problems that the data does not have: {', '.join(unknown[:5])}"
                )
            progress.total += len(loaded)
            fresh: dict[AttemptKey, Attempt] = {}
            for attempt, found in self._rejudged(plan, loaded, problems, pool, interrupts, fresh):
                fresh[attempt.key] = replace(
                    attempt, verdicts={mode.value: verdict for mode, verdict in found.items()}
                )
                _count(progress, fresh[attempt.key])
                progress.changed(progress)
            self.store.replace(plan.name, [fresh[key] for key in loaded])
            self._attempts[plan.name] = {key: _slim(fresh[key]) for key in loaded}
        self.store.write_info(self.info)

    def _rejudged(
        self,
        plan: TaskPlan,
        loaded: Mapping[AttemptKey, Attempt],
        problems: Mapping[str, Problem],
        pool: VerifierPool,
        interrupts: Interrupts,
        fresh: Mapping[AttemptKey, Attempt],
    ) -> Iterator[tuple[Attempt, Mapping[Mode, Verdict]]]:
        """New verdicts of all attempts, then of the judgements of them (``fresh``: attempts with new verdicts)."""
        judgements = [a for a in loaded.values() if PROTOCOLS[a.protocol].is_judgement(a.turn)]
        verifier = plan.problems.spec.verifier
        under_way = [
            (a, pool.submit(verifier, problems[a.problem], a.text, a.finish_reason, self.modes))
            for a in loaded.values()
            if not PROTOCOLS[a.protocol].is_judgement(a.turn)
        ]
        for attempt, future in under_way:
            with interrupts.allowed():
                found = future.result()
            label = next(iter(attempt.verdicts.values())).report.get("label")
            yield attempt, {mode: labelled(verdict, label) for mode, verdict in found.items()}
        for said in judgements:
            response = fresh[said.key._replace(turn=said.turn - 1)]
            yield (
                said,
                judgement(said.text, said.finish_reason, plan.revising.critique_form, response.verdicts),
            )

    def _check_verdicts(self) -> None:
        """An interrupted rescore leaves tasks in different modes; their figures must not be mixed."""
        for task, attempts in self._attempts.items():
            if any(m.value not in a.verdicts for a in attempts.values() for m in self.modes):
                asked = "both" if len(self.modes) > 1 else self.modes[0].value
                raise UsageError(
                    f"attempts of {task} were not judged in mode {asked} (an interrupted rescore?): "
                    f"`cipo-eval rescore {self.store.path} --mode {asked}` judges them anew",
                )

    def _bind(self, common: dict[str, Any], command: list[str], regrade: bool) -> dict[str, Any]:
        """``run.json`` for this call: the stored one where it agrees, else a new one."""
        old = self.store.read_info()
        identities = {plan.name: plan.identity() for plan in self.plans}
        tasks = {plan.name: _task_info(plan, identities[plan.name]) for plan in self.plans}
        call = {"at": _now(), "command": command, "version": __version__}
        if old is None:
            info = {"schema": SCHEMA_VERSION, "created": _now(), **common, "tasks": tasks, "calls": [call]}
        else:
            differing = [d for d in differences(old, common) if not d.startswith(_NAMES_ONLY)] + [
                d
                for plan in self.plans
                for d in differences(old["tasks"].get(plan.name, {}), identities[plan.name], plan.name)
            ]
            if regrade:
                free = (".think:", ".harness:", ".protocols.")
                differing = [
                    d for d in differing if not (d.startswith("modes:") or any(name in d for name in free))
                ]
            if differing:
                hint = (
                    f" (`cipo-eval rescore {self.store.path} --mode …` regrades in another mode)"
                    if any(d.startswith("modes") for d in differing)
                    else ""
                )
                raise UsageError(
                    f"{self.store.path} was made with another configuration: {'; '.join(differing)}. "
                    f"Choose another --output, or ask for the same{hint}",
                )
            for name, block in tasks.items():  # protocols of earlier calls stay, as far as they were asked
                known = old["tasks"].get(name, {})
                before = known.get("protocols", {})
                block["protocols"] = before if regrade else {**before, **block["protocols"]}
                block["direct"] |= known.get("direct", False)
            info = {**old, **common, "tasks": {**old["tasks"], **tasks}, "calls": [*old["calls"], call]}
        info["environment"] = environment()
        if confinement := _confinement(self.plans):
            info["sandbox"] = confinement
        if not regrade:  # else written when every verdict is new
            self.store.write_info(info)
        return info


def _task_info(plan: TaskPlan, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of a task. Each protocol keeps how much of it was asked for when it last was."""
    extent = {"turns": plan.revising.turns, "samples": plan.samples, "limit": plan.limit}
    return {
        **identity,
        "protocols": {name: {**facts, **extent} for name, facts in identity["protocols"].items()},
        "samples": plan.samples,
        "limit": plan.limit,
        "direct": plan.revising.generates_first,
        "system_prompt": plan.system_prompt,
        "source": dict(plan.problems.source),
        "definition": definition_name(plan.problems.spec),
    }


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


def _confinement(plans: Sequence[TaskPlan]) -> dict[str, Any] | None:
    """How programs are confined here, where any will run. Raises ``MissingError`` before anything is generated."""
    code = [
        plan
        for plan in plans
        if plan.problems.spec.verifier == "code"
        or any(p.options.get("verifier") == "code" for p in plan.problems.problems)
    ]
    if not code:
        return None
    from cipo_eval.sandbox import probe

    return probe.choose(allow_unsafe=any(plan.allow_unsafe for plan in code)).to_json()


def environment() -> dict[str, str]:
    """Versions that may explain a difference between two runs."""
    from importlib import metadata

    versions = {
        "cipo-eval": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in ("torch", "transformers", "datasets", "lm_eval", "math-verify", "sympy", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> list[str]:
    """The exact command, for ``run.json``."""
    return ["cipo-eval", *sys.argv[1:]]
