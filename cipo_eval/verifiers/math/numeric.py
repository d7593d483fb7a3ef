r"""Values of exact expressions (``algebra``) to fifty digits, and the comparison that normal forms leave open.

Two expressions are the same when they agree at random points to all but the last digits of the working precision:
polynomial identity testing (Schwartz 1980, Zippel 1979), carried to the elementary functions. They are different when
they differ at one point. mpmath's numbers have exponents of any size, so 7^-5000 and 7^-5001 are told apart, and
nothing is evaluated whose size would not fit: ``UnboundedError`` stops towers of powers before they are built.
Most values that differ are told apart in floating point, where nothing cancels.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from cipo_eval.verifiers.math.algebra import (
    PI,
    Number,
    Opaque,
    UndecidedError,
    Value,
    add,
    functions,
    negate,
    variables,
)
from cipo_eval.verifiers.math.evaluate import FUNCTIONS, NUMBER, Evaluator, UnboundedError, draw

DIGITS = 50
"""Working precision in decimal digits, as are all that follow."""
AGREE_DIGITS = 30
"""Digits in which two values have to agree in the working precision."""
FLOAT_DIGITS = 16
"""Digits of floating point."""
STABLE_DIGITS = 5
"""Digits that two precisions must share for a value to be trusted."""
MAX_CANCELLATION = 1e6
"""How many times larger than a sum its largest term may be for floating point to be trusted."""
CONFIRM_DIGITS = 220
"""Precision at which agreement is confirmed, so that 5 + 10^{-40} is not 5."""
POINTS = 5
"""Random points at which two values are compared."""
WHOLE_POINTS = 14
"""Points where the variables are integers: half of them up to 16, the others up to 90."""
WHOLE_NAMES = frozenset("ijklmnpqKMN")
"""Variables that stand for integers where floors, factorials or signs (-1)^n are about."""
DISCRETE = frozenset({"floor", "ceil", "fact", "binom", "mod", "gcd", "lcm"})
"""Functions beside which a variable of such a name is an integer."""


def same(a: Value, b: Value, *, whole: bool = False) -> bool | None:
    """Whether two values agree at random points; None where they cannot be evaluated. ``whole``: their variables are
    integers."""
    names = sorted(variables(a) | variables(b))
    if names and whole | _discrete(a, names) | _discrete(b, names):
        points = [_whole_point(names, at) for at in range(WHOLE_POINTS)]
        results = [_agree(a, b, point) for point in points]
        decided = [result for result in results if result is not None]
        return None if len(decided) < 3 else all(decided)
    verdict = None
    for at in range(POINTS if names or _unknown(a) or _unknown(b) else 1):
        result = _agree(a, b, _point(names, at))
        if result is False:
            return False
        verdict = result if verdict is None else verdict
    return verdict


def proportional(a: Value, b: Value) -> bool | None:
    """Whether one value is a constant multiple of the other, as the two sides of one equation are."""
    names = sorted(variables(a) | variables(b))
    ratios: list[Any] = []
    for digits in (None, DIGITS):
        evaluator = Evaluator(digits)
        ratios = []
        for at in range(POINTS):
            try:
                top, bottom = evaluator.value(a, _point(names, at)), evaluator.value(b, _point(names, at))
            except (UnboundedError, UndecidedError):
                continue
            if not bottom or not top:
                return None
            ratios.append(top / bottom)
            if not evaluator.close(ratios[0], ratios[-1], AGREE_DIGITS if digits else STABLE_DIGITS):
                if digits or evaluator.lost < MAX_CANCELLATION:
                    return False
                break
    return len(ratios) >= 2 or None


def real(value: Value) -> Fraction | None:
    """A constant as a rational within fifty digits; None where it is not real, has variables, or is too large to be
    written out."""
    if variables(value) or _unknown(value):
        return None
    evaluator = Evaluator(DIGITS)
    try:
        return evaluator.rational_of(evaluator.value(value, {}), AGREE_DIGITS)
    except (UnboundedError, UndecidedError):
        return None


def _discrete(value: Value, names: Sequence[str]) -> bool:
    """Whether integers are meant: a variable of a usual name beside floors, factorials or alternating signs."""
    if not any(name.split("_")[0] in WHOLE_NAMES for name in names):
        return False
    return bool(functions(value) & DISCRETE) or _alternates(value)


def _alternates(value: Value) -> bool:
    """Whether (-1)^n, cos(nπ) or e^{iπn} is part of a value."""
    for name in value.atoms:
        if not isinstance(name, Opaque):
            continue
        if name.function == "pow" and (base := name.arguments[0].rational) is not None and base < 0:
            return True
        held = {inner for argument in name.arguments for inner in argument.atoms}
        if name.function in ("sin", "cos", "tan") and PI in held and variables(name.arguments[0]):
            return all(
                len(v.split("_")[0]) == 1 and v[0] in WHOLE_NAMES for v in variables(name.arguments[0])
            )
        if any(_alternates(argument) for argument in name.arguments):
            return True
    return False


def _point(names: Sequence[str], at: int) -> dict[str, Number]:
    """Positive numbers for the variables; the point's own number is there for unknown functions."""
    return {**{name: draw(name, at) for name in names}, NUMBER: at}


def _whole_point(names: Sequence[str], at: int) -> dict[str, Number]:
    generator = random.Random(f"{names}/{at}".encode("utf-8", "surrogatepass"))
    most = 16 if at < WHOLE_POINTS // 2 else 90
    drawn = {name: at + 1 if len(names) == 1 and at < 7 else generator.randint(1, most) for name in names}
    return {**drawn, NUMBER: at}


def _unknown(value: Value) -> bool:
    return not functions(value) <= FUNCTIONS


def _agree(a: Value, b: Value, point: Mapping[str, Number]) -> bool | None:
    """Whether two values are equal at a point. They are different only where more digits change neither: terms that
    cancel leave nothing but rounding."""
    before: tuple[Any, Any] | None = None
    for digits, least in (
        (None, FLOAT_DIGITS - 8),
        (DIGITS, AGREE_DIGITS),
        (CONFIRM_DIGITS, CONFIRM_DIGITS - 60),
    ):
        evaluator = Evaluator(digits)
        try:
            values = evaluator.value(a, point), evaluator.value(b, point)
        except (UnboundedError, UndecidedError):
            if digits is None:
                continue
            return None
        if evaluator.close(*values, least):
            before = values
            continue
        stable = before and all(
            evaluator.close(*pair, STABLE_DIGITS) for pair in zip(before, values, strict=True)
        )
        trusted = (
            digits is None
            and evaluator.lost < MAX_CANCELLATION
            and not evaluator.close(*values, STABLE_DIGITS)
        )
        if stable or trusted or digits == CONFIRM_DIGITS:
            return False
        before = values
    return not _rest(a, b, point)


def _rest(a: Value, b: Value, point: Mapping[str, Number]) -> bool:
    """Whether what equal digits leave is one term, which is not zero: 5 + 1/99999999! is not 5."""
    try:
        left = add(a, negate(b))
        if len(left.num) != 1:
            return False
        evaluator = Evaluator(DIGITS)
        return bool(evaluator.value(left, point))
    except (UnboundedError, UndecidedError):
        return False
