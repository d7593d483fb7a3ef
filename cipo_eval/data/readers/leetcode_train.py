"""LeetCodeDataset (arXiv:2504.14655): LeetCode problems for training, judged by calls of a method of ``Solution``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.readers.debugbench import PREAMBLE, SECONDS, comparison
from cipo_eval.data.readers.leetcode.judge import Example, UnfitError, method_test, parse_input, signature
from cipo_eval.data.sources import Row
from cipo_eval.sandbox.codec import CodecError
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

MAX_TESTS = 30
"""Tests of one problem that are kept, evenly spread over those that there are: rewards are wanted by the thousand."""
EXAMPLES = 3
"""How many of them, the first, are the statement's examples and public."""


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """A row of the training split. Problems whose tests cannot be read are left out, and counted."""
    try:
        tests: TestSet | None = _tests(row)
        coverage = ""
    except UnfitError as error:
        tests, coverage = None, f"left out because {error}"
    facts: Any = row.get("meta") or row  # a column of its own from version 0.3 on
    return ReadProblem(
        id=row["task_id"],
        question=row["query"],
        tests=tests,
        options={"entry_point": "Solution"},
        metadata={"difficulty": facts.get("difficulty", "")},
        coverage=coverage,
    )


def _tests(row: Row) -> TestSet:
    rule = comparison(row["task_id"], row["query"])
    target = row["entry_point"]
    tests: list[Test] = []
    declared = None
    cases = row["input_output"] or []
    step = max(1.0, len(cases) / MAX_TESTS)
    for i in sorted(
        {*range(min(EXAMPLES, len(cases))), *(int(n * step) for n in range(min(MAX_TESTS, len(cases))))}
    ):
        try:
            names, values = parse_input(cases[i]["input"])
            declared = declared or signature(row["completion"], names, target.rpartition(".")[2])
            example = Example(names=names, values=values, output=cases[i]["output"])
            tests.append(method_test(example, declared, public=i < EXAMPLES))
        except CodecError:
            continue
        except UnfitError:
            if i < EXAMPLES:  # generated inputs are not all well formed; the statement's are
                raise
    if not tests:
        raise UnfitError("it has no tests")
    return TestSet(
        kind=Kind.CALLS,
        groups=(Group(name="tests", tests=tuple(tests)),),
        entry_point="Solution",
        target=target,
        preamble=PREAMBLE,
        reference=f"{row['prompt']}\n{row['completion']}\n",
        rule=rule,
        cpu_seconds=SECONDS,
    )
