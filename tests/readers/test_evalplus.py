"""HumanEval and MBPP: both layouts of evalplus's data give the same test sets, with the types that JSON lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parts import Part, part

from cipo_eval.data.readers import evalplus, humaneval, mbpp
from cipo_eval.data.sources import Row, read_rows
from cipo_eval.sandbox.codec import decode
from cipo_eval.verifiers.code.testsets import Kind

PROGRAM = """
import numpy as np
from math import inf

def assertion(out, exp, atol):
    assert out == exp

inputs = [[1, (2, 3)], [inf, {"a": {4, 5}}], [set(), 1 + 2j]]
results = [1, 2, 3]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(area(*inp), exp, 0.0001)
"""


def rows(path: Path) -> dict[str, Row]:
    return {str(row["task_id"]).removeprefix("Mbpp/"): row for row in read_rows(path)}


def test_test_programs_are_read_and_not_run() -> None:
    row = {
        "task_id": 9,
        "code": "def area(a, b): ...",
        "prompt": "Area, see https://example.org/x now.",
        "test": PROGRAM,
    }
    prepared = evalplus.prepare(
        {**row, "test_list": ["assert area(1, (2, 3)) == 1", "assert area(2, 3) == 2"]}
    )
    assert [[decode(value) for value in args] for args in prepared["inputs"]] == [
        [1, (2, 3)],
        [float("inf"), {"a": {4, 5}}],
        [set(), 1 + 2j],
    ]
    assert (prepared["task_id"], prepared["entry_point"], prepared["atol"], prepared["base"]) == (
        "Mbpp/9",
        "area",
        1e-4,
        2,
    )
    assert prepared["prompt"] == '"""\nArea, see  now.\nassert area(1, (2, 3)) == 1\n"""\n'
    hostile = PROGRAM.replace("[1, (2, 3)]", "[__import__('os').getpid(), 2]")
    with pytest.raises(ValueError, match="malformed"):
        evalplus.prepare({**row, "test_list": ["assert area(1, 2) == 1"], "test": hostile})


@pytest.mark.slow
@part(18)
def test_humaneval_is_the_same_from_the_release_and_from_test_programs(real_data: Path, part: Part) -> None:
    own = rows(real_data / "humaneval/HumanEval.jsonl.gz")
    release = rows(real_data / "humaneval/HumanEvalPlus-v0.1.10.jsonl.gz")
    programs = rows(real_data / "humaneval/HumanEvalPlus-v0.1.10-OriginFmt.jsonl.gz")
    assert set(own) == set(release) == set(programs)
    for name, row in part.of(own.items(), lambda item: item[0]):
        one = humaneval.read(row, {"plus": evalplus.prepare(release[name])})
        other = humaneval.read(row, {"plus": evalplus.prepare(programs[name])})
        assert one == other, name


@pytest.mark.slow
@part(18)
def test_mbpp_is_the_same_from_the_release_and_from_test_programs(real_data: Path, part: Part) -> None:
    release = rows(real_data / "mbpp/MbppPlus-v0.2.0.jsonl.gz")
    programs = rows(real_data / "mbpp/MbppPlus-v0.2.0-OriginFmt.jsonl.gz")
    assert set(release) == set(programs)
    for name, row in part.of(release.items(), lambda item: item[0]):
        one, other = (mbpp.read_plus(evalplus.prepare(source), {}) for source in (row, programs[name]))
        assert one == other, name
        assert repr(one.tests) == repr(other.tests), "nor is -0.0 taken for 0.0"


@pytest.mark.slow
def test_no_input_is_lost_or_repeated(real_data: Path) -> None:
    """By value and type; 1570 base and 122683 plus inputs of the release, 272 of them repeat an earlier one."""
    total = 0
    for row in rows(real_data / "humaneval/HumanEvalPlus-v0.1.10.jsonl.gz").values():
        inputs = [repr([decode(v) for v in args]) for args in evalplus.prepare(row)["inputs"]]
        assert list(dict.fromkeys(map(repr, [*row["base_input"], *row["plus_input"]]))) == inputs
        total += len(row["base_input"]) + len(row["plus_input"]) - len(inputs)
    assert total == 272


def test_mbpp_types_are_evalplus_s(real_data: Path) -> None:
    theirs = pytest.importorskip("evalplus.data.mbpp").mbpp_deserialize_inputs
    for name, row in rows(real_data / "mbpp/MbppPlus-v0.2.0.jsonl.gz").items():
        shaped = evalplus._mbpp_shape(int(name))
        for column in ("base_input", "plus_input"):
            expected = [list(args) for args in theirs(f"Mbpp/{name}", row[column])]
            assert repr([shaped(args) for args in row[column]]) == repr(expected), name


def everything(real_data: Path, name: str) -> Any:
    from cipo_eval.data import tasks
    from cipo_eval.verifiers.code import testsets

    problem_set = tasks.load_problems(name, data_dir=real_data)
    return problem_set.problems, [testsets.load(problem.gold) for problem in problem_set.problems]


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_humaneval_items(real_data: Path) -> None:
    problems, sets = everything(real_data, "humaneval")
    assert all([group.name for group in tests.groups] == ["base", "plus"] for tests in sets)
    assert [sum(len(tests.groups[i].tests) for tests in sets) for i in (0, 1)] == [1522, 122459]
    assert all(
        tests.kind is Kind.CALLS and tests.cpu_seconds == tests.reference_factor == 4 for tests in sets
    )
    assert all(tests.memory == 4 << 30 for tests in sets)
    tolerant = {p.id: t.rule["atol"] for p, t in zip(problems, sets, strict=True) if t.rule["atol"]}
    assert tolerant == {"HumanEval/2": 1e-6, "HumanEval/4": 1e-6, "HumanEval/32": 1e-4}
    for problem, tests in zip(problems, sets, strict=True):
        assert not any(test.public for group in tests.groups for test in group.tests)
        assert tests.rule["entry_point"] == problem.options["entry_point"] == tests.entry_point
        assert tests.reference.startswith(problem.options["prompt"])
        assert problem.options["prompt"].strip() in problem.prompt
        assert problem.options["parts"] == ["base", "plus"]


def test_humaneval_without_plus_runs_its_own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_eval.data import tasks
    from cipo_eval.verifiers.code import testsets

    monkeypatch.delenv("CIPO_EVAL_DATA", raising=False)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))
    problem_set = tasks.load_problems("humaneval", offline=True)
    assert len(problem_set.problems) == 164
    assert problem_set.known
    assert "base tests only" in problem_set.source["content"]
    assert problem_set.source["companions"] == {"plus": None}
    (warning,) = problem_set.warnings
    assert "cipo-eval data pull humaneval" in warning
    for problem in problem_set.problems:
        (group,) = testsets.load(problem.gold).groups
        (test,) = group.tests
        assert test.source.endswith(f"\ncheck({problem.options['entry_point']})\n")
        assert "parts" not in problem.options


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_mbpp_items(real_data: Path) -> None:
    problems, sets = everything(real_data, "mbpp")
    assert [sum(len(tests.groups[i].tests) for tests in sets) for i in (0, 1)] == [1173, 39461]
    for problem, tests in zip(problems, sets, strict=True):
        shown = [test.public for group in tests.groups for test in group.tests]
        assert shown == [True, *[False] * (len(shown) - 1)]
        assert problem.prompt.count("assert ") == 1, "and that one is public"


def test_classic_mbpp_items(real_data: Path) -> None:
    problems, sets = everything(real_data, "mbpp_classic")
    assert [problem.id for problem in problems] == [f"Mbpp/{number}" for number in range(11, 511)]
    for problem, tests in zip(problems, sets, strict=True):
        (group,) = tests.groups
        assert len(group.tests) == 3
        assert all(test.public for test in group.tests)
        assert f"def {tests.entry_point}(" in tests.reference.replace(" (", "(")
        assert all(tests.entry_point in test.source for test in group.tests)
        assert problem.metadata["asserts"] in problem.prompt
        assert "\r" not in problem.prompt + tests.reference + "".join(test.source for test in group.tests)
    set_up = [
        test.source
        for tests in sets
        for group in tests.groups
        for test in group.tests
        if "exec(" in test.source
    ]
    assert len(set_up) == 3
    assert all("root = Node(1)" in source for source in set_up)


def test_the_entry_point_is_the_function_that_asserts_call() -> None:
    code = "class Pair:\n  pass\ndef helper(x): ...\ndef longest(pairs): ...\n"
    row = {"task_id": 1, "code": code, "text": "?", "test_setup_code": "", "challenge_test_list": []}
    problem = mbpp.read_classic({**row, "test_list": ["assert longest([Pair(5, 24)]) == 3"]}, {})
    assert problem.options["entry_point"] == "longest"
