"""What is found out about a test set once, with its reference program, in the sandbox, and kept in the cache.

For ``calls``: what the reference returns and how long it takes. For test code: which calls each test makes (so that a
program's answers can be had in one go), and how it can be split between the program's sandbox and the judge's: ``data``
where it says no more than which calls give which literals (no judge is needed), else
``call`` by the calls of the function, ``expression`` by the side of each comparison that mentions the program, or not
at all (``whole``: such verdicts are marked ``integrity: weak``, because test and program share a process).
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cipo_eval.errors import MissingError
from cipo_eval.files import cache_dir, write_bytes
from cipo_eval.sandbox import codec
from cipo_eval.sandbox.box import Lane
from cipo_eval.sandbox.lines import LOADED, record
from cipo_eval.sandbox.worker import Job
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.asserts import plain_asserts
from cipo_eval.verifiers.code.confirm import agreed
from cipo_eval.verifiers.code.testsets import Kind, Test, TestSet

VERSION = 3
"""Of this file's contents: older ones in the cache are made anew."""
REFERENCE_SECONDS = 120.0
"""Processor time that the reference may take on one test."""
JUDGE_SECONDS = 30.0
"""Wall time of one program's test code, which takes a fraction of a second on right answers."""


class ReferenceError(Exception):
    """The reference program does not do what its tests ask: the data is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is known of a test set before any program is judged: by test, in the order of all groups."""

    expected: list[Any]
    """``calls``: what the reference returned, in the codec's form; None where the test states it. ``code`` that is
    ``data``: the list of what its calls must return."""
    seconds: list[float]
    """Processor time of the reference; 0 where it was not run."""
    calls: list[list[Mapping[str, Any]]]
    """``code``: calls of each test."""
    split: list[str]
    """``code``: ``data``, ``call``, ``expression`` or ``whole``."""
    dropped: list[int] = field(default_factory=list)
    """Tests that do not count, because right programs do not agree on them (``confirm``): all else is without them."""


@functools.lru_cache(maxsize=64)
def prepare(reference: str, lane: Lane) -> Prepared:
    """What is known of the test set with this reference (``testsets.store``): from the cache, or found out now.
    Raises ``ReferenceError``, ``SandboxError``."""
    tests = testsets.load(reference)
    if tests.kind is Kind.STDIN or not (tests.kind is Kind.CODE or _derived(tests)):
        count = len(flat(tests))
        return Prepared(expected=[None] * count, seconds=[0.0] * count, calls=[], split=[])
    path = cache_dir() / "prepared" / f"{reference.removeprefix('tests:')}-{VERSION}.json.gz"
    try:
        return Prepared(**json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        pass  # not there yet, or damaged
    prepared = _derive(tests, lane) if tests.kind is Kind.CALLS else _record(tests, lane)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(prepared), separators=(",", ":")).encode("ascii")
        write_bytes(path, gzip.compress(text, compresslevel=1), shared=True)
    except OSError as error:
        raise MissingError(
            f"cannot keep {path} ({error.strerror}): set CIPO_EVAL_CACHE to another folder"
        ) from error
    return prepared


@functools.lru_cache(maxsize=64)
def counting(reference: str, lane: Lane) -> TestSet:
    """The test set without the tests that do not count."""
    tests = testsets.load(reference)
    dropped = set(prepare(reference, lane).dropped)
    groups, at = [], 0
    for group in tests.groups if dropped else ():
        remaining = [test for number, test in enumerate(group.tests, at) if number not in dropped]
        groups.append(replace(group, tests=tuple(remaining)))
        at += len(group.tests)
    return replace(tests, groups=tuple(groups)) if dropped else tests


@functools.lru_cache(maxsize=64)
def expected_lines(reference: str, lane: Lane) -> list[bytes]:
    """By test of ``calls`` (by call of ``code`` that is ``data``), the record of a program that returns just what is
    expected; empty where equal forms do not mean equal values (NaN, objects). Most answers of right programs are
    recognised by it, unread."""
    prepared = prepare(reference, lane)
    lines: list[bytes] = []
    for test, derived in zip(flat(counting(reference, lane)), prepared.expected, strict=True):
        if prepared.split:
            lines += map(_line, derived or ())
        else:
            lines.append(_line(derived if test.derive else test.expected))
    return lines


def _line(expected: Any) -> bytes:
    form = codec.to_json(["v", expected])
    return b"" if '{"f":"nan"' in form or '{"o":' in form else form.encode("ascii")


def flat(tests: TestSet) -> list[Test]:
    """The tests of all groups, in order."""
    return [test for group in tests.groups for test in group.tests]


def _derived(tests: TestSet) -> bool:
    return any(test.derive for test in flat(tests))


def _derive(tests: TestSet, lane: Lane) -> Prepared:
    """Runs the reference on every test whose expected result it gives."""
    every = flat(tests)
    to_derive = [number for number, test in enumerate(every) if test.derive and not test.confirmed]
    expected: list[Any] = [None] * len(every)
    seconds = [0.0] * len(every)

    def on_record(number: int, line: bytes, cpu: float) -> bool:
        if number == 0 and line == LOADED:
            return True
        entry = record(line)
        if entry[0] != "v":
            raise ReferenceError(f"the reference program fails: {entry[:3]}")
        expected[to_derive[number - 1]], seconds[to_derive[number - 1]] = entry[1], cpu
        got.append(number)
        return True

    got: list[int] = []
    job = reference_job(tests, [call_of(tests, every[number]) for number in to_derive])
    end = lane.sample(job.program).run(job, on_record) if to_derive else None
    if end and len(got) < len(to_derive):
        raise ReferenceError(
            f"the reference program ended on test {to_derive[len(got)]}: {end.reason}, {end.status}"
        )
    made = {number: test for number, test in enumerate(every) if test.confirmed}
    results = agreed(tests, list(made.values()), [call_of(tests, test) for test in made.values()], lane)
    dropped = []
    for number, result in zip(made, results, strict=True):
        if result is None:
            dropped.append(number)
        else:
            expected[number], seconds[number] = result
    for number in reversed(dropped):
        del expected[number], seconds[number]
    return Prepared(expected=expected, seconds=seconds, calls=[], split=[], dropped=dropped)


def reference_job(tests: TestSet, calls: Sequence[Mapping[str, Any]]) -> Job:
    """The job of running the reference program on these calls."""
    return Job(
        program=tests.reference or "",
        kind="calls",
        tests=calls,
        target=tests.target or tests.entry_point,
        preamble=tests.preamble,
        cpu=(REFERENCE_SECONDS,),
        memory=tests.memory,
        output=1 << 30,
    )


def call_of(tests: TestSet, test: Test) -> dict[str, Any]:
    """What a program is told of a test of ``calls``: never what is expected."""
    call: dict[str, Any] = {"args": test.args}
    if tests.rule["name"] == "leetcode":
        call["listed"] = True  # its judge takes a generator for the list that it gives
    if test.kwargs:
        call["kwargs"] = dict(test.kwargs)
    if test.ops:
        call["ops"] = test.ops
    if test.after is not None:
        call["after"] = test.after
    return call


def judge_request(tests: TestSet, sources: Sequence[str], **more: Any) -> dict[str, Any]:
    """The request that a judge runs the ``sources`` of some tests (``sandbox.judge``); ``more``: its other fields."""
    body = {
        "reference": tests.reference or "",
        "preamble": tests.preamble,
        "entry_point": tests.entry_point,
        "tests": list(sources),
        "results": [],
        "split": [],
        "live": False,
        "all": False,
    }
    return {**body, **more}


def _record(tests: TestSet, lane: Lane) -> Prepared:
    """Runs each test's code against the reference, call by call, and keeps the calls."""
    split, calls, expected = [], [], []
    for test in flat(tests):
        how, made = _split(tests, test.source, lane)
        cases = plain_asserts(test.source, tests.entry_point) if how == "call" else None
        is_data = cases is not None and [call for call, _ in cases] == made
        split.append("data" if is_data else how)
        expected.append([value for _, value in cases or ()] if is_data else None)
        calls.append(made)
    return Prepared(expected=expected, seconds=[0.0] * len(calls), calls=calls, split=split)


def _split(tests: TestSet, source: str, lane: Lane) -> tuple[str, list[Mapping[str, Any]]]:
    job = reference_job(tests, [])
    for how in ("call", "expression"):
        with lane.sample(job.program).converse(job) as program:
            request = judge_request(tests, [source], split=[how], live=True)
            reply = lane.judge().request(request, program.ask, JUDGE_SECONDS)
        if isinstance(reply, dict) and reply.get("outcomes") == [None]:
            return how, reply["calls"][0]
    whole = reference_job(tests, [whole_test(tests, source)])
    records, _ = lane.sample(whole.program).collect(whole)
    if [entry[0] for entry in records] != ["l", "v"]:
        raise ReferenceError(f"the reference program does not pass its own test: {reply}, {records[-1:]}")
    return "whole", []


def whole_test(tests: TestSet, source: str) -> dict[str, Any]:
    """A test that cannot be split from the program, as a call that runs in the program's own process."""
    return {"source": f"candidate = {tests.entry_point}\n{source}"}
