"""The verifier ``countdown``: does an expression use each given number once, and does it reach the target?

Nothing is evaluated but sums, differences, products and quotients of whole numbers, read by a parser of its own: the
text is a model's. The gold is ``7 3 12 -> 48``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State
from cipo_eval.texts import last_boxed

MAX_LENGTH = 200
"""Characters of the longest expression that is read; a longer one is wrong."""
_TOKEN = re.compile(r"\d{1,9}|[-+*/()]")


class CountdownVerifier:
    """Judges the expression in the last ``\\boxed{…}``."""

    name = "countdown"
    quick = True
    """Most answers are graded in milliseconds: many of them may be judged in a row (``pool``)."""

    def extract(
        self,
        problem: Problem,  # noqa: ARG002
        text: str,
        finish_reason: FinishReason | None,
        mode: Mode,  # noqa: ARG002
    ) -> Extraction:
        """The boxed expression."""
        answer = (last_boxed(text) or "").replace(" ", "")
        if answer:
            return Extraction(answer=answer[: MAX_LENGTH + 1], how="boxed")
        cut_off = finish_reason is not None and finish_reason.cut_off
        return Extraction(answer=None, state=State.TRUNCATED if cut_off else State.NO_ANSWER)

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:  # noqa: ARG002
        """Right if the expression uses each given number exactly as often as it is given, and reaches the target."""
        left, _, target = gold.partition("->")
        numbers = Counter(left.split())
        if len(answer) > MAX_LENGTH or "".join(_TOKEN.findall(answer)) != answer:
            return Grade(correct=False, canonical=answer[:MAX_LENGTH], method="no expression")
        used = Counter(str(int(number)) for number in re.findall(r"\d+", answer))
        if used != numbers:
            return Grade(correct=False, canonical=answer, method="other numbers")
        value = value_of(answer)
        if value is None:
            return Grade(correct=False, canonical=answer, method="no value")
        return Grade(correct=value == int(target), canonical=answer, method=f"is {value}")

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """None: a grading has the pool's own limit of processor time."""
        return None


def value_of(expression: str) -> Fraction | None:
    """The exact value of an expression of + - * / and brackets; None where it is none, or divides by zero."""
    tokens = _TOKEN.findall(expression[:MAX_LENGTH])
    if "".join(tokens) != expression:
        return None
    try:
        value, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    return None if rest else value


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, rest = _product(tokens)
    while rest and rest[0] in "+-":
        other, after = _product(rest[1:])
        value, rest = (value + other if rest[0] == "+" else value - other), after
    return value, rest


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, rest = _atom(tokens)
    while rest and rest[0] in "*/":
        other, after = _atom(rest[1:])
        value, rest = (value * other if rest[0] == "*" else value / other), after
    return value, rest


def _atom(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """Raises ``ValueError`` where no number or bracket begins."""
    if not tokens:
        raise ValueError("nothing is left")
    head, rest = tokens[0], tokens[1:]
    if head.isdigit():
        return Fraction(int(head)), rest
    if head != "(":
        raise ValueError(head)
    value, rest = _sum(rest)
    if not rest or rest[0] != ")":
        raise ValueError("a bracket is open")
    return value, rest[1:]
