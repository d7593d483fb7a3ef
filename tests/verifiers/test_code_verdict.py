"""Verdicts on programs: what they say, what they keep to themselves, and what becomes of them when references fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.records import Grade, Mode, Problem, State
from cipo_eval.sandbox import codec, probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.verifiers.code import prepare as preparing
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.asserts import plain_asserts
from cipo_eval.verifiers.code.outputs import Comparison, close, same_output
from cipo_eval.verifiers.code.prepare import ReferenceError, prepare
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet
from cipo_eval.verifiers.code.verdict import run_lengths
from cipo_eval.verifiers.code.verifier import _evalplus_total, judge
from cipo_eval.verifiers.pool import VerifierPool

SECRET = 48213377


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


def calls(*pairs: tuple[int, object], public: int = 0, **more: object) -> TestSet:
    """Calls of ``f``; the first ones are public."""
    tests = tuple(
        Test(args=[x], expected=codec.encode(y), public=at < public) for at, (x, y) in enumerate(pairs)
    )
    fields = {"rule": {"name": "equal"}, "entry_point": "f", "groups": (Group(name="all", tests=tests),)}
    return TestSet(kind=Kind.CALLS, **{**fields, **more})  # type: ignore[arg-type]


def asserts(*sources: str, reference: str, public: bool = False) -> TestSet:
    tests = tuple(Test(source=source, public=public) for source in sources)
    return TestSet(
        kind=Kind.CODE, groups=(Group(name="all", tests=tests),), entry_point="f", reference=reference
    )


def printed(*pairs: tuple[str, str], public: int = 0) -> TestSet:
    tests = tuple(Test(input=x, expected=y, public=at < public) for at, (x, y) in enumerate(pairs))
    return TestSet(kind=Kind.STDIN, groups=(Group(name="all", tests=tests),), rule={"name": "stdout"})


def grade(lane: Lane, tests: TestSet, program: str, mode: Mode = Mode.FIXED) -> Grade:
    return judge(lane, testsets.store(tests), program, mode)


# --- outcomes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "outcomes", "kind"),
    [
        ("def f(x): return x + 1", "3p", "passed"),
        ("def f(x): return x + 1 if x < 2 else 0", "1p1w", "wrong_answer"),
        ("def f(x): return 2 if x == 1 else 1 / 0", "1p1e", "error"),
        ("import os\ndef f(x): return 2 if x == 1 else os._exit(0)", "1p1c", "crash"),
        ("def f(x):\n    while x > 1: pass\n    return 2", "1p1t", "timeout"),
        ("def f(x): return bytearray(1 << 40) if x > 1 else 2", "1p1e", "error"),
        ("def g(x): return 1", "1e", "error"),
        ("def f(x: return", "1e", "error"),
        ("def f(x): return lambda: 0", "1w", "wrong_answer"),
        ("\ud800", "1e", "error"),
    ],
)
def test_what_becomes_of_a_program(program: str, outcomes: str, kind: str, lane: Lane) -> None:
    graded = grade(lane, calls((1, 2), (2, 3), (3, 4), cpu_seconds=0.3), program)
    assert (graded.report["outcomes"], graded.method, graded.correct) == (outcomes, kind, kind == "passed")
    assert graded.report["sandbox"] == lane.tier


def test_a_part_passes_where_it_and_all_before_it_do(lane: Lane) -> None:
    base, plus = (Group(name=n, tests=(Test(args=[x], expected=x),)) for n, x in (("base", 1), ("plus", 2)))
    tests = replace(calls((1, 1)), groups=(base, plus))
    programs = ("return x", "return 1", "return 2")
    parts = [grade(lane, tests, f"def f(x): {body}").parts for body in programs]
    assert parts == [
        {"base": True, "plus": True},
        {"base": True, "plus": False},
        {"base": False, "plus": False},
    ]


@given(st.lists(st.sampled_from("pwetc"), max_size=60))
def test_run_lengths_can_be_read_back(outcomes: list[str]) -> None:
    import re

    text = run_lengths(outcomes)
    assert "".join(letter * int(n) for n, letter in re.findall(r"(\d+)([a-z])", text)) == "".join(outcomes)


# --- what a model may see ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tests",
    [
        calls((1, SECRET)),
        calls((1, [SECRET, 2.5])),
        calls((0, 0), (1, SECRET), public=1),
        calls((1, SECRET), rule={"name": "leetcode"}),
        asserts(f"assert f(1) == {SECRET}", reference=f"def f(x): return {SECRET}"),
        asserts(
            f"def check(candidate):\n    y = candidate(1)\n    assert y == {SECRET}, 'not {SECRET}'\ncheck(f)\n",
            reference=f"def f(x): return {SECRET}",
        ),
        printed(("1\n", f"{SECRET}\n")),
        printed(("0\n", "0\n"), ("1\n", f"{SECRET}\n"), public=1),
    ],
)
@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return x\nif __name__ == '__main__': print(input())",
        "def f(x): return 0 if x == 0 else 1 / 0\nif __name__ == '__main__': print(int(input()) and 1 / 0)",
        "import time\ndef f(x):\n    while x: pass\n    return 0\nif __name__ == '__main__': print(f(int(input())))",
    ],
)
def test_what_a_private_test_expects_is_in_no_verdict(tests: TestSet, program: str, lane: Lane) -> None:
    graded = grade(lane, replace(tests, cpu_seconds=0.2), program)
    assert not graded.correct
    assert str(SECRET) not in json.dumps([graded.report, graded.method, graded.canonical])


def test_a_public_failure_shows_input_expected_and_actual(lane: Lane) -> None:
    failure = grade(lane, calls((1, [2]), public=1), "def f(x): return (x, 'no')").report["failure"]
    assert (failure["input"], failure["expected"], failure["actual"]) == ("1", "[2]", "(1, 'no')")
    failure = grade(lane, printed(("4\n", "8\n"), public=1), "print(int(input()) + 1)").report["failure"]
    assert (failure["input"], failure["expected"], failure["actual"]) == ("4\n", "8\n", "5\n")


def test_error_texts_are_bounded_and_can_be_stored(lane: Lane) -> None:
    program = "def f(x): raise ValueError('\\ud800\\u202e' + 'x' * 10**6)"
    failure = grade(lane, calls((1, 1)), program).report["failure"]
    assert len(json.dumps(failure)) < 20_000
    assert "ValueError" in failure["error"]
    json.dumps(failure, ensure_ascii=False).encode("utf-8")


# --- test code -----------------------------------------------------------------------------------------------


def test_plain_asserts_are_data_and_everything_else_is_not() -> None:
    assert plain_asserts("assert f(1, [2]) == (3, -4.5)", "f") == [
        ({"args": [1, [2]]}, {"t": [3, -4.5]}),
    ]
    check = "METADATA = {}\ndef check(candidate):\n    '''doc'''\n    assert True\n"
    check += "    assert candidate('a') == 1\ncheck(f)"
    assert plain_asserts(check, "f") == [({"args": ["a"]}, 1)]
    for other in (
        "assert f(1) != 2",
        "assert set(f(1)) == {1}",
        "assert f(x) == 1",
        "assert f(1) == 1\nprint()",
        "assert f(1)",
        "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i\ncheck(f)",
        "def check(candidate):\n    assert candidate(1) == 1\ncheck(g)",
        "def check(candidate):\n    assert candidate(1) == 1",
        "assert f(1) == 1 == 1",
        "assert f(*[1]) == 1",
        "assert g(1) == 1",
        "(",
    ):
        assert plain_asserts(other, "f") is None, other


@pytest.mark.parametrize(
    ("source", "split"),
    [
        ("assert f(2) == 4", "data"),
        ("assert f(2) in (4, 5)", "call"),
        ("for i in range(5):\n    assert abs(f(i) - i * i) < 1e-9", "call"),
        ("assert f(Point(2)) == 4", "expression"),
        ("assert f(Point(2)) + 1 > 4", "whole"),
    ],
)
def test_how_a_test_is_split_does_not_change_its_verdict(source: str, split: str, lane: Lane) -> None:
    point = (
        "class Point:\n    def __init__(self, x): self.x = x\n    def __mul__(self, o): return self.x * o.x\n"
    )
    reference = point + "def f(x): return x * x\n"
    tests = asserts(source, reference=reference)
    assert prepare(testsets.store(tests), lane).split == [split]
    assert grade(lane, tests, reference).correct
    wrong = grade(lane, tests, point + "def f(x): return -7\n")
    assert not wrong.correct
    assert wrong.report.get("integrity") == ("weak" if split == "whole" else None)


@pytest.mark.parametrize("body", ["return Yes()", "import sys; sys.exit(0)", "print('passed'); return None"])
def test_an_answer_that_equals_everything_is_wrong(body: str, lane: Lane) -> None:
    yes = "class Yes(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
    for source in ("assert f(2) == 4", "assert 4 == f(2)", "assert f(2) in (4, 5)"):
        tests = asserts(source, reference="def f(x): return x * x")
        assert not grade(lane, tests, f"{yes}def f(x): {body}").correct


@pytest.mark.slow
def test_a_program_cannot_choose_to_have_no_verdict(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns a value on which the test never ends, in one call that nothing can interrupt."""
    from cipo_eval.verifiers.code import testcode

    monkeypatch.setattr(testcode, "JUDGE_SECONDS", 2.0)
    tests = asserts("assert pow(3, f(2)) % 7 == 4", reference="def f(x): return x * x")
    assert grade(lane, tests, "def f(x): return 4").correct
    stalling = grade(lane, tests, "def f(x): return 10**12")
    assert (stalling.correct, stalling.failed) == (False, False)
    assert grade(lane, tests, "def f(x): return 4").correct


# --- comparing -----------------------------------------------------------------------------------------------


def compare(rule: dict[str, object], value: object, expected: object, mode: Mode = Mode.FIXED) -> bool:
    return Comparison(rule, mode).right(value, expected, [])


def test_evalplus_tolerates_floats_and_nothing_else() -> None:
    rule = {"name": "evalplus", "dataset": "humaneval", "atol": 0, "entry_point": "g"}
    assert compare(rule, 1.0000001, 1.0)
    assert not compare(rule, 1.001, 1.0)
    assert compare(rule, [1.0, 2.0000001], [1.0, 2.0])
    assert not compare(rule, (1.0, 2.0000001), [1.0, 2.0])
    assert not compare(rule, [1, 2], (1, 2))
    assert not compare(rule, float("nan"), float("nan"))
    assert not compare(rule, codec.Opaque("x"), codec.Opaque("x"))


def test_evalplus_tolerance_sticks_in_paper_mode_only() -> None:
    rule = {"name": "evalplus", "dataset": "humaneval", "atol": 0, "entry_point": "g"}
    for mode, sticks in ((Mode.PAPER, True), (Mode.FIXED, False)):
        comparison = Comparison(rule, mode)
        assert comparison.right(1.0, 1.0, [])
        assert comparison.right(10**9 + 1, 10**9, []) is sticks


def test_a_slow_reference_raises_the_total_of_evalplus_in_fixed_mode() -> None:
    tests = replace(calls((1, 2), (2, 3), (3, 4)), reference_factor=4.0)
    limits, reference = [120.0, 120.0, 120.0], [30.0, 30.0, 10.0]
    assert _evalplus_total(tests, limits, ()) == 60 + 1
    assert _evalplus_total(tests, limits, reference) == 4 * 70 + 1
    assert _evalplus_total(tests, limits, [1.0] * 3) == 60 + 1
    assert _evalplus_total(tests, [4.0] * 3, reference) == 3 * 4 + 1


def test_evalplus_oracles_agree_with_evalplus() -> None:
    oracle = pytest.importorskip("evalplus.eval._special_oracle", reason="evalplus is not installed")
    from cipo_eval.verifiers.code import outputs as ours

    assert set(oracle.MBPP_OUTPUT_SET_EQ_TASKS) == ours._SETS
    assert set(oracle.MBPP_OUTPUT_NOT_NONE_TASKS) == ours.NOT_NONE
    for a in range(0, 3000, 7):
        assert ours._digit_distance(a, 3000 - a) == oracle._digit_distance_nums(a, 3000 - a)
        assert ours._pyramid(a, a % 13 + 1) == oracle._surface_Area(a, a % 13 + 1)


def test_leetcode_compares_as_its_judge_does() -> None:
    assert close((1, [2.000001]), [1, (2.0,)])
    assert not close([1, 2], [1, 2, 3])
    assert not close(True, 2)
    assert not compare({"name": "leetcode"}, [[2, 1]], [[1, 2]])
    assert compare({"name": "leetcode", "any_order": True}, [[3, 4], (1, 2)], [[1, 2], [3, 4]])
    assert not compare({"name": "leetcode", "any_order": True}, [[2, 1]], [[1, 2]])
    assert compare({"name": "leetcode"}, None, [])


def test_standard_output_is_compared_by_lines_and_exact_numbers() -> None:
    assert same_output("1 2 \n3\n\n", "1 2\n3")
    assert same_output("1.50", "1.5")
    assert not same_output("50000000000000001", "50000000000000000")
    assert not same_output("1\n2", "1 2")
    assert not same_output("yes", "YES")
    assert same_output("0.3333333", "0.33333334", 1e-6)
    assert not same_output("0.3333333", "0.33333334")
    assert not same_output("1e999999999", "2", 1e-6)


# --- references, caches, the pool ----------------------------------------------------------------------------


def derived(reference: str) -> TestSet:
    return replace(
        calls((1, None)),
        groups=(Group(name="all", tests=(Test(args=[1], derive=True),)),),
        reference=reference,
    )


def test_a_reference_that_fails_is_no_verdict_on_the_program(lane: Lane) -> None:
    with pytest.raises(ReferenceError):
        grade(lane, derived("def f(x): return 1 / 0"), "def f(x): return 1")
    with pytest.raises(ReferenceError):
        grade(lane, asserts("assert f(1) == 2", reference="def f(x): return 1"), "def f(x): return 1")


def test_what_was_found_out_is_kept_and_a_damaged_file_made_anew(lane: Lane, tmp_path: Path) -> None:
    reference = testsets.store(derived("def f(x): return x + 41"))
    first = prepare(reference, lane)
    (file,) = (tmp_path / "prepared").iterdir()
    for damage in (b"", b"\x1f\x8b garbage", file.read_bytes()[:-9]):
        file.write_bytes(damage)
        preparing.prepare.cache_clear()
        assert prepare(reference, lane).expected == first.expected == [42]
    assert judge(lane, reference, "def f(x): return 42", Mode.FIXED).correct


def test_the_pool_judges_programs_and_names_what_fails() -> None:
    def problem(tests: TestSet) -> Problem:
        gold = testsets.store(tests)
        return Problem(
            task="t", id="1", index=0, question="?", prompt="?", gold=gold, options={"entry_point": "f"}
        )

    good, broken = problem(calls((1, 2), (2, 3))), problem(derived("def f(x): return 1 / 0"))
    with VerifierPool(2) as pool:
        answers = [
            (good, "```python\ndef f(x):\n    return x + 1\n```", State.CORRECT),
            (good, "```python\ndef f(x):\n    return 2\n```", State.INCORRECT),
            (good, "```python\nimport os\ndef f(x):\n    os.abort()\n```", State.INCORRECT),
            (good, "I do not know.", State.NO_ANSWER),
            (broken, "```python\ndef f(x):\n    return 2\n```", State.VERIFIER_ERROR),
        ]
        for asked, text, state in answers:
            verdict = pool.verify("code", asked, text)
            assert verdict.state is state, (text, verdict)
        assert "ReferenceError" in pool.verify("code", broken, answers[0][1]).detail
