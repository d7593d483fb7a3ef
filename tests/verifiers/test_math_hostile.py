"""No answer stalls the grader: each is called wrong, and never left without a verdict."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from parts import Part, part

from cipo_eval.records import Extraction, Grade, Mode, Problem, State
from cipo_eval.verifiers.math.guard import too_heavy, unusual
from cipo_eval.verifiers.math.verifier import SECONDS, MathVerifier
from cipo_eval.verifiers.pool import VerifierPool
from verifiers.faulty import spin
from verifiers.math_data import make_problem
from verifiers.math_hostile import GOLDS, Case, cases, families

SLOW_MATH = "verifiers.test_math_hostile:SlowMath"
WRONG = {State.INCORRECT, State.NO_ANSWER}


class SlowMath(MathVerifier):
    """Mathematics in which an answer says how long judging it takes."""

    def extract(self, problem: Problem, text: str, finish_reason: str | None, mode: Mode) -> Extraction:  # noqa: ARG002
        return Extraction(answer=text, how="given")

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:  # noqa: ARG002
        spin(float(answer))
        return Grade(correct=True, canonical=answer)


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, time_limit=4.0) as pool:
        yield pool


def check(pool: VerifierPool, made: list[Case], golds: Mapping[str, str]) -> None:
    """Every answer is wrong for every gold, in both modes."""
    asked = [
        (case, gold, pool.submit("math", make_problem(gold), rf"\boxed{{{case.text}}}", "stop", tuple(Mode)))
        for case in made
        for gold in golds.values()
    ]
    for case, gold, future in asked:
        found = {mode: verdict.state for mode, verdict in future.result().items()}
        assert set(found.values()) <= WRONG, (found, gold, case.family, case.text[:200])


def test_one_answer_of_each_family_is_wrong(pool: VerifierPool) -> None:
    chance = random.Random(0)
    check(pool, [chance.choice(cases(0, only=name)) for name in families()], {"integer": GOLDS["integer"]})


@pytest.mark.slow
@part(72)
@pytest.mark.parametrize("family", families())
def test_hostile_answers_are_wrong(pool: VerifierPool, family: str, part: Part) -> None:
    """For a number, and for golds of every kind: in a part a family has one of them, so that each kind has a family."""
    for gold in GOLDS.values():
        assert not unusual(gold)
    check(pool, cases(0, only=family)[:: part.one_in], {"integer": GOLDS["integer"]})
    kinds = list(GOLDS) if part.whole else [list(GOLDS)[families().index(family) % len(GOLDS)]]
    check(pool, cases(1, only=family)[:: 9 * part.one_in], {kind: GOLDS[kind] for kind in kinds})


def test_the_guard_itself_is_fast() -> None:
    started = time.process_time()
    for case in cases(2):
        too_heavy(case.text)
    assert time.process_time() - started < 60  # 2 s are usual; something quadratic over 1 MB takes minutes


@pytest.mark.slow
def test_an_answer_that_takes_long_is_wrong_and_not_without_a_verdict(pool: VerifierPool) -> None:
    verdict = pool.verify(SLOW_MATH, make_problem("27"), "600")
    assert (verdict.state, verdict.correct) == (State.INCORRECT, False)
    assert "too_heavy" in verdict.detail
    assert verdict.seconds == pytest.approx(SECONDS, abs=0.1)


def test_a_right_answer_has_time(pool: VerifierPool) -> None:
    assert pool.verify(SLOW_MATH, make_problem("27"), str(SECONDS / 3)).correct


@pytest.mark.slow
def test_a_large_gold_is_no_fault_of_the_answers(pool: VerifierPool) -> None:
    gold = "2^{2005}"
    assert unusual(gold)
    assert pool.verify(SLOW_MATH, make_problem(gold), str(2 * SECONDS / 2 + 0.7)).correct
    assert pool.verify(SLOW_MATH, make_problem(gold), "600").state is State.VERIFIER_TIMEOUT


@pytest.mark.parametrize(
    "gold", ["2^{2005}", r"\int_0^1 e^{-x^2} dx", r"\sum_{k=1}^{n} k^3", r"x^{2023}+1", "1/2004!"]
)
def test_an_answer_may_have_what_the_gold_has(gold: str) -> None:
    assert not too_heavy(gold, gold)
    assert too_heavy(gold, "27") or gold == "1/2004!"


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}", "9**9**9**9", "((5!)!)!", "99999999!", "|99999999|!", r"\lfloor 99999999 \rfloor!", r"7^{3\cdot 123456789}",
        "e^{e^{e^{e^e}}}", r"\exp(\exp(\exp(\exp(9))))", "1.5^{1.5^{1.5^{40}}}", "(x+1)^{2000}", "((x+1)^{50}+1)^{50}",
        "(a+b)(c+d)(f+g)(h+j)(k+m)(n+p)", r"\binom{10^8}{5\cdot 10^7}", r"\int \sin(x^x) dx", r"\sum_{k=1}^{9} k", "(" * 9 + "x" + ")" * 9,
        r"\sqrt{2+\sqrt{2+\sqrt{2+\sqrt{2}}}}", r"\sqrt{3^{999}+1}", r"\frac{d}{dx} x^x", r"\pm 1 \pm 2 \pm 3 \pm 4 \pm 5",
    ],
)  # fmt: skip
def test_what_is_heavy(text: str) -> None:
    assert too_heavy(text)


@pytest.mark.parametrize(
    "text",
    [
        r"\frac{1}{2}\left(e^{at}+e^{-at}\right)", r"2\sqrt{\pi G\rho_{0}r_{0}^{2}}", r"(x+1)^{10}", "2^{100}", r"\binom{20}{10}", "20!",
        r"\frac{-b \pm \sqrt{b^2-4ac}}{2a}", r"e^{-\zeta\omega_n t}\left(\cos(\omega_d t)-\frac{\zeta}{\sqrt{1-\zeta^2}}\sin(\omega_d t)\right)",
        r"\begin{pmatrix} 1 & 2 & 3 \\ 4 & 5 & 6 \\ 7 & 8 & 9 \end{pmatrix}", r"(-\infty,-1)\cup(1,2)\cup(3,\infty)",
        r"\sqrt[3]{2+\sqrt{5}}", r"\frac{2 \pi c^{2} R^{2}}{d^2 \lambda^{5}\left[e^{h c /(\lambda k T)}-1\right]}",
    ],
)  # fmt: skip
def test_what_is_not(text: str) -> None:
    assert not too_heavy(text)
