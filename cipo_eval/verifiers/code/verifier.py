"""The verifier ``code``: is this program right? (docs/sandbox.md)

The program runs in the sandbox and gets calls or standard input, nothing else; what it returns is compared here, or by
the task's test code in a sandbox of its own. Limits are processor time first, so that a verdict does not depend on what
else the machine does.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from cipo_eval.errors import CipoError
from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State
from cipo_eval.sandbox import codec, probe, sample
from cipo_eval.sandbox.box import Lane, Outcome, Series, outcome
from cipo_eval.sandbox.lines import LOADED, record
from cipo_eval.sandbox.worker import Job
from cipo_eval.texts import STRIP
from cipo_eval.verifiers.code import testsets, verdict
from cipo_eval.verifiers.code.extract import extract_paper, extract_program
from cipo_eval.verifiers.code.outputs import Comparison, same_output
from cipo_eval.verifiers.code.prepare import (
    Prepared,
    ReferenceError,
    call_of,
    counting,
    expected_lines,
    flat,
    prepare,
)
from cipo_eval.verifiers.code.testcode import judge_code
from cipo_eval.verifiers.code.testsets import Kind, Test, TestSet
from cipo_eval.verifiers.code.verdict import CRASH, ERROR, TIMEOUT, WRONG, Judgement, what_ended

GRADING_SECONDS = 3600.0
"""Wall time after which a grading is broken. Programs are stopped long before, by the sandbox; this is for itself."""
EVALPLUS_SECONDS = 60.0
"""EvalPlus ends a program after the sum of its tests' limits, but at most this, and a second."""
OUTPUT = 64 << 20
"""Bytes of results that a program may return, beyond twice what is expected."""

_lane: Lane | None = None
_lock = threading.Lock()


class CodeVerifier:
    """Programs, judged by running them. ``Problem.gold`` refers to a test set (``testsets``)."""

    name = "code"

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction:
        """The program in a completion. ``options``: ``entry_point``, ``prompt`` (code to be continued), ``think``."""
        options = problem.options
        stopped = finish_reason is None or not finish_reason.cut_off
        if mode is Mode.PAPER:
            extraction = extract_paper(
                text,
                rule=str(options["paper"]),
                prompt=options.get("prompt"),
                entry_point=options.get("entry_point"),
            )
        else:
            extraction = extract_program(
                text,
                stopped=stopped,
                entry_point=options.get("entry_point"),
                prompt=options.get("prompt"),
                think=str(options.get("think", STRIP)),
            )
        if extraction is None or not extraction.code.strip():
            return Extraction(answer=None, state=State.NO_ANSWER if stopped else State.TRUNCATED)
        return Extraction(answer=extraction.code, how=extraction.how)

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """The longest that judging against these tests may take, in processor seconds."""
        return GRADING_SECONDS

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:
        """Runs the program on its tests, up to the first that fails. Never raises; ``failed``: no verdict.

        What breaks down, or may have been disturbed from outside (a process killed or stopped), is tried once again
        in fresh processes; what the program does then is its own.
        """
        with _lock:
            try:
                lane = _shared_lane(bool(options.get("allow_unsafe")))
                lane.doubts = True
                with suppress(CipoError, ReferenceError):
                    return judge(lane, gold, answer, mode)
                lane.doubts = False
                return judge(lane, gold, answer, mode)
            except (CipoError, ReferenceError) as error:
                return Grade(
                    correct=False, canonical="", method=f"{type(error).__name__}: {error}"[:500], failed=True
                )


def _shared_lane(allow_unsafe: bool) -> Lane:
    global _lane
    if _lane is None:
        _lane = Lane(probe.choose(allow_unsafe=allow_unsafe).tier)
        atexit.register(_lane.close)
    return _lane


def judge(lane: Lane, gold: str, program: str, mode: Mode) -> Grade:
    """The verdict on a program. Raises ``CipoError`` or ``ReferenceError`` where there is none."""
    tests = testsets.load(gold)
    if tests.kind is Kind.CALLS:
        tests = counting(gold, lane)
    judgement = Judgement(tests)
    try:
        program.encode("utf-8")
    except UnicodeEncodeError as error:  # lone surrogates: no source file can hold them
        judgement.failed(ERROR, f"SyntaxError: {error}")
        return judgement.grade(lane.tier)
    if tests.kind is Kind.STDIN:
        _judge_stdin(lane, tests, program, mode, judgement)
        return judgement.grade(lane.tier)
    preparation = prepare(gold, lane), expected_lines(gold, lane)
    if tests.kind is Kind.CALLS:
        _judge_calls(lane, tests, program, mode, judgement, preparation)
    else:
        judge_code(lane, tests, program, judgement, preparation)
    return judgement.grade(lane.tier)


# --- calls -------------------------------------------------------------------------------------------------


def _judge_calls(
    lane: Lane,
    tests: TestSet,
    program: str,
    mode: Mode,
    judgement: Judgement,
    preparation: tuple[Prepared, Sequence[bytes]],
) -> None:
    prepared, lines = preparation
    every = flat(tests)
    comparison = Comparison(tests.rule, mode)

    def on_record(number: int, line: bytes, _seconds: float) -> bool:
        if number == 0 and line == LOADED:
            return True
        at = len(judgement.outcomes)
        if number > 0 and line == lines[at]:
            judgement.passed()
            return True
        entry, test = record(line), every[at]
        expected = prepared.expected[at] if test.derive else test.expected
        if number > 0 and entry[0] == "v" and _right(comparison, entry[1], expected, test):
            judgement.passed()
            return True
        result = outcome(entry, 0.0)
        if result.error is not None:
            judgement.failed(ERROR, verdict.error_text(result))
        else:
            judgement.failed(WRONG, actual=verdict.plain(entry[1]) if entry[0] == "v" else "?")
        return False

    limits = [max(tests.cpu_seconds, tests.reference_factor * seconds) for seconds in prepared.seconds]
    total = None
    if tests.rule["name"] == "evalplus":
        total = _evalplus_total(tests, limits, prepared.seconds if mode is Mode.FIXED else ())
    target, preamble = tests.target or tests.entry_point, tests.preamble
    if mode is Mode.PAPER and tests.rule["name"] == "functional":
        program, target, preamble = _like_livecodebench(program, tests)
    job = Job(
        program=program,
        kind="calls",
        tests=[call_of(tests, test) for test in every],
        target=target,
        preamble=preamble,
        cpu=(tests.cpu_seconds, *limits),
        total=total,
        memory=tests.memory,
        output=OUTPUT + 2 * sum(map(len, lines)),
    )
    end = lane.sample(program).run(job, on_record)
    if judgement.unfinished:
        judgement.failed(*what_ended(end))
    judgement.seconds = end.cpu


def _like_livecodebench(program: str, tests: TestSet) -> tuple[str, str, str]:
    """Program, target and preamble as LiveCodeBench's runner has them: imports in the same source (before a
    ``from __future__``, which then fails), one instance of ``Solution`` for all tests, or a plain function."""
    _, _, method = tests.target.rpartition(".")
    shared = f"(globals().get('_shared') or globals().setdefault('_shared', {tests.entry_point}())).{method}"
    digits = "sys.set_int_max_str_digits(50000)"  # `sys` is among the imports of the preamble
    return f"{tests.preamble}\n{digits}\n{program}", shared if "class Solution" in program else method, ""


def _evalplus_total(tests: TestSet, limits: Sequence[float], reference: Sequence[float]) -> float:
    """EvalPlus runs each group in a process of its own; here one process runs them all, under the sum.

    Its cap for a group is a minute on whatever machine. With the seconds of the ``reference`` for each test
    (``fixed``), one that takes long here raises it, as it does the limit of a test.
    """
    total, at = 0.0, 0
    for group in tests.groups:
        span = slice(at, at + len(group.tests))
        cap = max(EVALPLUS_SECONDS, tests.reference_factor * sum(reference[span]))
        total += min(cap, sum(limits[span])) + 1
        at = span.stop
    return total


def _right(comparison: Comparison, value: Any, expected: Any, test: Test) -> bool:
    try:
        return comparison.right(
            codec.decode(value), codec.decode(expected), [codec.decode(arg) for arg in test.args]
        )
    except codec.CodecError:
        return False


# --- standard input ----------------------------------------------------------------------------------------


def _judge_stdin(lane: Lane, tests: TestSet, program: str, mode: Mode, judgement: Judgement) -> None:
    every = flat(tests)
    tolerance = tests.rule.get("tolerance") if mode is Mode.FIXED else None

    def is_right(number: int, result: Outcome) -> bool:
        printed = result.stdout.decode("utf-8", "replace")
        return (
            result.error is None
            and not result.exit_code
            and same_output(printed, every[number].expected, tolerance)
        )

    job = Job(
        program=program,
        kind="stdin" if mode is Mode.FIXED else "lcb",
        tests=[{"input": test.input} for test in every],
        preamble=sample.LCB_PREAMBLE if mode is Mode.PAPER else "",
        cpu=(tests.cpu_seconds,),
        memory=tests.memory,
    )
    series = Series(job, is_right)
    end = series.run(lane.sample(program))
    for result, right in zip(series.outcomes, series.verdicts, strict=True):
        judgement.seconds += result.seconds
        if right:
            judgement.passed()
            continue
        _stdin_failure(judgement, result)
        return
    if judgement.unfinished:
        judgement.failed(*what_ended(end))


def _stdin_failure(judgement: Judgement, result: Outcome) -> None:
    if result.error and result.error.startswith("time limit"):
        judgement.failed(TIMEOUT, result.error)
    elif result.error:
        judgement.failed(ERROR if result.traceback else CRASH, verdict.error_text(result))
    elif result.exit_code:
        judgement.failed(ERROR, result.stderr.decode("utf-8", "replace"))
    else:
        judgement.failed(WRONG, actual=result.stdout.decode("utf-8", "replace"))
