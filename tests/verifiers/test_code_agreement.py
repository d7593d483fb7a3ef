"""Verdicts that others published, item by item: LeetCode's judge on DebugBench, LiveCodeBench's runner on the tests
that its results tell. Canonical solutions and evalplus's verdicts are in ``test_code_real``.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import Part, part

from cipo_eval.data.readers.livecodebench import Case
from cipo_eval.data.sources import read_rows
from cipo_eval.data.tasks import load_problems
from cipo_eval.records import Mode
from cipo_eval.verifiers.code import testsets
from verifiers.code_tools import Court, court, livecodebench_rows, livecodebench_tests, outputs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("code_cache")]


@pytest.fixture(scope="module")
def judges() -> Iterator[Court]:
    with court() as found:
        yield found


# --- DebugBench ----------------------------------------------------------------------------------------------

TESTS_MISS = {
    "gpt-4_debug_python3": {
        ("add-edges-to-make-degrees-of-all-nodes-even", "conditional statement error"),  # passed 47 of 52
        ("determine-the-winner-of-a-bowling-game", "conditional statement error"),  # 1182 of 1205
        ("check-if-string-is-transformable-with-substring-sort-operations", "double"),  # 78 of 138
        ("partition-array-into-three-parts-with-equal-sum", "double"),  # 69 of 72
        ("minimum-time-to-complete-all-tasks", "other error"),  # 1047 of 1059
        ("count-the-repetitions", "triple"),  # an exception on the third of 49
    },
    "gpt-4_code_generation_python3": {
        ("determine-the-winner-of-a-bowling-game", ""),  # 1193 of 1205
        ("invalid-transactions", ""),  # 35 of 37
        ("kth-largest-sum-in-a-binary-tree", ""),  # an exception on a tree that only LeetCode has
        ("number-of-ways-of-cutting-a-pizza", ""),  # 38 of 54; the statement's examples only
    },
    "gpt-35-turbo_code_generation_python3": {
        ("invalid-transactions", ""),  # 15 of 37
        ("longest-substring-with-at-least-k-repeating-characters", ""),  # LeetCode's memory limit
    },
}
"""Programs that LeetCode rejected on tests that nobody else has, and that may pass here. Behind each, what LeetCode
says about it."""

JUDGED = {
    "gpt-4_debug_python3": 1342,
    "gpt-4_code_generation_python3": 218,
    "gpt-35-turbo_code_generation_python3": 205,
}
"""Rows whose problem has tests here, and on which LeetCode came to a verdict."""


@part(40)
def test_every_oracle_passes(part: Part, judges: Court, real_data: Path) -> None:
    every = load_problems("debugbench", data_dir=real_data).problems
    problems = {p.gold: p for p in part.of(every, lambda problem: problem.metadata["slug"])}
    grades = judges.grades((gold, testsets.load(gold).reference or "", Mode.FIXED) for gold in problems)
    assert [(p.id, g.report) for p, g in zip(problems.values(), grades, strict=True) if not g.correct] == []


@part(40)
@pytest.mark.parametrize("name", JUDGED)
def test_verdicts_of_leetcode_by_category(name: str, part: Part, judges: Court, real_data: Path) -> None:
    problems = {p.metadata["slug"]: p for p in load_problems("debugbench", data_dir=real_data).problems}
    column = "fixed_code" if "_debug_" in name else "completed_code"
    # The rest never left LeetCode's queue: {"state": "STARTED"} is recorded as a failure, and is none.
    rows = [
        row
        for row in outputs(real_data, f"debugbench/{name}")
        if row["slug"] in problems and row["test_result_dict"].get("state") != "STARTED"
    ]
    assert len(rows) == JUDGED[name]
    rows = part.of(rows, lambda row: row["slug"], always={slug for slug, _ in TESTS_MISS[name]})
    grades = judges.grades((problems[row["slug"]].gold, row[column], Mode.FIXED) for row in rows)
    agreeing: Counter[str] = Counter()
    rejected, missed = [], set()
    for row, grade in zip(rows, grades, strict=True):
        agreeing[row["x_category"]] += grade.correct == row["test_result_bool"]
        if row["test_result_bool"] and not grade.correct:
            rejected.append((row["slug"], row["x_category"], grade.report))
        if grade.correct and not row["test_result_bool"]:
            missed.add((row["slug"], row["x_category"]))
    assert rejected == []
    assert missed <= TESTS_MISS[name]
    if not part.whole:
        return
    assert agreeing.total() >= (0.995 if "_debug_" in name else 0.98) * len(rows)
    totals = Counter(row["x_category"] for row in rows)
    assert {category for category in totals if agreeing[category] < 0.94 * totals[category]} == set()


# --- LiveCodeBench -------------------------------------------------------------------------------------------

FILES = ("o1-mini__lcb_v5", "Qwen2.5-7B-Instruct__lcb_v6_selfrepair")
TRUNCATED = "...(truncated) ..."


def told_case(row: dict[str, Any], inputs: str, expected: str) -> Case | None:
    """A test as LiveCodeBench's results tell it, in its files' form; None where only a part of it is told, or what a
    program had made of its arguments (``inf``)."""
    if TRUNCATED in inputs or TRUNCATED in expected or "inf" in inputs:
        return None
    if not row["starter_code"]:
        return {"input": inputs, "output": expected}
    text = isinstance(json.loads(json.loads(row["public_test_cases"])[0]["output"]), str)
    value = expected if text else _value(expected)
    return {"input": "\n".join(map(json.dumps, _value(inputs))), "output": json.dumps(value)}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return json.loads(text)


def programs(data: Path, name: str) -> Iterator[tuple[str, str, bool, dict[str, Any]]]:
    """Problem, program, recorded verdict and what is told about it."""
    for row in outputs(data, f"livecodebench/{name}"):
        for code, passed, told in zip(row["code_list"], row["graded_list"], row["metadata"], strict=True):
            yield str(row["question_id"]), code, passed, json.loads(told) if isinstance(told, str) else told


@part(32)
@pytest.mark.parametrize(("name", "count"), [(FILES[0], 602), (FILES[1], 293)])
def test_recorded_passes_pass_the_public_tests(
    name: str, count: int, part: Part, judges: Court, real_data: Path
) -> None:
    golds = {number: livecodebench_tests(row) for number, row in livecodebench_rows(real_data).items()}
    asked = [(number, code) for number, code, passed, _ in programs(real_data, name) if passed]
    assert len(asked) == count
    asked = part.of(asked, lambda one: one[0])
    for mode in Mode:
        grades = judges.grades(((golds[number], code, mode) for number, code in asked), recorded_passes=True)
        assert {n for (n, _), grade in zip(asked, grades, strict=True) if not grade.correct} == set(), mode


CHANGED_BY_A_PROGRAM = {"2872", "2878", "3226", "3454", "3607", "3616"}
"""The runner tells a method's arguments as they are after the call: these are not what the test gave."""


@part(32)
@pytest.mark.parametrize(("name", "count"), [(FILES[0], 394), (FILES[1], 55)])
def test_recorded_passes_pass_the_tests_that_became_known(
    name: str, count: int, part: Part, judges: Court, real_data: Path
) -> None:
    """Published results tell tests that other programs failed: about 130 private ones among them."""
    rows = livecodebench_rows(real_data)
    golds = {}
    for number, row in rows.items():
        told = [
            case
            for evidence in row["x_failing_test_evidence"]
            if (case := told_case(row, evidence["input"], evidence["expected"])) is not None
        ]
        if told or row["x_known_private_tests"]:
            golds[number] = livecodebench_tests(row, told)
    asked = [
        (number, code) for number, code, passed, _ in programs(real_data, name) if passed and number in golds
    ]
    assert len(asked) == count
    asked = part.of(asked, lambda one: one[0], always=CHANGED_BY_A_PROGRAM)
    for mode in Mode:
        grades = judges.grades(((golds[number], code, mode) for number, code in asked), recorded_passes=True)
        failed = {number for (number, _), grade in zip(asked, grades, strict=True) if not grade.correct}
        assert failed <= CHANGED_BY_A_PROGRAM, mode


RIGHT_AFTER_ALL = {
    "3613": "1.5714285714285712 where 1.57143 is expected; the statement allows 1e-5",
    "abc368_f": "prints in a thread, which the runner does not wait for",
    "abc382_c": "likewise",
}
"""Programs that the reference failed and that are right (``fixed``)."""


@part(32)
@pytest.mark.parametrize(("name", "count"), [(FILES[0], 211), (FILES[1], 534)])
def test_recorded_failures_fail_the_test_that_they_are_recorded_to_fail(
    name: str, count: int, part: Part, judges: Court, real_data: Path
) -> None:
    """Time limits aside: they were another machine's, and count what slept."""
    rows = livecodebench_rows(real_data)
    asked = []
    for number, code, passed, told in programs(real_data, name):
        if not passed and told.get("error_code") in (-2, -4) and "inputs" in told and code.strip():
            case = told_case(rows[number], told["inputs"], told["expected"])
            if case is not None:
                asked.append(
                    (
                        number,
                        code,
                        livecodebench_tests(
                            {**rows[number], "public_test_cases": "[]", "x_known_private_tests": []}, [case]
                        ),
                    )
                )
    assert len(asked) == count
    asked = part.of(asked, lambda one: one[0], always=RIGHT_AFTER_ALL)
    for mode, right in ((Mode.PAPER, set()), (Mode.FIXED, RIGHT_AFTER_ALL.keys())):
        grades = judges.grades((gold, code, mode) for _, code, gold in asked)
        passing = {number for (number, _, _), grade in zip(asked, grades, strict=True) if grade.correct}
        assert passing <= right, mode


OTHERS_TESTS_ARE_WRONG = {
    "3533": "the snake leaves the grid",
    "3573": "digits, where only letters may be",
    "3583": "a query beyond the last pair",
    "3646": "negative numbers",
    "3647": "ranges that end before they begin",
    "3659": "numbers of more than four bits",
    "3684": "two stars",
    "3736": "a text whose expected value is written as a number",
    "3750": "a query beyond the last number",
}
"""Inputs that the statement rules out, in tests that somebody made for LiveCodeBench's problems (LeetCodeDataset)."""
WEAK_PRIVATE_TESTS = {"3612"}
"""A program that LiveCodeBench passed reads beyond the end of [5, 6, 7, 8, 9, 10, 1, 2, 3, 4] with k = 5."""


LARGE = ("3560", "3607", "3629")
"""Problems whose tests take ten seconds each."""


@part(32)
@pytest.mark.parametrize(("name", "count"), [(FILES[0], 129), (FILES[1], 78)])
def test_recorded_passes_pass_the_tests_that_others_made(
    name: str, count: int, part: Part, judges: Court, real_data: Path
) -> None:
    rows = livecodebench_rows(real_data)
    golds = {
        str(row["question_id"]): livecodebench_tests(rows[str(row["question_id"])], row["tests_lcb_format"])
        for row in read_rows(real_data / "livecodebench" / "leetcode_tests_from_LeetCodeDataset.jsonl.gz")
        if str(row["question_id"]) not in LARGE
    }
    asked = [(n, code) for n, code, passed, _ in programs(real_data, name) if passed and n in golds]
    assert len(asked) == count
    asked = part.of(asked, lambda one: one[0], always=OTHERS_TESTS_ARE_WRONG.keys() | WEAK_PRIVATE_TESTS)
    grades = judges.grades(
        ((golds[number], code, Mode.FIXED) for number, code in asked), recorded_passes=True
    )
    failed = {number for (number, _), grade in zip(asked, grades, strict=True) if not grade.correct}
    assert failed <= OTHERS_TESTS_ARE_WRONG.keys() | WEAK_PRIVATE_TESTS
