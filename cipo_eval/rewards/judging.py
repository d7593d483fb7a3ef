"""Completions of a batch, judged side by side in the pool of this process."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import FinishReason, Mode, Problem, State, Verdict
from cipo_eval.rewards.golds import reference_answer, stored_tests
from cipo_eval.verifiers.pool import shared_pool

Completion = str | Sequence[Mapping[str, Any]]
"""As trainers give it: a text, or the messages of a chat."""
_REMEMBERED = 20_000
"""Problems that are kept, so that all completions of a row share one object."""
FAILED = (State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR)
"""States of a completion that got no verdict; it counts as wrong."""


def text_of(completion: Completion) -> str:
    """The text that is judged: the completion itself, or the assistant's last message of a chat."""
    if isinstance(completion, str):
        return completion
    messages = [message for message in completion if message.get("role", "assistant") == "assistant"]
    content = messages[-1].get("content") if messages else None
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(part.get("text") or "") for part in content)


def finish_reasons(
    completion_ids: Sequence[Sequence[int]] | None, max_completion_length: int | None, count: int
) -> list[FinishReason | None]:
    """Why each of ``count`` completions ended, as far as its token ids tell, since trainers do not say it: one of
    ``max_completion_length`` tokens was cut off (``LENGTH``); of others it is not known (None)."""
    if completion_ids is None or max_completion_length is None:
        return [None] * count
    return [FinishReason.LENGTH if len(ids) >= max_completion_length else None for ids in completion_ids]


def math_problem(solution: Any, options: Any = None) -> Problem | None:
    """The problem of a row of mathematics; None where it has no answer. ``options``: of the verifier
    (docs/math-verifier.md), a mapping or its JSON text."""
    if solution is None:
        return None
    answer = reference_answer(solution if isinstance(solution, str) else str(solution))
    return None if answer is None else _problem("math", answer, _as_text(options or {}))


def code_problem(tests: Any, entry_point: str | None = None, reference: str | None = None) -> Problem | None:
    """The problem of a row of programs; None where it has no tests. Raises ``UsageError`` as ``read_tests``."""
    if tests is None or (isinstance(tests, str | Sequence) and not tests):
        return None
    gold, name = stored_tests(_as_text(tests), entry_point or None, reference or None)
    return _problem("code", gold, _as_text({"entry_point": name} if name else {}))


def judged(
    problems: Sequence[Problem | None], texts: Sequence[str], reasons: Sequence[FinishReason | None]
) -> list[Verdict | None]:
    """The verdict on each text, in order; None where there is no problem. Safe in any thread, and in a fork."""
    pool = shared_pool()
    begun = [
        None if problem is None else pool.judge(problem.task, problem, text, why, (Mode.FIXED,))
        for problem, text, why in zip(problems, texts, reasons, strict=True)
    ]
    return [
        None
        if verdicts is None
        else (verdicts.result() if isinstance(verdicts, Future) else verdicts)[Mode.FIXED]
        for verdicts in begun
    ]


def log(
    verdicts: Sequence[Verdict | None],
    log_metric: Callable[[str, float], None] | None,
    log_extra: Callable[[str, list[Any]], None] | None,
) -> None:
    """Tells a trainer that asks for it what the verifier read, and how often it had no verdict."""
    judged_ones = [verdict for verdict in verdicts if verdict is not None]
    if log_metric is not None and judged_ones:
        count = len(judged_ones)
        log_metric("cipo_eval/verifier_failed", sum(v.state in FAILED for v in judged_ones) / count)
        log_metric(
            "cipo_eval/no_answer",
            sum(v.state in (State.NO_ANSWER, State.TRUNCATED) for v in judged_ones) / count,
        )
    if log_extra is not None:
        log_extra("extracted", [(v.extracted or "") if v else "" for v in verdicts])


def column(name: str, values: Any, count: int) -> list[Any]:
    """A column of the batch; without it, None for each row. Raises ``UsageError`` where rows are missing."""
    if values is None:
        return [None] * count
    if isinstance(values, str | Mapping) or len(values) != count:
        raise UsageError(f"the column {name} must be a list with one entry for each of {count} completions")
    return list(values)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@functools.lru_cache(maxsize=_REMEMBERED)
def _problem(verifier: str, gold: str, options: str) -> Problem:
    """One object for all completions of a row: the pool looks at what it asks for once."""
    return Problem(
        task=verifier, id="", index=0, question="", prompt="", gold=gold, options=json.loads(options)
    )
