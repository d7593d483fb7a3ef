r"""Values of exact expressions (``algebra``) to fifty digits, and the comparison that normal forms leave open.

Two expressions are the same when they agree at random points to all but the last digits of the working precision:
polynomial identity testing (Schwartz 1980, Zippel 1979), carried to the elementary functions. They are different when
they differ at one point. mpmath's numbers have exponents of any size, so 7^-5000 and 7^-5001 are told apart, and
nothing is evaluated whose size would not fit: ``UnboundedError`` stops towers of powers before they are built.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath import mp, mpc, mpf  # type: ignore[import-untyped]

from cipo_eval.verifiers.math.algebra import (
    IMAGINARY,
    PI,
    E,
    Number,
    Opaque,
    Poly,
    UndecidedError,
    Value,
    add,
    functions,
    negate,
    variables,
)

DIGITS = 50
"""Working precision."""
AGREE = 30
"""Digits that have to agree."""
QUICK = 16
STABLE = 5
"""Digits that two precisions must share for a value to be trusted."""
CONFIRM = 220
"""Precision at which agreement is confirmed, so that 5 + 10^{-40} is not 5."""
POINTS = 5
WHOLE_POINTS = 14
MAX_MAGNITUDE = 60
"""Bits of the exponent of a number, as mpmath holds it: larger numbers are not evaluated."""
WHOLE_NAMES = frozenset("ijklmnpqKMN")
"""Variables that stand for integers where floors, factorials or signs (-1)^n are about."""
DISCRETE = frozenset({"floor", "ceil", "fact", "binom", "mod", "gcd", "lcm"})


_NUMBER = "@"


class UnboundedError(Exception):
    """A number too large to be evaluated, or a function at a point where it has no value."""


def same(a: Value, b: Value, *, whole: bool = False) -> bool | None:
    """Whether two values agree at random points; None where they cannot be evaluated. ``whole``: their variables are
    integers."""
    names = sorted(variables(a) | variables(b))
    if names and whole | _discrete(a, names) | _discrete(b, names):
        points = [_whole_point(names, at) for at in range(WHOLE_POINTS)]
        results = [_agree(a, b, point) for point in points]
        known = [result for result in results if result is not None]
        return None if len(known) < 3 else all(known)
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
    ratios = []
    with mp.workdps(DIGITS):
        for at in range(POINTS):
            try:
                top, bottom = _value(a, _point(names, at)), _value(b, _point(names, at))
            except (UnboundedError, UndecidedError):
                continue
            if not bottom or not top:
                return None
            ratios.append(top / bottom)
        if len(ratios) < 2:
            return None
        return all(_close(ratios[0], ratio, AGREE) for ratio in ratios[1:])


def real(value: Value) -> Fraction | None:
    """A constant as a rational within fifty digits; None where it is not real, has variables, or is too large to be
    written out."""
    if variables(value) or _unknown(value):
        return None
    with mp.workdps(DIGITS):
        try:
            number = _value(value, {})
        except (UnboundedError, UndecidedError):
            return None
        number = mpc(number)
        if abs(number.imag) > abs(number.real) * mpf(10) ** -AGREE:
            return None
        sign, mantissa, exponent, _ = number.real._mpf_
        if abs(exponent) > 20_000:
            return None
        size: Fraction = int(mantissa) * Fraction(2) ** int(exponent)
        return -size if sign else size


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


@lru_cache(maxsize=4096)
def _draw(name: str, at: int) -> Fraction:
    return Fraction(
        random.Random(f"{name}/{at}".encode("utf-8", "surrogatepass")).randint(3_000, 23_000), 9_973
    )


def _point(names: Sequence[str], at: int) -> dict[str, Number]:
    """Positive numbers for the variables; the point's own number is there for unknown functions."""
    return {**{name: _draw(name, at) for name in names}, _NUMBER: at}


def _whole_point(names: Sequence[str], at: int) -> dict[str, Number]:
    generator = random.Random(f"{names}/{at}".encode("utf-8", "surrogatepass"))
    drawn = {name: Fraction(at + 1 if len(names) == 1 else generator.randint(1, 16)) for name in names}
    return {**drawn, _NUMBER: at}


def _unknown(value: Value) -> bool:
    return not functions(value) <= _FUNCTIONS.keys()


def _agree(a: Value, b: Value, point: Mapping[str, Number]) -> bool | None:
    """Whether two values are equal at a point. They are different only where more digits change neither: terms that
    cancel leave nothing but rounding."""
    before: tuple[Any, Any] | None = None
    for digits, least in ((QUICK, QUICK - 8), (DIGITS, AGREE), (CONFIRM, CONFIRM - 60)):
        with mp.workdps(digits):
            try:
                found = _value(a, point), _value(b, point)
            except (UnboundedError, UndecidedError):
                return None
            if not _close(*found, least):
                if before and all(_close(*pair, STABLE) for pair in zip(before, found, strict=True)):
                    return False
                if digits == CONFIRM:
                    return False
            before = found
    try:  # 5 + 1/99999999! is not 5: what is left is one term, which is not zero
        left = difference(a, b)
        return not (len(left.num) == 1 and _value(left, point))
    except (UnboundedError, UndecidedError):
        return True


def _close(a: Any, b: Any, digits: int) -> bool:
    size = max(abs(a), abs(b))
    return bool(abs(a - b) <= size * mpf(10) ** -digits)


# --- evaluation -----------------------------------------------------------------------------------------------------


def _value(value: Value, point: Mapping[str, Number]) -> Any:
    top = _poly(value.num, point)
    bottom = _poly(value.den, point) if len(value.den) > 1 or () not in value.den else mpf(1)
    if not bottom:
        raise UnboundedError
    return _bounded(top / bottom)


def _poly(poly: Poly, point: Mapping[str, Number]) -> Any:
    total, largest = mpf(0), mpf(0)
    for monomial, coefficient in poly.items():
        term = _rational(coefficient)
        for name, exponent in monomial:
            base = _atom(name, point)
            term = term * (base if exponent == 1 else _power(base, _rational(exponent)))
        total, largest = total + term, max(largest, abs(term))
    if len(poly) > 1 and abs(total) < largest * mpf(10) ** -(mp.dps - 12):
        return mpf(0)  # nothing is left but rounding
    return total


def _rational(number: Number) -> Any:
    return mpf(number.numerator) if number.denominator == 1 else mpf(number.numerator) / number.denominator


def _atom(name: str, point: Mapping[str, Number]) -> Any:
    if isinstance(name, Opaque):
        return _function(name, point)
    if name == PI:
        return mp.pi
    if name == E:
        return mp.e
    if name == IMAGINARY:
        return mpc(0, 1)
    if name[0] == "√":
        return mpf(int(name[1:]))
    if name[0] == "#":
        raise UnboundedError
    return _rational(point[name])


def _bounded(number: Any) -> Any:
    if not mp.isfinite(number) or _magnitude(number) > 2**MAX_MAGNITUDE:
        raise UnboundedError
    return number


def _magnitude(number: Any) -> int:
    """Size of the exponent of a number."""
    return 0 if not number else abs(int(mp.mag(number)))


def _power(base: Any, exponent: Any) -> Any:
    if not base:
        if mp.re(exponent) <= 0:
            raise UnboundedError
        return mpf(0)
    if exponent == 1:
        return base
    if _magnitude(exponent) + math.log2(_magnitude(base) + 2) > MAX_MAGNITUDE:
        raise UnboundedError
    if exponent == mp.floor(mp.re(exponent)) and abs(exponent) < 10**6:
        return _bounded(base ** int(exponent.real))
    return _bounded(mp.exp(exponent * mp.log(base)))


def _root(base: Any, exponent: Any) -> Any:
    """A rational power; of a negative number with an odd denominator, the real one."""
    if mp.im(base) == 0 and mp.re(base) < 0:
        fraction = Fraction(str(mp.nstr(exponent, 15))).limit_denominator(1000)
        if fraction.denominator % 2:
            size = _power(-mp.re(base), exponent)
            return -size if fraction.numerator % 2 else size
    return _power(base, exponent)


def _whole_number(number: Any) -> Any:
    if mp.im(number) or _magnitude(number) > mp.prec - 20:
        raise UnboundedError
    near = mp.nint(mp.re(number))
    return near if abs(near - mp.re(number)) < mpf(10) ** -(mp.dps // 2) else mp.re(number)


def _floor(number: Any) -> Any:
    return mp.floor(_whole_number(number))


def _gamma(number: Any) -> Any:
    if _magnitude(number) > 40 or (mp.im(number) == 0 and mp.re(number) <= -1):
        raise UnboundedError
    return mp.gamma(number + 1)


def _binom(n: Any, k: Any) -> Any:
    if (
        mp.im(n) == 0
        and mp.re(n) >= 0
        and mp.floor(mp.re(k)) == k
        and (mp.re(k) < 0 or (mp.re(k) > mp.re(n)))
    ):
        return mpf(0)
    return _gamma(n) / (_gamma(k) * _gamma(n - k))


def _remainder(a: Any, b: Any) -> Any:
    if not b:
        raise UnboundedError
    return a - b * _floor(a / b)


def _common(function: Callable[..., int]) -> Callable[..., Any]:
    def apply(*numbers: Any) -> Any:
        whole = [_whole_number(number) for number in numbers]
        if any(number != mp.floor(number) or abs(number) > 10**12 for number in whole):
            raise UnboundedError
        return mpf(function(*(int(number) for number in whole)))

    return apply


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*numbers: Any) -> Any:
        if any(mp.im(number) for number in numbers):
            raise UnboundedError
        return function(mp.re(number) for number in numbers)

    return apply


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(mp, name) for name in ["sin", "cos", "tan", "cot", "sec", "csc", "tanh"]},
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "arccot": mp.acot, "arcsec": mp.asec, "arccsc": mp.acsc,
    "coth": mp.coth, "sech": mp.sech, "csch": mp.csch, "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh,
    "ln": mp.log, "abs": abs, "floor": _floor, "ceil": lambda x: -_floor(-x), "fact": _gamma, "binom": _binom,
    "pow": _power, "root": _root, "mod": _remainder, "gcd": _common(math.gcd), "lcm": _common(math.lcm),
    "max": _extreme(max), "min": _extreme(min),
}  # fmt: skip
_PERIODIC = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])


def _function(name: Opaque, point: Mapping[str, Number]) -> Any:
    """Value of a function; one that is unknown (f(x), a derivative) is a variable of its own, named by its argument."""
    function = _FUNCTIONS.get(name.function)
    if function is None:
        return _rational(_draw(str(name), int(point.get(_NUMBER, 0))))
    arguments = [_value(argument, point) for argument in name.arguments]
    if name.function in _PERIODIC | {"tanh", "coth", "sech", "csch"} and (
        mp.mag(arguments[0]) > mp.prec // 2 if arguments[0] else False
    ):
        raise UnboundedError  # nothing of the angle would be left
    try:
        return _bounded(function(*arguments))
    except (ZeroDivisionError, ValueError, OverflowError, mp.NoConvergence):
        raise UnboundedError from None


def difference(a: Value, b: Value) -> Value:
    """a − b."""
    return add(a, negate(b))
