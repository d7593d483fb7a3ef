"""The fast path: normal forms, certain verdicts, and no opinion where symbolic mathematics is needed."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import examples

from cipo_eval.records import FinishReason, Mode
from cipo_eval.verifiers.math.algebra import UndecidedError, equal
from cipo_eval.verifiers.math.canonical import form
from cipo_eval.verifiers.math.equivalence import equivalent
from cipo_eval.verifiers.math.reader import read
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_data import make_problem


def verdict(gold: str, answer: str, **options: Any) -> bool | None:
    several = bool(options.get("multiple"))
    return equivalent(form(gold, several=several), form(answer, several=several), options)


SAME = [
    ("0.5", "\\frac12"), ("1/2", "\\dfrac{1}{2}"), ("\\tfrac{1}{2}", "$0.50$"), ("1\\frac{4}{5}", "\\frac{9}{5}"),
    ("137 \\frac{1}{2}", "137.5"), (".0000672", "6.72 \\times 10^{-5}"), ("4.5e33", "4.5 \\cdot 10^{33}"),
    ("58,500", "58500"), ("10,\\!080", "10{,}080"), ("\\$32,\\!348", "32348"), ("\\$18.90", "18.9"),
    ("28\\%", "28"), ("0.335", "33.5\\%"), ("90^\\circ", "90"), ("90^{\\circ}", "90 \\text{ degrees}"),
    ("864 \\mbox{ inches}^2", "864"), ("5.4 \\text{ cents}", "5.4"), ("12", "12^{\\text{th}} \\text{ grade}"),
    ("3\\sqrt{13}", "\\sqrt{117}"), ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"), ("6-5i", "-5i + 6"),
    ("\\frac{1}{1+\\sqrt{2}}", "\\sqrt2 - 1"), ("2^{n-2}", "\\frac{2^n}{4}"), ("4^n", "2^{2n}"),
    ("\\frac{x+2}{7}", "\\frac{x}{7}+\\frac{2}{7}"), ("(a+5)(b+2)", "ab + 2a + 5b + 10"), ("18+2\\pi", "2(9+\\pi)"),
    ("x=5", "5"), ("5", "n = 5"), ("x \\in [-2,7]", "[-2, 7]"), ("k \\geqslant 2", "[2, \\infty)"),
    ("(-\\infty,-5)", "k < -5"), ("-793 < a < 10", "(-793, 10)"), ("(3,4]", "\\left(3, 4\\right]"),
    ("(0,9) \\cup (9,36)", "(9,36)\\cup(0,9)"), ("3 \\pm 2 \\sqrt{2}", "3+2\\sqrt{2}, 3-2\\sqrt{2}"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "\\{-2, 1+\\sqrt5, 1-\\sqrt5\\}"), ("1,-2", "-2, 1"),
    ("1,2,3", "1, 2 \\text{ and } 3"),
    ("\\begin{pmatrix} 1/5 \\\\ -18/5 \\end{pmatrix}", "\\begin{bmatrix}0.2\\\\ -3.6\\end{bmatrix}"),
    ("\\text{even}", "even"), ("\\text{(C)}", "C"), ("\\text{(B)}", "\\textbf{(B)}"), ("27", "\\textbf{(B)}\\ 27"),
    ("52_8", "52_{8}"), ("52_8", "52"), ("2x+4y-3=0", "y=-\\frac{1}{2}x+\\frac{3}{4}"), ("y = 2x + 3", "2x+3"),
    ("AB=4,CD=5", "4, 5"), ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
    ("\\frac{\\sqrt3}{3}\\approx 0.577", "\\frac{\\sqrt3}{3}"),
    ("V_1:V_2=11:21", "11:21"), ("2\\cos a\\sin b", "2\\sin b \\cos a"),
    ("\\frac{1}{a}\\sinh(at)", "\\frac{e^{at}-e^{-at}}{2a}"), ("\\sin^2 x", "1-\\cos^2 x"), ("\\log_2 8", "3"),
    ("\\tan^2(y)+1", "\\sec^2(y)"), ("\\sqrt{3+2\\sqrt2}", "1+\\sqrt2"), ("(-1)^n", "\\cos(n\\pi)"),
]  # fmt: skip

DIFFERENT = [
    ("27", "28"), ("27", "27.001"), ("27", "26.9999999"), ("0.5", "0.05"), ("50", "0.5"), ("1/2", "1/3"),
    ("(3,4]", "[3,4]"),
    ("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("1,2", "1"), ("1,2,3", "1,2"), ("3\\sqrt{13}", "3\\sqrt{14}"),
    ("6-5i", "6+5i"),
    ("\\frac{2}{3}", "0.66"), ("10", "0.1"), ("4.5e33", "4.5e32"), ("2x+1", "2x+2"), ("x=1,y=2", "x=2,y=1"),
    ("5", "2n+1"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}"), ("\\text{(C)}", "B"),
    ("\\text{Evelyn}", "\\text{Carla}"), ("27", "2.7e3"), ("\\pi", "3.1416001"), ("2", "\\{2,3\\}"),
    ("0.28", "28"), ("52_8", "42"), ("x^2+1", "y^2+1"), ("x^2-y^2=0", "x=y"), ("f(x)",
    "g(x)"), ("\\sin^2 x", "1-\\cos x"),
    ("9^{9^{9}}", "9^{9^{8}}"), ("\\sqrt{3+2\\sqrt2}", "1+\\sqrt3"),
]  # fmt: skip

OPEN = [("\\int_0^1 x\\,dx", "\\frac12"), ("\\{n^2 \\mid n > 0\\}", "x > 0"), ("\\sum_{k=1}^{n} k", "n")]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_equal_meanings(gold: str, answer: str) -> None:
    assert verdict(gold, answer) is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_certain_differences(gold: str, answer: str) -> None:
    assert verdict(gold, answer) is False


@pytest.mark.parametrize(("gold", "answer"), OPEN)
def test_no_opinion_where_simplification_is_needed(gold: str, answer: str) -> None:
    assert verdict(gold, answer) is None


def test_votes_for_equal_answers_share_a_canonical_string() -> None:
    for group in (("0.5", "\\frac12", "1/2", "$0.50$", "x = \\frac{1}{2}"),
    ("27", "27.0", "\\text{(B) }27", "27^\\circ"),
                  ("1,2", "2, 1", "\\{1,2\\}", "x=1 \\text{ or } x=2"), ("\\sqrt{12}", "2\\sqrt3")):  # fmt: skip
        assert len({form(text).canon for text in group}) == 1, group
    assert form("27").canon != form("28").canon


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("\\frac{2}{3}", "0.6667", True),  # rounded rightly, at least four digits
        ("\\frac{2}{3}", "0.667", False),
        ("\\frac{2}{3}", "0.6666", False),
        ("\\frac{639}{40}", "15.98", False),  # 15.975 could have been written exactly
        ("2\\pi", "6.283", True),
        ("0.33", "\\frac{1}{3}", True),  # the gold itself is rounded
        ("4.5", "4.52", False),
        ("3.21", "3.2", False),
    ],
)
def test_rounding_of_exact_golds(gold: str, answer: str, same: bool) -> None:
    assert verdict(gold, answer) is same


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("1.6", "1.57", True), ("1.6", "2", False), ("3e8", "2.998 \\times 10^8", True), ("5.47e5", "5.5e5", False),
        ("24.310", "24.309", True), ("20.39", "20.5", False), ("4", "4.3", False), ("188", "188.2", True),
        ("188", "189", False),
        ("1e-3", "1.4e-3", False), ("-7", "7.0", False), ("15625", "15600", False),
    ],
)  # fmt: skip
def test_rounding_of_measured_golds(gold: str, answer: str, same: bool) -> None:
    assert bool(verdict(gold, answer, units="skip")) is same


def test_absolute_tolerance() -> None:
    assert verdict("4.2", "4.25", tolerance="1e-1") is True
    assert verdict("4.2", "4.31", tolerance="1e-1") is False
    assert verdict("4.2", "4.3", tolerance="1e-1") is True


def test_a_comma_separates_where_there_are_several_answers() -> None:
    assert verdict("221,800", "221800") is True
    assert verdict("221,800", "800, 221", multiple=True) is True
    assert verdict("221,800", "221800", multiple=True) is False


small = st.integers(-40, 40)
rationals = st.fractions(min_value=-30, max_value=30, max_denominator=30)


@given(rationals)
def test_writings_of_a_fraction(value: Fraction) -> None:
    top, bottom = value.numerator, value.denominator
    writings = [f"\\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}", f"$\\dfrac{{{3 * top}}}{{{3 * bottom}}}$"]
    assert {form(text).canon for text in writings} == {str(value)}


@given(small, small, small, small)
def test_products_expand(a: int, b: int, c: int, d: int) -> None:
    left = read(f"({a}x+{b})*({c}x+{d})".replace("+-", "-"))
    right = read(f"{a * c}*x^2+{a * d + b * c}*x+{b * d}".replace("+-", "-"))
    assert equal(left, right) is True
    other = read(f"{a * c}*x^2+{a * d + b * c}*x+{b * d + 1}".replace("+-", "-"))
    assert equal(left, other) is False


@given(st.integers(1, 400), st.integers(1, 400))
def test_radicals_agree_with_floating_point(a: int, b: int) -> None:
    from cipo_eval.verifiers.math.numeric import real

    value = read(f"\\sqrt{{{a}}}+\\frac{{{b}}}{{\\sqrt{{{b}}}}}")
    assert float(real(value) or 0) == pytest.approx(a**0.5 + b**0.5)
    assert equal(value, read(f"\\sqrt{{{a}}}+\\sqrt{{{b}}}")) is True


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9^9}}", "10^{10^{10}}!", "((((((1", "(" * 500, "1/0", "0^{-1}", "\\frac{1}{0}", "(x+1)^{9999}",
    "2^{99999999}", "1e999999",
     "\\sqrt[", "x_{", "\\frac", "9" * 1000, "1/2x", "(1+x)(1+y)(1+z)(1+w)(1+u)(1+v)(1+s)", "\x00", "\ud800",
     "!" * 100],
)  # fmt: skip
def test_hostile_expressions_are_refused_or_bounded(text: str) -> None:
    try:
        value = read(text)
    except UndecidedError:
        return
    assert len(value.canon) < 5000


ALPHABET = (
    "\\{}()[]$^_+-*/=<>,.;:|&%!~ \n\x00\x1f0123456789abcdexyzπ√±∞\ud800"
    "frac sqrt text boxed left pm cup infty begin{pmatrix}"
)


def run_random(count: int, seed: int) -> None:
    generator, verifier, problem = random.Random(seed), MathVerifier(), make_problem("3")
    pieces = [
        *ALPHABET,
        "\\frac",
        "\\sqrt",
        "\\boxed{",
        "\\text{",
        "\\pm",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\cup",
        "\\left(",
    ]
    golds = [form(gold) for gold in ("3", "(1,2)", "x+1", "1,2")]
    for _ in range(count):
        text = "".join(generator.choices(pieces, k=generator.randint(0, 40)))
        found = verifier.extract(problem, text, FinishReason.STOP, Mode.FIXED)
        assert (found.answer is None) == (found.state is not None)
        read_form = form(text, units=generator.random() < 0.5)
        assert isinstance(read_form.canon, str)
        for gold in golds:
            assert equivalent(gold, read_form, {}) in (True, False, None)
        assert equivalent(read_form, read_form, {}) in (True, None)


def test_random_strings() -> None:
    run_random(3000, seed=1)


@pytest.mark.exhaustive
def test_a_hundred_thousand_random_strings() -> None:
    run_random(100_000, seed=2)


@settings(max_examples=examples(500), deadline=None)
@given(st.text(max_size=80))
def test_forms_never_raise(text: str) -> None:
    first = form(text)
    assert first == form(text)
    assert equivalent(first, form("7"), {}) in (True, False, None)
