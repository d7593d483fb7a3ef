"""From what is asked for to what is done: tasks and their data, protocols, scopes and decoding, as plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from cipo_eval.data.examples import examples
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import ProblemSet, TaskSpec, load_problems, load_spec, look
from cipo_eval.errors import UsageError, nearest
from cipo_eval.run.decoding import FROM_CHECKPOINT
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.pools import read_pool
from cipo_eval.run.request import DATES
from cipo_eval.run.shards import Shard, split
from cipo_eval.turns.fewshot import FewShot
from cipo_eval.turns.pools import own_pool
from cipo_eval.turns.protocols import CRITIQUE, CRITIQUE_STEP, DIRECT, PROTOCOLS, Protocol, protocols_named
from cipo_eval.turns.revising import Prompts, Revising

if TYPE_CHECKING:
    from cipo_eval.engines.engine import Engine
    from cipo_eval.records import Sampling
    from cipo_eval.run.decoding import Decoding
    from cipo_eval.run.request import RunRequest, Turns

SampledBy = tuple[int, "Sampling"]
"""Samples per problem and sampling parameters of one task."""


def read_specs(names: Sequence[str]) -> list[TaskSpec]:
    """The definitions of the tasks that are named. Raises ``UsageError``."""
    specs = [load_spec(name) for name in names]
    if not specs:
        raise UsageError("--tasks names no task; `cipo-eval tasks` lists them")
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError("two of --tasks have the same name: run them into different --output folders")
    return specs


def read_problems(specs: Sequence[TaskSpec], request: RunRequest) -> list[ProblemSet]:
    """The problems of each task. Raises ``UsageError`` or ``MissingError`` for data that is damaged or not there."""
    return [load_problems(spec.path, data_dir=request.task.data_dir) for spec in specs]


def places(specs: Sequence[TaskSpec], request: RunRequest) -> list[str]:
    """A line for each task that says where its rows are. Raises ``MissingError`` where there are none."""
    return [f"{spec.name} ({look(spec, request.task.data_dir)})" for spec in specs]


def check_k(ks: Sequence[int] | None, task: str, samples: int) -> None:
    """Raises ``UsageError`` for a k above the samples per problem: pass@k is never extrapolated."""
    if ks and (max(ks) > samples or min(ks) < 1):
        raise UsageError(
            f"--k {max(ks)} needs at least that many samples, and {task} gets {samples}: "
            "raise --samples or lower --k",
        )


def decodings(specs: Sequence[TaskSpec], decoding: Decoding) -> list[SampledBy]:
    """How each task is sampled. Raises ``UsageError`` for a preset that no task has."""
    preset = decoding.preset
    presets = {FROM_CHECKPOINT, *(name for spec in specs for name in spec.presets)}
    if preset is not None and preset not in presets:
        raise UsageError(f"unknown --preset {preset}: {nearest(preset, presets)}")
    return [decoding.resolve(spec.presets) for spec in specs]


def fewshot(decoding: Decoding, spec: TaskSpec) -> FewShot:
    """The worked examples before each problem of a task. Raises ``UsageError`` where it has fewer than are asked
    for."""
    return FewShot(examples=examples(spec, decoding.num_fewshot), multiturn=decoding.fewshot_as_multiturn)


def protocols_of(turns: Turns, specs: Iterable[TaskSpec]) -> list[tuple[Protocol, ...]]:
    """The protocols of each task; checks what can be told before its problems are read. Raises ``UsageError``."""
    if turns.protocol is not None and not turns.protocol:
        raise UsageError("--protocol names none")
    by_task = [
        _fitting(spec, protocols_named(turns.protocol or spec.protocols or (DIRECT,))) for spec in specs
    ]
    revises_others = any(not protocol.own for protocols in by_task for protocol in protocols)
    if turns.attempts_from is not None and not revises_others:
        raise UsageError("--attempts-from belongs together with --protocol given, critique or prefill")
    if turns.attempts_from is not None and any(p.locates for protocols in by_task for p in protocols):
        raise UsageError(f"--attempts-from: {CRITIQUE_STEP} is about the attempts that a task's data labels")
    if turns.attempts_from is not None and not turns.attempts_from.exists():
        raise UsageError(f"--attempts-from {turns.attempts_from} does not exist")
    if turns.prompt_dir:
        Prompts(turns.prompt_dir)
    return by_task


STEPS = "steps"
"""The verifier of tasks whose golds are labels: which step of the attempt that comes with a problem is wrong first."""


def _fitting(spec: TaskSpec, protocols: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    """The protocols as they are for a task: where its data says which step is wrong, ``critique`` asks for that step.
    Raises ``UsageError`` for those that the task has no golds for."""
    fitting = []
    for protocol in protocols:
        if spec.verifier == STEPS and protocol.judges:
            fitting.append(PROTOCOLS[CRITIQUE_STEP])
        elif spec.verifier == STEPS and not protocol.own:
            raise UsageError(
                f"--protocol {protocol.name}: {spec.name} has no answers that corrections could be judged by, only "
                f"labels of steps; its protocol is {CRITIQUE}"
            )
        elif protocol.locates and spec.verifier != STEPS:
            raise UsageError(
                f"--protocol {protocol.name}: the data of {spec.name} does not say which steps are wrong; "
                f"{CRITIQUE} asks whether an attempt is"
            )
        else:
            fitting.append(protocol)
    return tuple(dict.fromkeys(fitting))


def check_engine(engine: Engine, revisings: Iterable[Revising]) -> None:
    """Raises ``UsageError`` where a protocol has answers continued that are begun, and the engine cannot."""
    names = {protocol.name for revising in revisings for protocol in revising.protocols if protocol.continues}
    ask = getattr(engine, "refuses_begun", None)
    why = ask() if ask else f"the engine {engine.name} is not known to go on with an answer that is begun"
    if names and why:
        raise UsageError(f"--protocol {', '.join(sorted(names))}: {why}")


def revisings(request: RunRequest, problem_sets: Sequence[ProblemSet]) -> list[Revising]:
    """What follows the first attempts at each task. Raises ``UsageError``."""
    turns, think = request.turns, request.scoring.think
    by_task = protocols_of(turns, [problems.spec for problems in problem_sets])
    prompts = Prompts(turns.prompt_dir) if turns.prompt_dir else None
    every = [problem for problems in problem_sets for problem in problems.problems]
    pool = read_pool(turns.attempts_from, every) if turns.attempts_from else None
    revisings = []
    for problems, protocols in zip(problem_sets, by_task, strict=True):
        revises_others = any(not protocol.own for protocol in protocols)
        task_pool = pool or own_pool(problems.problems)
        if task_pool is None and revises_others:
            raise UsageError(
                f"the data of {problems.spec.name} comes with no attempts to correct: name some with "
                "--attempts-from (docs/pools.md); a run will do, whose first attempts count"
            )
        revisings.append(
            Revising(
                protocols=tuple(protocol for protocol in protocols if protocol.name != DIRECT),
                direct=any(protocol.name == DIRECT for protocol in protocols),
                pool=task_pool if revises_others else None,
                turns=turns.turns,
                turn_format=turns.turn_format,
                critique_form=turns.critique_form,
                keep_think=turns.carry_think,
                think="strip" if think == "keep" else think,
                prompts=prompts,
            )
        )
    return revisings


def scopes(scope: Mapping[str, str] | None, problem_sets: Sequence[ProblemSet]) -> list[Scope | None]:
    """The problems that count of each task: what is asked for, and the task's own scope where that is silent.

    Raises ``UsageError`` where no task has a scope that could be changed, for columns and values that there are none
    of, and where nothing is left of a task.
    """
    if scope and not any(problems.spec.scope for problems in problem_sets):
        raise UsageError(
            "--scope needs a task with a scope of its own, such as one with dates (livecodebench)"
        )
    return [_scope(scope or {}, problems) for problems in problem_sets]


def _scope(choice: Mapping[str, str], problems: ProblemSet) -> Scope | None:
    scope = problems.spec.scope
    if scope is None:
        return None
    only = dict(scope.only)
    columns = {column for problem in problems.problems for column in problem.metadata}
    for column, text in choice.items():
        if column in DATES:
            continue
        if column not in columns:
            raise UsageError(f"--scope {column}: {nearest(column, [*DATES, *columns])}")
        values = {str(problem.metadata.get(column)) for problem in problems.problems}
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if unknown := [name for name in names if name not in values]:
            raise UsageError(f"--scope {column}={unknown[0]}: {nearest(unknown[0], values)}")
        only[column] = names
    changed = replace(
        scope, start=choice.get("start") or scope.start, end=choice.get("end") or scope.end, only=only
    )
    if not any(changed.admits(problem) for problem in problems.problems):
        raise UsageError(f"no problem of {problems.spec.name} is in {changed.to_text()}")
    return changed


def plans(
    request: RunRequest, problem_sets: Sequence[ProblemSet], sampled_by: Sequence[SampledBy]
) -> list[TaskPlan]:
    """What is done at each task. Raises ``UsageError``."""
    by_task = zip(
        problem_sets,
        sampled_by,
        scopes(request.task.scope, problem_sets),
        revisings(request, problem_sets),
        strict=True,
    )
    whole = [
        TaskPlan(
            problems=problems,
            samples=samples,
            sampling=sampling,
            scope=scope,
            revising=revising,
            system_prompt=request.decoding.system_prompt,
            fewshot=fewshot(request.decoding, problems.spec),
            **asked_of(request, problems, scope),
        )
        for problems, (samples, sampling), scope, revising in by_task
    ]
    if request.task.shard is None:
        return whole
    shares = split({plan.name: plan.conversations for plan in whole}, Shard.of(request.task.shard))
    return [replace(plan, share=shares[plan.name]) for plan in whole]


def asked_of(request: RunRequest, problems: ProblemSet, scope: Scope | None) -> dict[str, Any]:
    """What a request says of the plan of a task: how many problems, and how their attempts are judged."""
    scoring = request.scoring
    return {
        "limit": _limit(request.task.limit, problems, scope),
        "think": scoring.think,
        "harness": scoring.harness and scoring.harness.value,
        "allow_unsafe": scoring.allow_unsafe_code,
    }


def _limit(limit: float | None, problems: ProblemSet, scope: Scope | None) -> int | None:
    """How many problems a limit means: of a share, of those that count, rounded up. The share counts as it is written:
    0.07 of 100 problems are 7, although the nearest binary number is above it."""
    if limit is None or limit >= 1:
        return None if limit is None else int(limit)
    admitted = sum(scope is None or scope.admits(problem) for problem in problems.problems)
    return math.ceil(Fraction(str(limit)) * admitted)
