"""Inputs that somebody made up: do right programs agree on what they lead to?

A statement rules out many inputs (unsorted where it says sorted, names that nobody has), and what a right program does
with one of those is its own affair. An input counts only where the reference and the test set's ``confirmations`` all
return, soon, and the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cipo_eval.records import Mode
from cipo_eval.sandbox import codec
from cipo_eval.sandbox.box import Lane
from cipo_eval.sandbox.lines import LOADED, record
from cipo_eval.sandbox.worker import Job
from cipo_eval.verifiers.code.outputs import Comparison
from cipo_eval.verifiers.code.testsets import Test, TestSet

SECONDS = 1.0
"""Processor time that a right program may take: well below what a judged one may."""
MOST_ENDS = 8
"""Starts of a program after inputs that ended it; inputs that are left then do not count."""


def agreed(
    tests: TestSet, made: Sequence[Test], calls: Sequence[Mapping[str, Any]], lane: Lane
) -> list[tuple[Any, float] | None]:
    """For each of the tests, whose calls are given too: what it leads to, in the codec's form, and the reference's
    processor time; None where it does not count. Raises ``SandboxError``."""
    results = _results(tests, tests.reference or "", calls, lane)
    comparison = Comparison(tests.rule, Mode.FIXED)
    for program in ("", *tests.confirmations):
        left = [at for at, result in enumerate(results) if result is not None]
        others = (
            _results(tests, program, [calls[at] for at in left], lane)
            if program
            else [results[at] for at in left]
        )
        for at, other in zip(left, others, strict=True):
            first = results[at]
            if first is None or other is None or not _same(comparison, first[0], other[0], made[at].args):
                results[at] = None  # where it does not even equal itself, nothing could be compared with it
    return results


def _results(
    tests: TestSet, program: str, calls: Sequence[Mapping[str, Any]], lane: Lane
) -> list[tuple[Any, float] | None]:
    """What a program returns for each call; None where it raises or takes too long."""
    results: list[tuple[Any, float] | None] = []

    def on_record(number: int, line: bytes, cpu: float) -> bool:
        if number > 0:
            entry = record(line)
            results.append((entry[1], cpu) if entry[0] == "v" else None)
        return number > 0 or line == LOADED

    whole = Job(
        program=program,
        kind="calls",
        tests=calls,
        target=tests.target or tests.entry_point,
        preamble=tests.preamble,
        cpu=(tests.cpu_seconds, SECONDS),
        memory=tests.memory,
    )
    for _ in range(MOST_ENDS):
        if len(results) < len(calls):
            lane.sample(program).run(replace(whole, tests=calls[len(results) :]), on_record)
            if len(results) < len(calls):
                results.append(None)  # of the input that ended it
    return results + [None] * (len(calls) - len(results))


def _same(comparison: Comparison, value: Any, expected: Any, args: Sequence[Any]) -> bool:
    try:
        decoded = [codec.decode(arg) for arg in args]
        return comparison.right(codec.decode(value), codec.decode(expected), decoded) and comparison.right(
            codec.decode(expected), codec.decode(value), decoded
        )
    except codec.CodecError:
        return False
