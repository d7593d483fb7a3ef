"""Evaluates exact expressions (``algebra``) at a point: in floating point, or to any number of digits (mpmath)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath import MPContext, fp  # type: ignore[import-untyped]

from cipo_eval.verifiers.math.algebra import IMAGINARY, PI, E, Number, Opaque, Poly, Value

MAX_MAGNITUDE = 60
"""Bits of the exponent of a number, as mpmath holds it: larger numbers are not evaluated."""
NUMBER = "@"
"""Where a point holds its own number, by which unknown functions are drawn."""


class UnboundedError(Exception):
    """A number too large to be evaluated, or a function at a point where it has no value."""


@lru_cache(maxsize=4096)
def draw(name: str, at: int) -> Fraction:
    """A positive number for a variable at a point."""
    return Fraction(
        random.Random(f"{name}/{at}".encode("utf-8", "surrogatepass")).randint(3_000, 23_000), 9_973
    )


_PLAIN = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "tanh", "coth", "sech", "csch")},
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "ln": "log", "abs": "fabs",
}  # fmt: skip
"""Functions by mpmath's names."""
_OF_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "tanh", "coth", "sech", "csch"})
_OWN = ("floor", "ceil", "fact", "binom", "pow", "root", "mod", "gcd", "lcm", "max", "min")
FUNCTIONS = frozenset(_PLAIN) | frozenset(_OWN)
"""Functions that are evaluated; others are variables of their own."""


class Evaluator:
    """Evaluates expressions in one precision, of so many decimal ``digits``; None: in floating point."""

    def __init__(self, digits: int | None) -> None:
        self.context: Any = fp if digits is None else _contexts(digits)
        self.digits = digits or 16
        self.lost = 1.0
        """How many times larger than the sum its largest term was, at worst."""

    def close(self, a: Any, b: Any, digits: int) -> bool:
        """Whether two numbers share so many digits."""
        size = max(abs(a), abs(b))
        return bool(abs(a - b) <= size * self.context.mpf(10) ** -digits)

    def rational_of(self, number: Any, digits: int) -> Fraction | None:
        """A real number as a fraction; None where it is not real within ``digits``, or too large to be written."""
        number = self.context.mpc(number)
        if abs(number.imag) > abs(number.real) * self.context.mpf(10) ** -digits:
            return None
        sign, mantissa, exponent, _ = number.real._mpf_
        if abs(exponent) > 20_000:
            return None
        size: Fraction = int(mantissa) * Fraction(2) ** int(exponent)
        return -size if sign else size

    def value(self, value: Value, point: Mapping[str, Number]) -> Any:
        """The number that a value is at a point."""
        try:
            top = self._poly(value.num, point)
            if len(value.den) == 1 and () in value.den:
                return self._bounded(top / self._rational(value.den[()]))
            bottom = self._poly(value.den, point)
            if not bottom:
                raise UnboundedError
            return self._bounded(top / bottom)
        except (ArithmeticError, ValueError, TypeError, self.context.NoConvergence):
            raise UnboundedError from None

    def _poly(self, poly: Poly, point: Mapping[str, Number]) -> Any:
        total, largest = self.context.mpf(0), 0
        for monomial, coefficient in poly.items():
            term = self._rational(coefficient)
            for name, exponent in monomial:
                base = self._atom(name, point)
                term = term * (base if exponent == 1 else self._pow(base, self._rational(exponent)))
            total, largest = total + term, max(largest, abs(term))
        if len(poly) > 1 and largest:
            size = abs(total)
            if size < largest * self.context.mpf(10) ** -(
                self.digits - 4 if self.digits == 16 else self.digits - 12
            ):
                self.lost = math.inf
                return self.context.mpf(0)  # nothing is left but rounding
            if self.digits == 16:
                self.lost = max(self.lost, float(largest / size))
        return total

    def _rational(self, number: Number) -> Any:
        if number.denominator == 1:
            return self.context.mpf(number.numerator)
        return self.context.mpf(number.numerator) / number.denominator

    def _atom(self, name: str, point: Mapping[str, Number]) -> Any:
        if isinstance(name, Opaque):
            return self._function(name, point)
        if name == PI:
            return +self.context.pi
        if name == E:
            return +self.context.e
        if name == IMAGINARY:
            return self.context.mpc(0, 1)
        if name[0] == "√":
            return self.context.mpf(int(name[1:]))
        if name[0] == "#":
            raise UnboundedError
        return self._rational(point[name])

    def _bounded(self, number: Any) -> Any:
        c = self.context
        if c.isinf(number) or c.isnan(number) or self._magnitude(number) > 2**MAX_MAGNITUDE:
            raise UnboundedError
        return number

    def _magnitude(self, number: Any) -> int:
        """Size of the exponent of a number."""
        return 0 if not number else abs(int(self.context.mag(number)))

    def _pow(self, base: Any, exponent: Any) -> Any:
        c = self.context
        if not base:
            if c.re(exponent) <= 0:
                raise UnboundedError
            return c.mpf(0)
        if self._magnitude(exponent) + math.log2(self._magnitude(base) + 2) > MAX_MAGNITUDE:
            raise UnboundedError
        if exponent == c.floor(c.re(exponent)) and abs(exponent) < 10**6:
            return self._bounded(base ** int(c.re(exponent)))
        return self._bounded(c.exp(exponent * c.log(base)))

    def _root(self, base: Any, exponent: Any) -> Any:
        """A rational power; of a negative number with an odd denominator, the real one."""
        c = self.context
        if c.im(base) == 0 and c.re(base) < 0:
            fraction = Fraction(str(c.nstr(exponent, 15))).limit_denominator(1000)
            if fraction.denominator % 2:
                size = self._pow(-c.re(base), exponent)
                return -size if fraction.numerator % 2 else size
        return self._pow(base, exponent)

    def _whole_number(self, number: Any) -> Any:
        c = self.context
        if c.im(number) or self._magnitude(number) > self.digits * 3 - 15:
            raise UnboundedError
        near = c.floor(c.re(number) + 0.5)
        return near if abs(near - c.re(number)) < c.mpf(10) ** -(self.digits // 2) else c.re(number)

    def _floor(self, number: Any) -> Any:
        return self.context.floor(self._whole_number(number))

    def _ceil(self, number: Any) -> Any:
        return -self._floor(-number)

    def _fact(self, number: Any) -> Any:
        c = self.context
        if self._magnitude(number) > 40 or (c.im(number) == 0 and c.re(number) <= -1):
            raise UnboundedError
        return c.gamma(number + 1)

    def _binom(self, n: Any, k: Any) -> Any:
        c = self.context
        real = c.im(n) == 0 and c.re(n) >= 0 and c.floor(c.re(k)) == k
        if real and (c.re(k) < 0 or c.re(k) > c.re(n)):
            return c.mpf(0)
        return self._fact(n) / (self._fact(k) * self._fact(n - k))

    def _mod(self, a: Any, b: Any) -> Any:
        if not b:
            raise UnboundedError
        return a - b * self._floor(a / b)

    def _gcd(self, *numbers: Any) -> Any:
        return self._common(math.gcd, numbers)

    def _lcm(self, *numbers: Any) -> Any:
        return self._common(math.lcm, numbers)

    def _common(self, function: Callable[..., int], numbers: tuple[Any, ...]) -> Any:
        whole = [self._whole_number(number) for number in numbers]
        if any(number != self.context.floor(number) or abs(number) > 10**12 for number in whole):
            raise UnboundedError
        return self.context.mpf(function(*(int(number) for number in whole)))

    def _max(self, *numbers: Any) -> Any:
        return self._extreme(max, numbers)

    def _min(self, *numbers: Any) -> Any:
        return self._extreme(min, numbers)

    def _extreme(self, function: Callable[..., Any], numbers: tuple[Any, ...]) -> Any:
        if any(self.context.im(number) for number in numbers):
            raise UnboundedError
        return function(self.context.re(number) for number in numbers)

    def _function(self, name: Opaque, point: Mapping[str, Number]) -> Any:
        """Value of a function; one that is unknown (f(x), a derivative) is a variable of its own, named by its
        argument."""
        if name.function not in FUNCTIONS:
            return self._rational(draw(str(name), int(point.get(NUMBER, 0))))
        arguments = [self.value(argument, point) for argument in name.arguments]
        if name.function in _OF_ANGLES and arguments[0]:
            size = self.context.mag(arguments[0])
            if size > self.digits * 3 // 2:
                raise UnboundedError  # nothing of the angle would be left
            self.lost = max(self.lost, 2.0 ** min(size, 60))
        if name.function in _PLAIN:
            plain = getattr(self.context, _PLAIN[name.function], None)
            if plain is None:  # floating point has no asinh
                raise UnboundedError
            return self._bounded(plain(arguments[0]))
        return self._bounded(getattr(self, f"_{name.function}")(*arguments))


@lru_cache(maxsize=8)
def _contexts(digits: int) -> Any:
    """A context of mpmath's for each precision: changing one's costs more than most evaluations."""
    context = MPContext()
    context.dps = digits
    return context
