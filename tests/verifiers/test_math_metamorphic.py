"""A sample of the metamorphic suite: no verdict is wrong beyond a list; generator and oracle are right themselves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import mpmath
import pytest

from verifiers.math_suite import (
    changes,
    failures,
    forms,
    golds,
    hedges,
    oracle,
    ours,
    reader,
    responses,
    styles,
    suite,
    table,
    tree,
    wrappings,
    writer,
)

KNOWN: dict[tuple[str, str], str] = {}
"""(gold, answer) of what our grader judges wrongly, with the reason why it stays so."""


@lru_cache(maxsize=1)
def own_cases() -> tuple[suite.Case, ...]:
    return tuple(suite.suite(golds.own()))


def check(cases: Sequence[suite.Case]) -> None:
    """Every verdict is the expected one, beyond the list of known faults."""
    left = [case for case in cases if (case.gold, case.answer) not in KNOWN]
    verdicts = [ours(case) for case in left]
    assert len(left) > 300
    wrong = sum(verdict != case.expected for case, verdict in zip(left, verdicts, strict=True))
    assert wrong == 0, failures(left, verdicts)


# --- our grader ---------------------------------------------------------------------------------------------------


def test_no_verdict_is_wrong_on_golds_of_ours() -> None:
    check(suite.sample(list(own_cases()), 7, pairs=250))


@pytest.mark.slow
def test_no_verdict_is_wrong_on_golds_of_the_benchmarks(real_data: Path) -> None:
    chosen = suite.varied(golds.all_golds(real_data), 130)
    check(suite.sample(suite.suite(chosen), 6, pairs=250))


def test_known_faults_are_still_faults() -> None:
    """What is mended leaves the list."""
    listed = [case for case in own_cases() if (case.gold, case.answer) in KNOWN]
    assert [case.answer for case in listed if ours(case) == case.expected] == []


# --- the generator ------------------------------------------------------------------------------------------------


def test_every_kind_has_cases() -> None:
    kinds = {part for case in own_cases() for part in case.kind.split(" + ")}
    made = {
        *forms.FORMS,
        *styles.STYLES,
        *wrappings.WRAPPINGS,
        *changes.CHANGES,
        *hedges.HEDGES,
        *responses.RESPONSES,
    }
    assert made <= kinds
    assert sum(case.composed for case in own_cases()) > 1000


def test_cases_are_the_same_every_time_whatever_the_order_of_golds() -> None:
    some = golds.own()[:12]
    first = suite.suite(some)
    assert first == suite.suite(some)
    assert {(x.gold, x.response) for x in first} == {(x.gold, x.response) for x in suite.suite(some[::-1])}


def test_another_seed_draws_other_cases_of_the_same_kinds() -> None:
    some = golds.own()[:12]
    first, second = suite.suite(some), suite.suite(some, seed=1)
    responses_of = [{case.response for case in cases} for cases in (first, second)]
    assert len(responses_of[0] & responses_of[1]) < 0.8 * len(responses_of[0])
    singles = [{case.kind for case in cases if not case.composed} for cases in (first, second)]
    assert len(singles[0] ^ singles[1]) < 0.1 * len(singles[0])


def test_no_case_is_given_twice() -> None:
    keys = [(case.gold, case.response, repr(sorted(case.options.items()))) for case in own_cases()]
    assert len(set(keys)) == len(keys)


def test_a_gold_and_an_answer_never_have_two_verdicts() -> None:
    """Cases whose response is a box around the answer: the same pair is right by no kind and wrong by another."""
    verdicts: dict[tuple[str, str, str], set[bool]] = {}
    for case in own_cases():
        if case.kind not in responses.RESPONSES:
            key = (case.gold, case.answer, repr(sorted(case.options.items())))
            verdicts.setdefault(key, set()).add(case.expected)
    assert [key for key, both in verdicts.items() if len(both) > 1] == []


def test_rewritten_trees_are_read_again_with_the_same_value_and_changed_ones_with_another() -> None:
    """Writer, forms and changes together, through the reader: what is written is what was meant."""
    checked = {True: 0, False: 0}
    for case in own_cases():
        if case.kind not in forms.FORMS and case.kind not in changes.CHANGES:
            continue
        gold, answer = reader.read(case.gold, case.options), reader.read(case.answer, case.options)
        if not reader.understood(answer) or case.kind == "base left out":
            continue
        same = oracle.same(gold, answer)
        assert same is case.expected or case.kind == "another unit", (case.kind, case.gold, case.answer)
        checked[case.expected] += 1
    assert checked[True] > 100
    assert checked[False] > 250


@pytest.mark.parametrize(
    "style",
    [
        writer.Style(fraction="\\dfrac"), writer.Style(fraction="short"), writer.Style(fraction="slash"),
        writer.Style(root="short"), writer.Style(power="bare"), writer.Style(space=" "),
        writer.Style(space="\\,"),
        writer.Style(sized="left"), writer.Style(times=" \\cdot "), writer.Style(thousands="{,}"),
        writer.Style(base="_"),
        writer.Style(degree="^{\\circ}"), writer.Style(mixed="short"), writer.Style(clock="text"),
    ],
)  # fmt: skip
def test_styles_that_data_sets_use_are_read_again(style: writer.Style) -> None:
    read = 0
    for gold in golds.own():
        node = reader.read(gold.gold, gold.options)
        again = reader.read(writer.write(node, style), gold.options)
        if reader.understood(node) and reader.understood(again):
            assert oracle.same(node, again), writer.write(node, style)
            read += 1
    assert read > 60


def test_a_rewriting_that_spoils_the_value_makes_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    gold = golds.Gold("t", 0, "\\frac{3}{7}")
    assert "fraction, not reduced" in {case.kind for case in suite.cases_of(gold)}
    spoiled = tree.Quotient(tree.Number("4"), tree.Number("7"))
    monkeypatch.setitem(forms.FORMS, "fraction, not reduced", lambda node, context: spoiled)
    assert not [case for case in suite.cases_of(gold) if "fraction, not reduced" in case.kind]


def test_a_change_that_keeps_the_value_makes_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    gold = golds.Gold("t", 0, "\\frac{3}{7}")
    kept = tree.Quotient(tree.Number("6"), tree.Number("14"))
    monkeypatch.setitem(changes.CHANGES, "a digit", lambda node, context: [kept])
    assert not [case for case in suite.cases_of(gold) if case.kind.split(" + ")[0] == "a digit"]


def test_a_grader_that_is_too_lenient_or_too_strict_is_seen() -> None:
    """One that accepts everything, one that compares text: both fail in every kind that concerns them."""
    cases = list(own_cases())
    lenient: list[bool | None] = [True] * len(cases)
    strict: list[bool | None] = [case.answer == case.gold for case in cases]
    accepted = {case.kind for case, given in zip(cases, lenient, strict=True) if given != case.expected}
    refused = [case.kind for case, given in zip(cases, strict, strict=True) if given != case.expected]
    assert accepted >= {case.kind for case in cases if not case.expected}
    assert {*forms.FORMS, *styles.STYLES} <= {part for kind in refused for part in kind.split(" + ")}
    rows = table(cases, {"lenient": lenient, "strict": strict}).splitlines()
    kept = next(row for row in rows if "value kept: refused" in row)
    assert "**0 (0.00 %)**" in kept
    assert "100.00 %" in next(row for row in rows if "value changed: accepted" in row)


# --- the oracle ---------------------------------------------------------------------------------------------------

VALUES = [
    ("\\frac{14}{3}", Fraction(14, 3)), ("1\\frac{4}{5}", Fraction(9, 5)), ("-\\frac9{19}", Fraction(-9,
    19)), ("2^{10}", 1024),
    ("11,\\! 111", 11111), ("4.5e33", Fraction(45) * 10**32), (".0000672", Fraction(672, 10**7)),
    ("2^{25} \\cdot 26!", None),
    ("-3^2", -9), ("2^{-2 / 3}", None), ("\\sqrt[3]{-8}", -2), ("\\sqrt{\\frac{9}{4}}", Fraction(3, 2)),
    ("5!", 120),
]  # fmt: skip
REALS = [
    ("3\\sqrt{13}", "sqrt(117)"), ("\\frac{\\pi^2}{8}", "pi*pi/8"), ("\\ln 12", "log(3)+2*log(2)"),
    ("2^{-2 / 3}", "1/cbrt(4)"),
    ("\\log_{2} 5", "log(5)/log(2)"), ("\\cos 60^\\circ", "mpf(1)/2"), ("\\frac{1+\\sqrt{5}}{2}", "phi+0"),
    ("\\sin^2 1", "sin(1)**2"),
    ("2 \\cos 1 \\sin 1", "sin(2)"), ("5 \\sqrt[3]{4}", "5*cbrt(4)"), ("\\frac{e^2}{3}", "exp(2)/3"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "expected"), VALUES)
def test_rational_golds_have_exact_values(gold: str, expected: Fraction | int | None) -> None:
    found = oracle.value(reader.read(gold))
    if expected is None:
        assert not isinstance(found, Fraction) or found.denominator == 1
    else:
        assert found == expected


@pytest.mark.parametrize(("gold", "formula"), REALS)
def test_irrational_golds_have_fifty_digits(gold: str, formula: str) -> None:
    scope = {
        name: getattr(mpmath, name) for name in ("sqrt", "pi", "log", "cbrt", "mpf", "phi", "sin", "exp")
    }
    with mpmath.workdps(60):
        expected = mpmath.mpf(eval(formula, {"__builtins__": {}}, scope))  # noqa: S307  (the formulas above)
        found = oracle.value(reader.read(gold))
        assert abs(found.real - expected) < mpmath.mpf(10) ** -48
        assert abs(found.imag) < mpmath.mpf(10) ** -48


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("(x+1)^2", "x^2+2x+1", True), ("(x+1)^2", "x^2+2x+2", False), ("\\sin 2x", "2\\sin x\\cos x",
        True), ("x^2", "y^2", False),
        ("1,2,3", "3,1,2", True), ("1,2,3", "1,2", False), ("1,2,2", "1,1,2", False), ("(1,2)", "(2,1)", False),
        ("(3,4]", "(3,4)", False), ("[0,\\infty)", "(0,\\infty)", False), ("(0,9)\\cup(9,36)",
        "(9,36)\\cup(0,9)", True),
        ("\\{1,3\\}", "3,1", True), ("52_8", "52_9", False), ("3:4", "6:8", True), ("3:4", "4:3", False),
        ("x=5", "5", True),
        ("\\text{10:30 a.m.}", "\\text{10:30 p.m.}", False), ("\\text{(C)}", "\\text{(D)}", False),
        ("2^{100}", "2^{101}", False),
        ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}", False), ("3^{2025}", "3^{2026}", False), ("\\text{even}",
        "\\text{odd}", False),
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
        "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}", False),
    ],
)  # fmt: skip
def test_equality_of_the_oracle(one: str, other: str, same: bool) -> None:
    assert oracle.same(reader.read(one), reader.read(other)) is same


@pytest.mark.parametrize(
    ("gold", "answer", "options", "certain"),
    [
        ("28\\%", "0.28", {}, False), ("28\\%", "0.29", {}, True), ("1.6", "1.57", {"units": "skip"}, False),
        ("1.6", "1.9", {"units": "skip"}, True), ("7", "7.2", {"units": "skip"}, True), ("\\frac{2}{3}",
        "0.667", {}, False),
        ("\\frac{2}{3}", "0.7", {}, True), ("27", "28", {}, True), ("1001", "1002", {}, True), ("4.2",
        "4.3", {"tolerance": "1e-1"}, False),
    ],
)  # fmt: skip
def test_what_could_be_rounding_is_no_certain_difference(
    gold: str, answer: str, options: dict[str, str], certain: bool
) -> None:
    assert oracle.certainly_different(reader.read(gold, options), reader.read(answer), options) is certain


@pytest.mark.parametrize(
    "gold",
    ["f(2) < f(1)", "y^{\\prime}+r y=0", "1/2 n", "x - 3z = 0", "np.arcsin(10/13)", "\\text{a}("],
)
def test_what_is_not_read_with_certainty_is_left_alone(gold: str) -> None:
    assert isinstance(reader.read(gold), tree.Opaque)
