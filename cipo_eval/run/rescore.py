"""Judging again: new verdicts for attempts that are stored, without a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Attempt, AttemptKey, Mode, Problem, State, Verdict
from cipo_eval.run.chunks import judged_anew
from cipo_eval.run.judging import Verdicts, judgement, labels
from cipo_eval.run.plan import TaskPlan
from cipo_eval.storage.attempts import Attempts, BoolArray
from cipo_eval.turns.protocols import PROTOCOLS
from cipo_eval.verifiers.pool import VerifierPool

UNDER_WAY = 1024
"""Attempts that are with the verifiers at once: their texts are in memory."""


def without_verdict(attempts: Attempts) -> BoolArray:
    """Which attempts have no verdict that holds: none at all (an interrupted run), or that the verifier failed (a
    harness that was being killed said so as well). Shape (attempts,)."""
    unsure = ~attempts.judged
    for mode in attempts.numbers.modes:
        unsure |= attempts.in_state(mode, State.VERIFIER_ERROR)
    return unsure


def judgements(attempts: Attempts) -> BoolArray:
    """Which attempts are judgements of others, shape (attempts,)."""
    judging = [word in PROTOCOLS and PROTOCOLS[word].judges for word in attempts.words("protocol")]
    of = np.array([*judging, False])[attempts.column("protocol")]
    return np.asarray(of & (attempts.column("turn") % 2 == 0), dtype=bool)


def with_judgements(chosen: Attempts, stored: Attempts) -> Attempts:
    """These attempts and the judgements of them, which depend on their verdicts, of all that are ``stored``."""
    wanted = np.zeros(len(stored.numbers), bool)
    wanted[chosen.rows] = True
    judging = judgements(stored)
    if judging.any():
        judged = {key._replace(turn=key.turn + 1) for key in chosen.only(~judgements(chosen)).each_key()}
        said = stored.only(judging)
        wanted[said.rows] |= np.fromiter((key in judged for key in said.each_key()), bool, len(said))
    return stored.only(wanted[stored.rows])


def problems_of(plan: TaskPlan, attempts: Attempts) -> dict[str, Problem]:
    """By id the problems of a task. Raises ``UsageError`` for attempts at problems that the data does not have."""
    problems = {p.id: p for p in plan.all_problems}
    unknown = sorted(attempts.present("problem") - problems.keys())
    if unknown:
        raise UsageError(
            f"{plan.name}: attempts at problems that the data does not have: {', '.join(unknown[:5])}"
        )
    return problems


def judged_again(
    plan: TaskPlan,
    attempts: Attempts,
    pool: VerifierPool,
    modes: Sequence[Mode],
    interrupts: Interrupts,
    stored: Attempts,
) -> Iterator[tuple[Attempt, Attempt]]:
    """Attempts as they were and with new verdicts, in their order. ``stored``: where judgements find the attempts that
    they are about. Raises ``UsageError`` for attempts at problems that the data does not have."""
    problems = problems_of(plan, attempts)
    # no more of the tables is kept than is needed: there may be millions of attempts
    responses = _Responses(attempts, stored) if judgements(attempts).any() else None
    return _judged(_Again(plan, problems, pool, modes, interrupts), iter(attempts), responses)


class _Again:
    """How attempts are judged again."""

    def __init__(
        self,
        plan: TaskPlan,
        problems: Mapping[str, Problem],
        pool: VerifierPool,
        modes: Sequence[Mode],
        interrupts: Interrupts,
    ) -> None:
        self.plan, self._problems, self._pool = plan, problems, pool
        self._modes, self._interrupts = modes, interrupts

    def submit(self, attempt: Attempt) -> Verdicts | dict[Mode, Verdict]:
        verifier, problem = self.plan.problems.spec.verifier, self._problems[attempt.problem]
        if PROTOCOLS[attempt.protocol].locates:
            return labels(problem, self._modes)
        return self._pool.judge(verifier, problem, attempt.text, attempt.finish_reason, self._modes)

    def result(self, attempt: Attempt, verdicts: Verdicts | dict[Mode, Verdict]) -> Attempt:
        with self._interrupts.allowed():  # also where nothing is waited for: a signal comes through here
            by_mode = verdicts.result() if isinstance(verdicts, Future) else verdicts
        return judged_anew(attempt, by_mode)


def _judged(
    again: _Again, attempts: Iterator[Attempt], responses: _Responses | None
) -> Iterator[tuple[Attempt, Attempt]]:
    under_way: deque[tuple[Attempt, Verdicts | dict[Mode, Verdict] | None]] = deque()

    def first() -> tuple[Attempt, Attempt]:
        attempt, verdicts = under_way.popleft()
        if verdicts is not None:
            judged = again.result(attempt, verdicts)
            if responses is not None:
                responses.note(judged)
            return attempt, judged
        response = responses.of(attempt.key, again) if responses else {}
        new = judgement(attempt, response, again.plan, PROTOCOLS[attempt.protocol])
        return attempt, replace(attempt, verdicts=new)

    for attempt in attempts:
        under_way.append((attempt, None if _is_judgement(attempt) else again.submit(attempt)))
        if len(under_way) >= UNDER_WAY:
            yield first()
    while under_way:
        yield first()


class _Responses:
    """New verdicts of attempts that judgements are about."""

    def __init__(self, attempts: Attempts, stored: Attempts) -> None:
        self._chosen, self._stored = attempts, stored
        self._verdicts: dict[AttemptKey, Mapping[Mode, Verdict]] = {}

    def note(self, attempt: Attempt) -> None:
        """Keeps the verdicts of an attempt that may be judged by the model."""
        if PROTOCOLS[attempt.protocol].judges:
            self._verdicts[attempt.key] = attempt.verdicts

    def of(self, judging: AttemptKey, again: _Again) -> Mapping[Mode, Verdict]:
        """The verdicts of what a judgement is about: it comes before it in a file, as a rule."""
        key = judging._replace(turn=judging.turn - 1)
        if key in self._verdicts:
            return self._verdicts.pop(key)
        for attempts, anew in ((self._chosen, True), (self._stored, False)):
            at = attempts.only(attempts.is_at(key))
            for attempt in at:
                return again.result(attempt, again.submit(attempt)).verdicts if anew else attempt.verdicts
        raise UsageError(f"{judging}: what it judges is not there")


def _is_judgement(attempt: Attempt) -> bool:
    return PROTOCOLS[attempt.protocol].is_judgement(attempt.turn)
