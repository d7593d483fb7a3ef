"""Inputs that are made for DebugBench: they keep what the statement promises, and count where right programs agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from parts import Part, part

from cipo_eval.data import tasks
from cipo_eval.data.readers import debugbench
from cipo_eval.data.readers.leetcode import statements
from cipo_eval.data.readers.leetcode.constraints import Constraints
from cipo_eval.data.readers.leetcode.inputs import LARGE, MAX_INPUTS, more_inputs
from cipo_eval.records import Mode
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.verifiers.code import prepare as preparing
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet
from cipo_eval.verifiers.code.verifier import judge


def parse(
    text: str, known: Mapping[str, Any], *, statement: str = "", linked: Mapping[str, str] | None = None
) -> Constraints:
    return statements.parse(text, statement, tuple(known), linked or {}, [known])


@pytest.mark.parametrize(
    ("text", "known", "right", "wrong"),
    [
        ("1 <= n <= 105", {"n": 7}, {"n": 10**5}, {"n": 10**5 + 1}),
        ("-231 <= n <= 231 - 1", {"n": 7}, {"n": -(2**31)}, {"n": 2**31}),
        ("0 <= n < 5 * 10^4", {"n": 7}, {"n": 49_999}, {"n": 50_000}),
        ("1 <= k <= 2n - 1", {"n": 3, "k": 7}, {"n": 4, "k": 15}, {"n": 4, "k": 16}),
        ("n == a.length\n0 <= a[i] < n", {"a": [0, 1]}, {"a": [2, 0, 1]}, {"a": [2, 0]}),
        ("m == g.length\nn == g[i].length\n0 <= k < m * n", {"g": [[0, 0]], "k": 1}, {"g": [[0]], "k": 0},
         {"g": [[0]], "k": 1}),
        ("a[i] < a[i + 1]", {"a": [1, 2]}, {"a": [1, 5, 6]}, {"a": [1, 5, 5]}),
        ("max(a[i]) <= k <= 109", {"a": [1, 2], "k": 2}, {"a": [1, 5], "k": 5}, {"a": [1, 5], "k": 4}),
        ("s consists of lowercase English letters and digits.", {"s": "a1"}, {"s": "zz9"}, {"s": "A"}),
        ("s[i] is either '(' or '*'.", {"s": "("}, {"s": "**("}, {"s": ")"}),
        ("a[i] is either 0 or 1.", {"a": [0, 1]}, {"a": [1, 1]}, {"a": [2]}),
        ("All the integers in a are unique.", {"a": [1, 2]}, {"a": [5, 1]}, {"a": [1, 1]}),
        ("a is sorted in ascending order.", {"a": [1, 2]}, {"a": [1, 1, 4]}, {"a": [4, 1]}),
        ("n is even.\nn == a.length", {"a": [1, 2]}, {"a": [1] * 4}, {"a": [1] * 3}),
        ("e represents a valid tree.", {"e": [[0, 1]]}, {"e": [[0, 1], [2, 1]]}, {"e": [[0, 1], [1, 0]]}),
        ("k is in a.", {"a": [1], "k": 1}, {"a": [4, 5], "k": 5}, {"a": [4, 5], "k": 1}),
        ("t is an anagram of s.", {"s": "ab", "t": "ba"}, {"s": "xxy", "t": "xyx"}, {"s": "xxy", "t": "xyy"}),
        ("s consists of only digits and does not contain leading zeros.", {"s": "12"}, {"s": "100"}, {"s": "01"}),
    ],
)  # fmt: skip
def test_promises_are_understood(
    text: str, known: dict[str, Any], right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    rules = parse(text, known)
    assert rules.unknown == []
    assert rules.holds(known)
    assert rules.holds(right)
    assert not rules.holds(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "a is such that somebody wins.",
        "1 <= a.length <= p",
        "5 <= a.length",
        "a represents a valid encoding.",
        "1 <= a[i] <=",
    ],
)
def test_what_is_not_understood_or_does_not_fit_known_inputs_is_said(text: str) -> None:
    assert parse(text, {"a": [1, 2]}).unknown == [text]


def test_parts_of_items_have_names() -> None:
    rules = parse(
        "1 <= starti <= endi <= n", {"n": 3, "e": [[1, 2]]}, statement="where e[i] = [starti, endi]."
    )
    assert rules.unknown == []
    assert rules.holds({"n": 3, "e": [[1, 3], [2, 2]]})
    assert not rules.holds({"n": 3, "e": [[1, 3], [3, 2]]})


def test_order_that_only_the_statement_promises() -> None:
    statement = "Given two sorted arrays of distinct numbers"
    rules = parse("1 <= a.length", {"a": [1, 3], "b": [2]}, statement=statement)
    assert not rules.holds({"a": [3, 1], "b": [2]})
    assert not rules.holds({"a": [1, 1], "b": [2]})
    rules = parse("1 <= a.length", {"a": [3, 1], "b": [2]}, statement="Return the sorted array.")
    assert rules.holds({"a": [3, 1], "b": [2]}), "what known inputs do not keep is no promise"


PROBLEMS: list[tuple[str, dict[str, Any], Sequence[str], str]] = [
    (
        "1 <= nums.length <= 105\n-104 <= nums[i] <= 104\n1 <= k <= nums.length",
        {"nums": [1, -2], "k": 1},
        ("", ""),
        "",
    ),
    ("s.length == t.length\n1 <= s.length <= 50\ns and t consist of digits.", {"s": "12", "t": "34"}, ("", ""), ""),
    ("m == g.length\nn == g[i].length\n1 <= m, n <= 100\n0 <= g[i][j] <= 9", {"g": [[1, 2], [3, 4]]}, ("",), ""),
    (
        "2 <= n <= 105\nedges.length == n - 1\n0 <= ai, bi < n",
        {"n": 3, "edges": [[0, 1], [1, 2]]},
        ("", ""),
        "edges[i] = [ai, bi]",
    ),
    (
        "The number of nodes in the tree is in the range [1, 104].\n-100 <= Node.val <= 100",
        {"root": [1, None, 2]},
        ("tn",),
        "",
    ),
    (
        "The number of nodes in the tree is in the range [0, 100].\n0 <= Node.val <= 1000",
        {"root": [2, 1, 3]},
        ("tn",),
        "a binary search tree",
    ),
    ("The number of nodes in the list is in the range [0, 104].\n1 <= Node.val <= 50", {"head": [1, 2]}, ("ln",), ""),
    ("n is even.\nn == nums.length\n2 <= n <= 105\nnums[i] is 0 or 1.", {"nums": [1, 0]}, ("",), ""),
    ("1 <= n <= 109", {"n": 3}, ("",), ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "known", "kinds", "statement"), PROBLEMS)
def test_inputs_keep_their_promises_and_are_always_the_same(
    text: str, known: dict[str, Any], kinds: Sequence[str], statement: str
) -> None:
    linked = {name: kind for name, kind in zip(known, kinds, strict=True) if kind}
    rules = parse(text, known, statement=statement, linked=linked)
    assert rules.unknown == []
    given = [tuple(known.values())]
    inputs = more_inputs("a-problem", rules, kinds, given)
    assert len(inputs) > 10
    assert len(inputs) <= MAX_INPUTS + 1
    assert all(rules.holds(dict(zip(known, args, strict=True))) for args in inputs)
    texts = [repr(args) for args in inputs]
    assert len(set(texts)) == len(texts)
    assert repr(given[0]) not in texts
    assert inputs == more_inputs("a-problem", rules, kinds, given)
    assert inputs != more_inputs("another-problem", rules, kinds, given)


def test_there_is_a_large_input() -> None:
    text, known, kinds, _ = PROBLEMS[0]
    *_, last = more_inputs("a-problem", parse(text, known), kinds, [tuple(known.values())])
    assert LARGE // 2 <= len(last[0]) <= LARGE


def row(**more: Any) -> dict[str, Any]:
    return {
        "x_category": "double",
        "slug": "a-problem",
        "description": "Count.",
        "examples": ["Input: n = 1\nOutput: 1"],
        "constraints": "1 <= n <= 109",
        "oracle_code": "class Solution:\n    def f(self, n: int) -> int:\n        return n\n",
        "level": "easy",
        "buggy_code": "class Solution:\n    pass\n",
        **more,
    }


EXTRA = {
    "entry_point": "Solution().f",
    "input_output": [],
    "prompt": "import math\n",
    "completion": "class Solution:\n    def f(self, n: int) -> int:\n        return math.floor(n)\n",
}


def made(row: Mapping[str, Any], companions: Mapping[str, Any]) -> list[Test]:
    item = debugbench.read(row, companions)
    assert isinstance(item.tests, TestSet)
    assert item.tests.confirmations == (
        (f"{EXTRA['prompt']}\n{EXTRA['completion']}\n",) if companions else ()
    )
    return [test for test in item.tests.groups[0].tests if test.confirmed]


def test_made_tests_are_private_and_their_results_are_those_of_right_programs() -> None:
    tests = made(row(), {"tests": EXTRA})
    assert tests
    assert all(test.derive and not test.public and test.expected is None for test in tests)


def test_none_are_made_where_promises_are_not_understood() -> None:
    assert made(row(constraints="1 <= n\nn is a number that is liked."), {"tests": EXTRA}) == []


def test_with_one_right_program_none_are_made_where_the_statement_promises_more() -> None:
    promising = row(description="It is guaranteed that n is liked.")
    assert made(row(), {})
    assert made(promising, {}) == []
    assert made(promising, {"tests": EXTRA})


# --- what counts -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


@pytest.fixture
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))


REFERENCE = """
def f(n):
    if n == 1:
        raise ValueError
    while n == 2:
        pass
    return float("nan") if n == 3 else n * n
"""


def test_set(*confirmations: str) -> TestSet:
    tests = [Test(args=[n], derive=True, confirmed=True) for n in range(8)]
    return TestSet(
        kind=Kind.CALLS,
        groups=(Group(name="tests", tests=(Test(args=[9], expected=81, public=True), *tests)),),
        entry_point="f",
        reference=REFERENCE,
        confirmations=confirmations,
        rule={"name": "leetcode"},
    )


test_set.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize(
    ("confirmations", "counting"),
    [
        ((), [9, 0, 4, 5, 6, 7]),
        (("def f(n):\n    return n ** 2\n",), [9, 0, 4, 5, 6, 7]),
        (("def f(n):\n    return n ** 2 if n < 6 else 0\n",), [9, 0, 4, 5]),
        (("def f(n):\n    return n ** 2\n", "import os\ndef f(n):\n    return os._exit(1) if n == 4 else n * n\n"),
         [9, 0, 5, 6, 7]),
        (("syntax error",), [9]),
    ],
)  # fmt: skip
def test_only_inputs_that_right_programs_agree_on_count(
    lane: Lane, confirmations: tuple[str, ...], counting: list[int]
) -> None:
    gold = testsets.store(test_set(*confirmations))
    assert [test.args[0] for test in preparing.counting(gold, lane).groups[0].tests] == counting
    grade = judge(lane, gold, "def f(n):\n    return n * n\n", Mode.FIXED)
    assert grade.correct
    assert grade.report["tests"] == len(counting)
    wrong = judge(lane, gold, "def f(n):\n    return n * n if n != 5 else 0\n", Mode.FIXED)
    assert wrong.correct == (5 not in counting)
    if not wrong.correct:
        assert "expected" not in wrong.report["failure"]
        assert "actual" not in wrong.report["failure"]


@pytest.mark.usefixtures("_cache")
def test_what_counts_is_kept(lane: Lane) -> None:
    gold = testsets.store(test_set())
    preparing.prepare.cache_clear()
    first = preparing.prepare(gold, lane)
    preparing.prepare.cache_clear()
    assert preparing.prepare(gold, lane) == first
    assert first.dropped == [2, 3, 4]


def test_test_sets_without_confirmations_keep_their_names() -> None:
    plain, more = test_set(), test_set("def f(n): ...")
    assert "confirmations" not in plain.to_json()
    assert testsets.TestSet.from_json(plain.to_json()) == plain
    assert testsets.TestSet.from_json(more.to_json()) == more


# --- real data ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_most_problems_have_many_tests(real_data: Path) -> None:
    problem_set = tasks.load_problems("debugbench", data_dir=real_data)
    assert problem_set.known
    by_slug = {p.metadata["slug"]: testsets.load(p.gold) for p in problem_set.problems}
    counts = {}
    for slug, tests in by_slug.items():
        every = tests.groups[0].tests
        inputs = [test for test in every if test.confirmed]
        assert every[len(every) - len(inputs) :] == tuple(inputs), "given ones come first"
        assert not any(test.public for test in inputs)
        counts[slug] = len(inputs)
    assert max(counts.values()) <= MAX_INPUTS + 1
    assert len(counts) == 214
    assert sum(count >= 10 for count in counts.values()) >= 190


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
@part(30)
def test_right_programs_agree_on_nearly_all_made_inputs(lane: Lane, real_data: Path, part: Part) -> None:
    problem_set = tasks.load_problems("debugbench", data_dir=real_data)
    dropped = total = passing = 0
    for gold in {p.gold for p in part.of(problem_set.problems, lambda problem: problem.metadata["slug"])}:
        dropped += len(preparing.prepare(gold, lane).dropped)
        total += sum(test.confirmed for test in testsets.load(gold).groups[0].tests)
    assert dropped < total / 100, "where promises are understood, right programs agree"
    for problem in problem_set.problems[:: 4 * part.one_in]:  # of all of them 8 pass
        passing += judge(lane, problem.gold, problem.metadata["buggy_code"], Mode.FIXED).correct
    assert passing <= 3, "buggy programs are found out"
