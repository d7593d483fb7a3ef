"""Judging again: new verdicts for attempts that are stored, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Attempt, AttemptKey, Mode, State
from cipo_eval.run.judging import judgement, labelled
from cipo_eval.run.plan import TaskPlan
from cipo_eval.turns.protocols import PROTOCOLS
from cipo_eval.verifiers.pool import VerifierPool


def without_verdict(attempt: Attempt) -> bool:
    """Whether an attempt has no verdict that holds: none at all (an interrupted run), or that the verifier failed (a
    harness that was being killed said so as well)."""
    return not attempt.verdicts or any(v.state is State.VERIFIER_ERROR for v in attempt.verdicts.values())


def with_judgements(
    keys: set[AttemptKey], attempts: Mapping[AttemptKey, Attempt]
) -> dict[AttemptKey, Attempt]:
    """Attempts of these keys, and the judgements of them, which depend on their verdicts."""
    chosen = {key: attempts[key] for key in keys if not _is_judgement(attempts[key])}
    after = {key._replace(turn=key.turn + 1) for key in chosen}
    for key, attempt in attempts.items():
        if _is_judgement(attempt) and (key in keys or key in after):
            chosen[key] = attempt
    return chosen


def judged_again(
    plan: TaskPlan,
    attempts: Mapping[AttemptKey, Attempt],
    pool: VerifierPool,
    modes: Sequence[Mode],
    interrupts: Interrupts,
    judged: MutableMapping[AttemptKey, Attempt],
) -> Iterator[Attempt]:
    """Attempts with new verdicts, then the judgements of them; each also goes into ``judged``, where judgements find
    the attempts that they are about. Raises ``UsageError`` for attempts at problems that the data does not have."""
    problems = {p.id: p for p in plan.all_problems}
    unknown = sorted({a.problem for a in attempts.values() if a.problem not in problems})
    if unknown:
        raise UsageError(
            f"{plan.name}: attempts at problems that the data does not have: {', '.join(unknown[:5])}"
        )
    verifier = plan.problems.spec.verifier
    under_way = [
        (a, pool.submit(verifier, problems[a.problem], a.text, a.finish_reason, modes))
        for a in attempts.values()
        if not _is_judgement(a)
    ]
    for attempt, verdicts in under_way:
        with interrupts.allowed():
            by_mode = verdicts.result()
        label = next((v.report.get("label") for v in attempt.verdicts.values()), None)
        new = {mode.value: labelled(verdict, label) for mode, verdict in by_mode.items()}
        judged[attempt.key] = replace(attempt, verdicts=new)
        yield judged[attempt.key]
    for attempt in [a for a in attempts.values() if _is_judgement(a)]:
        response = judged[attempt.key._replace(turn=attempt.turn - 1)]
        new = {mode.value: verdict for mode, verdict in judgement(attempt, response.verdicts, plan).items()}
        judged[attempt.key] = replace(attempt, verdicts=new)
        yield judged[attempt.key]


def _is_judgement(attempt: Attempt) -> bool:
    return PROTOCOLS[attempt.protocol].is_judgement(attempt.turn)
