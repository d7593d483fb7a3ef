"""Rewards with TRL's signature: completions and columns of the data set come as lists, one reward a completion goes.

A row that a reward does not apply to gets None, which TRL leaves out. Whatever else a trainer passes on (prompts, its
state, further columns) is taken and not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import Problem
from cipo_eval.rewards.judging import (
    Completion,
    code_problem,
    column,
    finish_reasons,
    judged,
    log,
    math_problem,
    text_of,
)
from cipo_eval.rewards.shaping import risk_penalty

LogMetric = Callable[[str, float], None]
"""TRL's ``log_metric``: logs a number under a name."""
LogExtra = Callable[[str, list[Any]], None]
"""TRL's ``log_extra``: logs a column, a value for each completion, under a name."""


def math_reward(
    completions: Sequence[Completion],
    solution: Sequence[str | None],
    *,
    verifier_options: Sequence[Any] | None = None,
    completion_ids: Sequence[Sequence[int]] | None = None,
    max_completion_length: int | None = None,
    log_metric: LogMetric | None = None,
    log_extra: LogExtra | None = None,
    **_: Any,
) -> list[float | None]:
    """1 for a right final answer, else 0; None for a row whose ``solution`` has no answer.

    ``solution``: see ``reference_answer``. ``verifier_options``: by row, what its answer asks of the verifier
    (docs/math-verifier.md), a mapping or its JSON text. With ``max_completion_length``, a completion of so many
    tokens was cut off, and has an answer only where it says so.
    """
    count = len(completions)
    options = column("verifier_options", verifier_options, count)
    problems = [math_problem(s, o) for s, o in zip(column("solution", solution, count), options, strict=True)]
    reasons = finish_reasons(completion_ids, max_completion_length, count)
    verdicts = judged(problems, [text_of(c) for c in completions], reasons)
    log(verdicts, log_metric, log_extra)
    return [None if verdict is None else float(verdict.correct) for verdict in verdicts]


def code_reward(
    completions: Sequence[Completion],
    tests: Sequence[Any],
    *,
    entry_point: Sequence[str | None] | None = None,
    reference: Sequence[str | None] | None = None,
    completion_ids: Sequence[Sequence[int]] | None = None,
    max_completion_length: int | None = None,
    log_metric: LogMetric | None = None,
    log_extra: LogExtra | None = None,
    **_: Any,
) -> list[float | None]:
    """1 for a program that passes all tests of its row, in the sandbox, else 0; None for a row without tests.

    ``tests``, ``entry_point``, ``reference``: by row, as ``read_tests`` takes them; raises ``UsageError`` for what it
    cannot read.
    """
    count = len(completions)
    problems = _code_problems(tests, entry_point, reference, count)
    reasons = finish_reasons(completion_ids, max_completion_length, count)
    verdicts = judged(problems, [text_of(c) for c in completions], reasons)
    log(verdicts, log_metric, log_extra)
    return [None if verdict is None else float(verdict.correct) for verdict in verdicts]


def correction_reward(
    completions: Sequence[Completion],
    solution: Sequence[str | None] | None = None,
    *,
    tests: Sequence[Any] | None = None,
    first_right: Sequence[bool | None] | None = None,
    attempt: Sequence[str | None] | None = None,
    risk: float = 1.0,
    entry_point: Sequence[str | None] | None = None,
    reference: Sequence[str | None] | None = None,
    verifier_options: Sequence[Any] | None = None,
    completion_ids: Sequence[Sequence[int]] | None = None,
    max_completion_length: int | None = None,
    log_metric: LogMetric | None = None,
    log_extra: LogExtra | None = None,
    **_: Any,
) -> list[float | None]:
    """CIPO's risk-averse reward of corrections: 1 for a right one, 0 for a wrong one, -``risk`` for one that makes a
    right first attempt wrong (``risk_penalty``).

    A row has a ``solution`` (mathematics) or ``tests`` (programs), and says what was corrected: ``first_right``, or the
    ``attempt`` itself, which is judged. A row with neither is a fresh problem, without penalty, so that both of
    CIPO's streams can share one data set; a row with neither gold gets None. Raises ``UsageError`` where the data set
    has no column ``first_right`` or ``attempt`` at all, or neither ``solution`` nor ``tests``.
    """
    if first_right is None and attempt is None:
        raise UsageError("correction_reward needs a column first_right, or attempt, of what is corrected")
    if solution is None and tests is None:
        raise UsageError("correction_reward needs a column solution (mathematics) or tests (programs)")
    count = len(completions)
    answers, options = (
        column("solution", solution, count),
        column("verifier_options", verifier_options, count),
    )
    programs = _code_problems(tests, entry_point, reference, count)
    problems = [p or math_problem(s, o) for p, s, o in zip(programs, answers, options, strict=True)]
    known, attempts = column("first_right", first_right, count), column("attempt", attempt, count)
    unknown = [a is not None and right is None for a, right in zip(attempts, known, strict=True)]
    reasons = finish_reasons(completion_ids, max_completion_length, count)
    verdicts = judged(
        [*problems, *(p if asked else None for p, asked in zip(problems, unknown, strict=True))],
        [*(text_of(c) for c in completions), *(text_of(a or "") for a in attempts)],
        [*reasons, *([None] * count)],
    )
    corrections, firsts = verdicts[:count], verdicts[count:]
    log(corrections, log_metric, log_extra)
    return [
        None
        if verdict is None
        else float(verdict.correct)
        - risk_penalty(first.correct if first else bool(right), verdict.correct, risk)
        for verdict, first, right in zip(corrections, firsts, known, strict=True)
    ]


def _code_problems(
    tests: Sequence[Any] | None,
    entry_point: Sequence[str | None] | None,
    reference: Sequence[str | None] | None,
    count: int,
) -> list[Problem | None]:
    columns = (
        column("tests", tests, count),
        column("entry_point", entry_point, count),
        column("reference", reference, count),
    )
    return [code_problem(*row) for row in zip(*columns, strict=True)]
