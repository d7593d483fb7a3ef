"""Tests that are code (``assert f(2) == 4``): the program answers their calls, a judge runs them on the answers.

The calls are known beforehand (``prepare``), so the program makes them all in one go, in its own sandbox. A test that
makes another call than it made with the reference has it made then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from cipo_eval.sandbox import codec
from cipo_eval.sandbox.box import Lane, outcome
from cipo_eval.sandbox.lines import LOADED, LOADED_RECORD, Record, record
from cipo_eval.sandbox.worker import Conversation, Job, JudgeError
from cipo_eval.verifiers.code.prepare import (
    JUDGE_SECONDS,
    Prepared,
    ReferenceError,
    flat,
    judge_request,
    whole_test,
)
from cipo_eval.verifiers.code.testsets import TestSet
from cipo_eval.verifiers.code.verdict import ERROR, WRONG, Judgement, error_text, what_ended

_DEAD: Record = ["d"]
_Problem = Sequence[str]
"""Type and message of what a test raised."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """A test with the calls that it makes and the program's answers to them."""

    source: str
    split: str
    calls: Sequence[tuple[Mapping[str, Any], Record]]


def judge_code(
    lane: Lane,
    tests: TestSet,
    program: str,
    judgement: Judgement,
    preparation: tuple[Prepared, Sequence[bytes]],
) -> None:
    """Runs a program's tests and collects their outcomes in ``judgement``, up to the first failure.

    ``preparation``: what is known of the test set (``prepare``), and the records of a program that returns just what
    is expected (``expected_lines``). Raises ``SandboxError``, ``ReferenceError``.
    """
    prepared, lines = preparation
    expected_calls = [
        [whole_test(tests, test.source)] if split == "whole" else list(calls)
        for test, split, calls in zip(flat(tests), prepared.split, prepared.calls, strict=True)
    ]
    job = Job(
        program=program,
        kind="calls",
        tests=[call for calls in expected_calls for call in calls],
        target=tests.entry_point,
        preamble=tests.preamble,
        cpu=(tests.cpu_seconds,),
        memory=tests.memory,
    )
    if set(prepared.split) == {"data"}:
        _judge_data(lane, job, judgement, prepared, lines)
        return
    records, end = lane.sample(program).collect(job)
    judgement.seconds = end.cpu
    if not records:
        judgement.failed(*what_ended(end))
        return
    if records[0] != LOADED_RECORD:
        judgement.failed(ERROR, error_text(outcome(records[0], 0.0)))
        return
    answers = iter(records[1:])
    answered = [
        _Answered(
            test.source,
            "call" if split == "data" else split,
            [(call, next(answers, _DEAD)) for call in calls],
        )
        for test, split, calls in zip(flat(tests), prepared.split, expected_calls, strict=True)
    ]
    judged = iter(_run(lane, tests, [a for a in answered if a.split != "whole"], job))
    for test in answered:
        if test.split == "whole":
            judgement.weak = True
            problem = _problem(test.calls[0][1])
        else:
            problem = next(judged, None)
        if problem is None:
            judgement.passed()
        elif problem[0] == "Died":
            judgement.failed(*what_ended(end))
            return
        else:
            _failed(judgement, test, problem)
            return


def _failed(judgement: Judgement, test: _Answered, problem: _Problem) -> None:
    """What a private test says of a failure may hold what it expects: of it, only the kind, and the program's words."""
    kind = WRONG if problem[0] == "AssertionError" else ERROR
    if judgement.under_way.public:
        words = ": ".join(part for part in problem if part)
    else:
        raised = [entry for _, entry in test.calls if entry[0] == "x"] if kind == ERROR else []
        words = error_text(outcome(raised[0], 0.0)) if raised else problem[0]
    judgement.failed(kind, words)


def _judge_data(
    lane: Lane, job: Job, judgement: Judgement, prepared: Prepared, lines: Sequence[bytes]
) -> None:
    """Tests that are calls and literals: compared as the answers come."""
    expected = [value for values in prepared.expected for value in values]
    last = list(accumulate(len(values) for values in prepared.expected))  # by test, the calls up to its end

    def on_record(number: int, line: bytes, _seconds: float) -> bool:
        if number == 0 and line == LOADED:
            return True
        if number > 0 and (line == lines[number - 1] or _equal(line, expected[number - 1])):
            if number == last[len(judgement.outcomes)]:
                judgement.passed()
            return True
        result = outcome(record(line), 0.0)
        judgement.failed(
            ERROR if result.error else WRONG, error_text(result) if result.error else "AssertionError"
        )
        return False

    end = lane.sample(job.program).run(job, on_record)
    if judgement.unfinished:
        judgement.failed(*what_ended(end))
    judgement.seconds = end.cpu


def _equal(line: bytes, expected: Any) -> bool:
    entry = record(line)
    try:
        return entry[0] == "v" and bool(codec.decode(entry[1]) == codec.decode(expected))
    except (codec.CodecError, ValueError):  # an array has no truth value
        return False


def _problem(entry: Record) -> _Problem | None:
    """What a test within the program's own process raised."""
    if entry[0] == "v":
        return None
    return [str(part) for part in entry[1:3]] if entry[0] == "x" else ["Died"]


def _run(lane: Lane, tests: TestSet, answered: Sequence[_Answered], job: Job) -> list[_Problem | None]:
    """What the judge says of test after test, up to the first that fails.

    A program may return values on which tests never end (``10 ** value``). It must not be able to choose to have no
    verdict: where the judge breaks down twice on its answers, and not on the reference's, they are wrong.
    """
    if not answered:
        return []
    try:
        return _judged(lane, tests, answered, job)
    except JudgeError:
        pass
    try:
        return _judged(lane, tests, answered, job)
    except JudgeError:
        unanswered = [replace(test, calls=()) for test in answered]
        reference = _judged(lane, tests, unanswered, replace(job, program=tests.reference or ""))
        if reference != [None] * len(answered):
            raise
    return [["Stalled", "the tests do not end on what the program returns"]]


def _judged(lane: Lane, tests: TestSet, answered: Sequence[_Answered], job: Job) -> list[_Problem | None]:
    """One try. Raises ``JudgeError``, ``SandboxError`` (the program's own sandbox), ``ReferenceError``."""
    request = judge_request(
        tests,
        [test.source for test in answered],
        results=[test.calls for test in answered],
        split=[test.split for test in answered],
    )
    with ExitStack() as stack:
        program: list[Conversation] = []

        def ask(call: Mapping[str, Any]) -> Record:
            if not program:
                live = lane.sample(job.program).converse(replace(job, tests=[]))
                program.append(stack.enter_context(live))
            return program[0].ask(call)

        reply = lane.judge().request(request, ask, JUDGE_SECONDS)
    if "outcomes" not in reply:
        raise ReferenceError(f"the tests are broken: {reply.get('broken')}")
    outcomes: list[_Problem | None] = reply["outcomes"]
    return outcomes
