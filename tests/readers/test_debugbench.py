"""DebugBench and LeetCode's conventions: statements' examples become calls of the right method with the right types."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from parts import Part, part

from cipo_eval.data import tasks
from cipo_eval.data.readers import ReadProblem, debugbench
from cipo_eval.data.readers.leetcode import judge as leetcode
from cipo_eval.data.readers.leetcode.judge import UnfitError
from cipo_eval.data.sources import read_rows
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Test


def row(examples: list[str], oracle: str, *, statement: str = "Do it.", **more: Any) -> dict[str, Any]:
    return {
        "x_category": "double",
        "slug": "a-problem",
        "description": statement,
        "examples": examples,
        "constraints": "1 <= n",
        "oracle_code": oracle,
        "level": "easy",
        "buggy_code": "\nclass Solution:\n    pass\n",
        **more,
    }


def cases(item: ReadProblem) -> list[Test]:
    """The tests that somebody gave; those that are made here are the subject of test_debugbench_inputs.py."""
    assert isinstance(item.tests, testsets.TestSet)
    return [test for test in item.tests.groups[0].tests if not test.confirmed]


def solution(*methods: str) -> str:
    return "class Solution:\n" + "".join(f"    def {method}:\n        return 0\n" for method in methods)


@pytest.mark.parametrize(
    ("example", "names", "values", "output"),
    [
        ("Input: n = 12, k = 3\nOutput: 3\nExplanation: Factors = [1, 2]", ("n", "k"), (12, 3), 3),
        ('Input: s = "a, b = c", ok = true\r\nOutput: null\r\n', ("s", "ok"), ("a, b = c", True), None),
        (
            "Input: a = [[1,null],[-2]], x = 2.50\nOutput: 0.16667 \n",
            ("a", "x"),
            ([[1, None], [-2]], 2.5),
            0.16667,
        ),
        ("Input: n = 00000000000000000000000000001011\nOutput:   3 (0011)\n", ("n",), (11,), 3),
        ('Input: text = "the \\"end\\""\nOutput: "x"', ("text",), ('the "end"',), "x"),
    ],
)
def test_examples(example: str, names: tuple[str, ...], values: tuple[Any, ...], output: Any) -> None:
    parsed = leetcode.parse_example(example)
    assert isinstance(parsed, leetcode.Example)
    assert (parsed.names, parsed.values) == (names, values)
    assert leetcode.parse_output(parsed.output, "") == output


@pytest.mark.parametrize(
    "text", ["", "Input: 5\nOutput: 5", "Input: n = \nOutput: 5", "n = 5", "Input: n = [1\nOutput: 1"]
)
def test_what_is_no_example_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UnfitError, match="cannot be read"):
        leetcode.parse_example(text)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("[1, None]", "", [1, None]),
        ("'x'", "", "x"),
        ("abc", "str", "abc"),
        ("10", "str", "10"),
        ("True", "", True),
    ],
)
def test_outputs_of_test_collections(text: str, kind: str, value: Any) -> None:
    assert leetcode.parse_output(text, kind) == value


@pytest.mark.parametrize("text", ["Error: no", "", "abc", "3 or 4"])
def test_outputs_that_say_nothing(text: str) -> None:
    with pytest.raises(UnfitError):
        leetcode.parse_output(text, "")


@pytest.mark.parametrize("text", ["Error: f() missing an argument", "Execution timed out", ""])
def test_what_a_test_collection_says_of_its_own_failures_is_no_text(text: str) -> None:
    with pytest.raises(UnfitError):
        leetcode.parse_output(text, "str")


def test_arguments_go_by_position_or_by_name() -> None:
    oracle = solution("solve(self, numbers: List[int], limit: int) -> int")
    other_names = debugbench.read(row(["Input: nums = [1], k = 2\nOutput: 3"], oracle), {})
    swapped = debugbench.read(row(["Input: limit = 2, numbers = [1]\nOutput: 3"], oracle), {})
    for item in (other_names, swapped):
        (test,) = cases(item)
        assert (test.args, test.expected, test.public) == ([[1], 2], 3, True)
        assert item.tests.target == "Solution().solve"  # type: ignore[union-attr]


def test_methods_that_others_call_are_not_the_one() -> None:
    oracle = (
        "class Solution:\n    def help(self, a, b):\n        return a\n"
        "    def main(self, a, b):\n        return self.help(a, b)\n"
    )
    assert leetcode.signature(oracle, ("a", "b")).method == "main"
    assert leetcode.signature(oracle, ("a", "b"), "help").method == "help", (
        "what a test collection says counts"
    )
    with pytest.raises(UnfitError):
        leetcode.signature(oracle, ("a", "b", "c"))


def test_lists_and_trees() -> None:
    oracle = solution(
        "merge(self, lists: List[Optional[ListNode]], root: Optional['TreeNode']) -> Optional[TreeNode]"
    )
    item = debugbench.read(
        row(["Input: lists = [[1,4],[]], root = [1,null,2]\nOutput: [3,null,4,null]"], oracle), {}
    )
    (test,) = cases(item)
    assert test.args == [[{"ln": [1, 4]}, {"ln": []}], {"tn": [1, None, 2]}]
    assert test.expected == {"tn": [3, None, 4]}
    assert "class ListNode" in item.tests.preamble  # type: ignore[union-attr]


def test_methods_that_work_in_place() -> None:
    oracle = solution("sort(self, nums: List[int]) -> None")
    (test,) = cases(debugbench.read(row(["Input: nums = [2,1]\nOutput: [1,2]"], oracle), {}))
    assert (test.after, test.expected) == (0, [1, 2])


def test_methods_that_return_how_many_first_elements_count() -> None:
    oracle = solution("shrink(self, nums: List[int]) -> int")
    item = debugbench.read(row(["Input: nums = [1,1,1]\nOutput: 2, nums = [1,1,_]"], oracle), {})
    (test,) = cases(item)
    assert test.expected == [1, 1]
    target = eval(item.tests.target, {"Solution": type("Solution", (), {"shrink": lambda _, nums: 2})})  # type: ignore[union-attr]  # noqa: S307
    assert target([1, 1, 1]) == [1, 1]


def test_classes_to_design() -> None:
    example = 'Input\n["Box", "put", "get"]\n[[], [1, "a"], [1]]\nOutput\n[null, null, "a"]\n\nExplanation\nBox box;'
    item = debugbench.read(row([example], "class Box:\n    pass\n"), {})
    (test,) = cases(item)
    assert (test.ops, test.args, test.expected) == (
        ["Box", "put", "get"],
        [[], [1, "a"], [1]],
        [None, None, "a"],
    )
    assert item.options["entry_point"] == "Box"


def test_floats_are_made_where_they_are_declared() -> None:
    oracle = solution("speed(self, dist: List[int], hour: float) -> float")
    (test,) = cases(debugbench.read(row(["Input: dist = [1], hour = 6\nOutput: 2"], oracle), {}))
    assert type(test.args[1]) is float
    assert type(test.expected) is float


@pytest.mark.parametrize(
    ("statement", "any_order"),
    [
        ("Return all of them. You may return the answer in any order.", True),
        ("The pairs can appear in any order. Return the array.", False),
    ],
)
def test_any_order_is_heeded_where_the_statement_says_it(statement: str, any_order: bool) -> None:
    oracle = solution("f(self, n: int) -> List[int]")
    item = debugbench.read(row(["Input: n = 1\nOutput: [1]"], oracle, statement=statement), {})
    assert item.tests.rule == {"name": "leetcode", **({"any_order": True} if any_order else {})}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("statement", "signature"),
    [
        ("Return any valid arrangement.", "f(self, n: int) -> int"),
        ("Return the index to any of the peaks.", "f(self, n: int) -> int"),
        ("Count.", "f(self, n: 'Node') -> int"),
        ("Count.", "f(self, n: int, m: int) -> int"),
    ],
)
def test_what_cannot_be_judged_rightly_has_no_tests(statement: str, signature: str) -> None:
    item = debugbench.read(row(["Input: n = 1\nOutput: 1"], solution(signature), statement=statement), {})
    assert item.tests is None
    assert item.coverage.startswith("left out because")


def test_tests_of_leetcodedataset_are_added_but_never_twice() -> None:
    extra = {
        "entry_point": "Solution().f",
        "input_output": [
            {"input": "n = 1", "output": "99"},  # the statement's example: its own output counts
            {"input": "n = 2", "output": "4"},
            {"input": "n", "output": "Error: f() missing an argument"},
        ],
    }
    oracle = solution("f(self, n: int) -> int")
    item = debugbench.read(row(["Input: n = 1\nOutput: 1"], oracle), {"tests": extra})
    assert [(t.args, t.expected, t.public) for t in cases(item)] == [([1], 1, True), ([2], 4, False)]


def test_the_hubs_columns_give_the_same_item() -> None:
    one = row(["Input: n = 1\r\nOutput: 1"], solution("f(self, n: int) -> int"))
    names = {"x_category": "subtype", "description": "question", "oracle_code": "solution"}
    other = {names.get(name, name): value for name, value in one.items()}
    assert debugbench.read(one, {}) == debugbench.read(other, {})


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_items(real_data: Path) -> None:
    problem_set = tasks.load_problems("debugbench", data_dir=real_data)
    coverage = problem_set.source["coverage"]
    assert len(problem_set.problems) == 1335
    assert sum(coverage.values()) == problem_set.source["rows"] == 1414
    assert sum(count for what, count in coverage.items() if what.startswith("left out")) == 79
    assert len(problem_set.warnings) == 1
    assert len({p.id for p in problem_set.problems}) == 1335
    kinds = Counter(p.metadata["tests"] for p in problem_set.problems)
    assert kinds == {"leetcode_dataset": 1115, "examples": 220}
    for problem in problem_set.problems:
        tests = testsets.load(problem.gold)
        assert tests.reference
        assert tests.groups[0].tests[0].public
        assert problem.metadata["buggy_code"] in problem.prompt
        assert problem.question in problem.prompt
        assert "buggy_code" not in problem.options, "what the verifier gets with every attempt stays small"
    json.dumps([dict(p.options) for p in problem_set.problems])


@pytest.mark.slow
@part(12)
def test_an_item_without_leetcodedataset_has_the_statements_examples(real_data: Path, part: Part) -> None:
    rows = {row["slug"]: row for row in read_rows(real_data / "debugbench/python3.jsonl.gz")}
    items = [debugbench.read(row, {}) for row in part.of(rows.values(), lambda row: row["slug"])]
    assert len(items) > 150 // part.one_in
    assert sum(item.tests is not None for item in items) > 0.8 * len(items)
    assert {item.metadata["tests"] for item in items if item.tests} == {"examples"}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("code_cache")
def test_without_leetcodedataset_the_statements_examples_remain(real_data: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "debugbench"
    mirror.mkdir()
    (mirror / "python3.jsonl.gz").symlink_to(real_data / "debugbench/python3.jsonl.gz")
    problem_set = tasks.load_problems("debugbench", data_dir=tmp_path, offline=True)
    assert len(problem_set.problems) == 1335
    assert problem_set.known
    assert "without its data `tests`" in problem_set.warnings[0]
    assert {p.metadata["tests"] for p in problem_set.problems} == {"examples"}
