"""Whether unequal numbers agree within the rounding that one of them shows (docs/math-verifier.md)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from cipo_eval.verifiers.math.forms import Form, is_number


def rounded(gold: Form, answer: Form, a: Fraction, b: Fraction, options: Mapping[str, Any]) -> bool:
    """Whether unequal numbers agree within the rounding that one of them shows (see the docs page)."""
    tolerance = options.get("tolerance")
    gap = abs(a - b)
    if tolerance is not None:
        return gap <= Fraction(str(tolerance)) * (1 + Fraction(1, 10**9))
    if options.get("units") == "skip" and (gold.digits is not None or is_number(gold)):
        return _measured(gold, answer, a, b, gap)
    slack = 1 + Fraction(1, 10**9)
    if answer.cut and answer.digits is not None and answer.digits >= 4 and gold.digits is None:
        return not _terminates(gold, a) and gap <= answer.unit  # 3.1415...
    if gold.digits is None and answer.digits is not None:
        return answer.digits >= 4 and not _terminates(gold, a) and gap * 2 <= answer.unit * slack
    if gold.digits is not None and answer.digits is None and gold.digits >= 2:
        return not _terminates(answer, b) and gap * 2 <= gold.unit * slack
    return False


def _terminates(side: Form, value: Fraction) -> bool:
    """Whether a number can be written as a decimal of at most six places, so that rounding it is a mistake."""
    return side.value is not None and side.value.rational is not None and (value * 10**6).denominator == 1


def _measured(gold: Form, answer: Form, a: Fraction, b: Fraction, gap: Fraction) -> bool:
    """Physical values: they agree to the digits that both show, at least three (or all that the gold has)."""
    if not a or (a > 0) != (b > 0):
        return False
    whole = str(abs(int(a))) if gold.digits is None and a.denominator == 1 else ""
    shown = gold.digits
    if shown is None:
        if len(whole) < 3 or answer.digits is None:
            return False
        shown = len(whole)
    digits = answer.digits
    if (
        digits is None
        and b.denominator == 1
        and answer.value is not None
        and answer.value.rational is not None
    ):
        digits = len(str(abs(int(b))))
    common = shown if digits is None else min(shown, digits)
    if common < min(shown, 3):
        return False
    place = Fraction(10) ** (_magnitude(abs(a)) - common + 1)
    units = Fraction(1) if common >= 4 else Fraction(1, 2)
    return gap <= place * units * (1 + Fraction(1, 10**9)) and gap * 20 <= abs(a)


def _magnitude(value: Fraction) -> int:
    """Exponent of the first significant digit."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    return exponent if value >= Fraction(10) ** exponent else exponent - 1
