"""The contents of ``results.json``: the figures of a run's tasks, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.revisions import revisions
from cipo_eval.analysis.selection import Selected
from cipo_eval.analysis.summary import summarise
from cipo_eval.data.dates import side
from cipo_eval.errors import UsageError
from cipo_eval.records import SCHEMA_VERSION, FinishReason, Mode, State
from cipo_eval.run.plan import TaskPlan
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.numbers import NONE
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

FAILED_STATES = (State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR, State.FILTERED)
"""States in which nothing is known of an attempt: they make a command end with code 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What figures are asked for."""

    modes: Sequence[Mode]
    """The verifier modes of the run, the main one first."""
    ks: Sequence[int] | None = None
    """The k of pass@k and maj@k; None: 1, 2, 4, … and the fewest attempts at a problem."""
    bootstrap: int = 2000
    """Resamples of problems for intervals."""
    figures: Sequence[Figure] = ()
    """Figures of the user's own, beside those of the table (``analysis.figures``)."""


def task_results(plan: TaskPlan, selected: Selected, asked: Measures) -> dict[str, Any]:
    """What ``results.json`` says of one task. Raises ``UsageError`` for a k above the attempts at some problem."""
    metadata = {p.id: p.metadata for p in plan.problems.problems}
    problems = {p: metadata[p] for p in selected.selection.problems_of(DIRECT)}
    first = selected.first
    block: dict[str, Any] = {
        mode.value: _first_attempts(plan, first, problems, mode, asked) for mode in asked.modes if first
    }
    if protocols := _protocols(plan, selected, metadata, asked):
        block["protocols"] = protocols
    if len(asked.modes) > 1:
        block["disagreements"] = disagreements(first, asked.modes)
    block["missing_attempts"] = selected.selection.first_attempts - len(first)
    if selected.not_asked:
        block["not_asked"] = selected.not_asked
    return block


def framed(name: str, info: Mapping[str, Any], tasks: Mapping[str, Any]) -> dict[str, Any]:
    """``results.json`` of the run directory ``name`` whose ``run.json`` is ``info``, from its tasks' blocks."""
    return {
        "schema": SCHEMA_VERSION,
        "run": name,
        **({"shard": info["shard"]} if "shard" in info else {}),
        "model": info["engine"],
        **({"sandbox": info["sandbox"]} if "sandbox" in info else {}),
        "tasks": {task: {**block, **_dates(info, task)} for task, block in tasks.items()},
    }


def _dates(info: Mapping[str, Any], task: str) -> dict[str, Any]:
    """When a task's golds became public, and where the run says when the model's training data ends, whether that was
    before."""
    released, cutoff = info["tasks"].get(task, {}).get("released"), info.get("model_cutoff")
    if not released:
        return {}
    against = {"model_cutoff": cutoff, "golds": side(released, cutoff).value} if cutoff else {}
    return {"released": released, **against}


def failures(task: str, attempts: Attempts, lost: Mapping[str, int]) -> list[str]:
    """What went wrong in attempts at a task, a line each: a failed verifier is never silently a lower score. ``lost``:
    samples that the engine could not get, by reason."""
    counts: Counter[str] = Counter()
    for state in FAILED_STATES:
        in_state = np.zeros(len(attempts), np.int64)
        for mode in attempts.numbers.modes:
            in_state |= attempts.in_state(mode, state)
        counts[state.value] = int(in_state.sum())
    context = attempts.number_of("finish", FinishReason.CONTEXT.value)
    if context != NONE:
        counts["prompt does not fit the model's context"] = int((attempts.column("finish") == context).sum())
    return [f"{task}: {count} attempt(s): {what}" for what, count in sorted(counts.items()) if count] + [
        f"{task}: {count} sample(s) could not be had: {why} (the same command asks for them again)"
        for why, count in sorted(lost.items())
    ]


def disagreements(attempts: Attempts, modes: Sequence[Mode]) -> list[dict[str, Any]]:
    """Attempts that the modes judge differently, by problem and sample, with the answer that each mode saw."""
    rows = []
    verdicts = [attempts.verdicts(mode, "correct") for mode in modes]
    differing = np.any([correct != verdicts[0] for correct in verdicts], axis=0)
    for attempt in attempts.only(differing).in_order():
        judged = {
            mode.value: {"correct": verdict.correct, "answer": verdict.extracted}
            for mode in modes
            if (verdict := attempt.verdicts[mode])
        }
        rows.append({"problem": attempt.problem, "sample": attempt.sample, **judged})
    return rows


def _first_attempts(
    plan: TaskPlan,
    attempts: Attempts,
    metadata: Mapping[str, Mapping[str, Any]],
    mode: Mode,
    asked: Measures,
) -> dict[str, Any]:
    try:
        return summarise(
            plan.name,
            attempts,
            metadata,
            mode=mode,
            ks=asked.ks,
            bootstrap=asked.bootstrap,
            breakdown=plan.problems.spec.breakdown,
            parts=plan.parts,
            majority="maj@k" in plan.problems.spec.metrics,
            figures=asked.figures,
        )
    except ValueError as error:  # a k above the attempts that a replayed file has at some problem
        raise UsageError(f"{plan.name}: {error}") from error


def _protocols(
    plan: TaskPlan, selected: Selected, metadata: Mapping[str, Mapping[str, Any]], asked: Measures
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
                bootstrap=asked.bootstrap,
                first=selected.fresh(name),
                votes="maj@k" in plan.problems.spec.metrics,
                metadata=metadata,
                breakdown=plan.problems.spec.breakdown,
                figures=asked.figures,
                beside=selected.beside(name),
            )
            for mode in asked.modes
        }
        for name in selected.protocols
        if len(attempts := selected.of(name))
    }
