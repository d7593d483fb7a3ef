r"""Exact algebra for final answers: reads LaTeX into rational functions with a unique normal form, without SymPy.

Most answers are built from integers, fractions, roots, π, e, i and a few variables. Here they become quotients of
polynomials over the rationals, whose "variables" are symbols, prime radicals (√12 = 2·√3: distinct products of real
radicals are linearly independent over the rationals, Besicovitch 1940), π, e and i with i² = −1. Equality is then a
comparison of dictionaries, and inequality is a certainty instead of a failure to simplify. Everything else (sin, log,
floor, x^n, 2004! …) is an ``Opaque`` symbol named by the normal form of its arguments, which it carries: ``numeric``
evaluates such values where their normal forms differ. Variables are taken to be positive, as answers mean them
(√(4r²) = 2r). What does not fit raises ``UndecidedError``; sizes are bounded, so nothing here takes long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction
"""Integers stay ``int`` where they can: it is much the faster arithmetic, and equal and hashed alike."""
Monomial = tuple[tuple[str, Number], ...]
"""A product of powers: names of symbols or constants with their exponents, in the order of the names."""
Poly = dict[Monomial, Number]
"""A polynomial: the rational coefficient of each monomial."""

MAX_TERMS = 60
"""Terms of a polynomial; one of more is undecided."""
MAX_BITS = 4096
"""Bits of a numerator and denominator together; a number of more is undecided."""
MAX_POWER = 24
"""Largest power of a sum that is multiplied out."""

MAX_NAME = 1500
"""Characters of the name of an opaque symbol: names hold names."""

ONE: Poly = {(): 1}
PI, E, IMAGINARY, INF = "#pi", "#e", "#i", "#inf"
"""Names of the constants π, e, i and ∞ within monomials."""
HALF = Fraction(1, 2)


class UndecidedError(Exception):
    """The text is outside of what is understood exactly."""


class Opaque(str):
    """Name of a symbol that stands for a function of values, with the function and its arguments."""

    __slots__ = ("arguments", "function")
    function: str
    arguments: tuple[Value, ...]

    def __new__(cls, function: str, arguments: tuple[Value, ...]) -> Opaque:
        name = f"~{function}({';'.join(argument.canon for argument in arguments)})"
        if len(name) > MAX_NAME:
            raise UndecidedError
        made = super().__new__(cls, name)
        made.function, made.arguments = function, arguments
        return made

    def __getnewargs__(self) -> tuple[str, tuple[Value, ...]]:  # type: ignore[override]
        return self.function, self.arguments


class Value(NamedTuple):
    """A quotient of polynomials; ``den`` is ``ONE`` unless it has several terms."""

    num: Poly
    den: Poly

    @property
    def rational(self) -> Number | None:
        """The value as a rational number; None where it is none."""
        if self.den is not ONE or len(self.num) > 1:
            return None
        return self.num.get((), None) if self.num else 0

    @property
    def atoms(self) -> set[str]:
        """The symbols and constants that occur in it."""
        return {atom for poly in self for monomial in poly for atom, _ in monomial}

    @property
    def canon(self) -> str:
        """A text that equal values share."""
        text = _show(self.num)
        return text if self.den is ONE else f"({text})/({_show(self.den)})"


def _show(poly: Poly) -> str:
    if not poly:
        return "0"
    terms = []
    for monomial in sorted(poly, key=str):
        factors = [f"{atom}^{exp}" if exp != 1 else atom for atom, exp in monomial]
        terms.append("*".join([str(poly[monomial]), *factors]) if factors else str(poly[monomial]))
    return "+".join(terms)


# --- polynomials --------------------------------------------------------------------------------------------------


def constant(value: Number) -> Value:
    """A rational number as a value; one of more than ``MAX_BITS`` is undecided."""
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise UndecidedError
    return Value({(): value} if value else {}, ONE)


def atom(name: str, exponent: Number = 1) -> Value:
    """A symbol, constant or radical to a power."""
    return Value({((name, exponent),): 1}, ONE)


def opaque(function: str, *arguments: Value) -> Value:
    """A function of values that is not computed here."""
    return atom(Opaque(function, arguments))


def _times(a: Poly, b: Poly) -> Poly:
    if a is ONE:
        return b
    if b is ONE:
        return a
    if len(a) * len(b) > MAX_TERMS * 4:
        raise UndecidedError
    result: Poly = {}
    for left, x in a.items():
        for right, y in b.items():
            monomial, factor = _join(left, right)
            total = result.get(monomial, 0) + x * y * factor
            if total:
                result[monomial] = total
            else:
                result.pop(monomial, None)
    if len(result) > MAX_TERMS:
        raise UndecidedError
    return result


def _join(left: Monomial, right: Monomial) -> tuple[Monomial, Number]:
    """Product of two monomials and the rational factor that its radicals and i leave behind."""
    if not left or not right:
        return left or right, 1
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, 0) + exponent
    return tidy(exponents)


def tidy(exponents: dict[str, Number]) -> tuple[Monomial, Number]:
    """A monomial with radicals and i reduced to exponents in [0, 1), and the rational factor that leaves them."""
    factor: Number = 1
    for name, exponent in list(exponents.items()):
        if exponent == 0:
            del exponents[name]
        elif name == IMAGINARY:
            turns = exponent % 4
            factor = -factor if turns >= 2 else factor
            exponents[name] = turns % 2
            if not exponents[name]:
                del exponents[name]
        elif name[0] == "√" and not 0 < exponent < 1:
            whole = math.floor(exponent)
            factor *= Fraction(int(name[1:])) ** whole
            exponents[name] = exponent - whole
            if not exponents[name]:
                del exponents[name]
        elif name == INF:
            raise UndecidedError
    return tuple(sorted(exponents.items())), factor


def _plus(a: Poly, b: Poly) -> Poly:
    result = dict(a)
    for monomial, value in b.items():
        total = result.get(monomial, 0) + value
        if total:
            result[monomial] = total
        else:
            result.pop(monomial, None)
    if len(result) > MAX_TERMS:
        raise UndecidedError
    return result


def add(a: Value, b: Value) -> Value:
    """a + b."""
    if a.den is ONE and b.den is ONE:
        return Value(_plus(a.num, b.num), ONE)
    return _quotient(_plus(_times(a.num, b.den), _times(b.num, a.den)), _times(a.den, b.den))


def negate(a: Value) -> Value:
    """−a."""
    return Value({monomial: -value for monomial, value in a.num.items()}, a.den)


def multiply(a: Value, b: Value) -> Value:
    """a · b."""
    num = _times(a.num, b.num)
    if a.den is ONE and b.den is ONE:
        return Value(num, ONE)
    return _quotient(num, _times(a.den, b.den))


def divide(a: Value, b: Value) -> Value:
    """a / b; division by zero is undecided."""
    if not b.num:
        raise UndecidedError
    return _quotient(_times(a.num, b.den), _times(a.den, b.num))


def _quotient(num: Poly, den: Poly) -> Value:
    """num/den with one-term and two-term numeric denominators cleared, the leading coefficient of others made 1."""
    if len(den) == 2 and (conjugate := _conjugate(den)):
        num, den = _times(num, conjugate), _times(den, conjugate)
    if len(den) == 1:
        ((monomial, value),) = den.items()
        if monomial or value != 1:
            inverse, factor = tidy({name: -exp for name, exp in monomial})
            num = _times(num, {inverse: Fraction(factor) / value})
        return Value(num, ONE)
    lead = den[min(den, key=str)]
    if lead != 1:
        num = {monomial: Fraction(value) / lead for monomial, value in num.items()}
        den = {monomial: Fraction(value) / lead for monomial, value in den.items()}
    if num == den:
        return Value(dict(ONE), ONE)
    return Value(num, den)


def _conjugate(den: Poly) -> Poly | None:
    """a − b for a denominator a + b of rationals, square roots and i; None for other denominators."""
    for monomial in den:
        if any(
            (name[0] != "√" and name != IMAGINARY) or (exp != Fraction(1, 2) and name != IMAGINARY)
            for name, exp in monomial
        ):
            return None
    first, second = den
    return {first: den[first], second: -den[second]}


def equal(a: Value, b: Value) -> bool | None:
    """Whether two values have the same normal form; False where both have one and they differ, None where opaque
    symbols or different variables keep them apart."""
    if a == b:
        return True
    same = a.num == b.num if a.den is b.den else _times(a.num, b.den) == _times(b.num, a.den)
    if same:
        return True
    atoms_a, atoms_b = a.atoms, b.atoms
    if any(name[0] == "~" for name in atoms_a | atoms_b):
        return None
    symbols = [{name for name in atoms if name[0] not in "#√"} for atoms in (atoms_a, atoms_b)]
    return False if symbols[0] == symbols[1] else None


def renamed(value: Value, names: dict[str, str]) -> Value:
    """``value`` with its variables renamed, also inside of functions."""

    def new(name: str) -> str:
        if isinstance(name, Opaque):
            return Opaque(name.function, tuple(renamed(argument, names) for argument in name.arguments))
        return names.get(name, name)

    polys = []
    for poly in value:
        fresh: Poly = {}
        for monomial, coefficient in poly.items():
            exponents: dict[str, Number] = {}
            for name, exponent in monomial:
                exponents[new(name)] = exponents.get(new(name), 0) + exponent
            tidied, factor = tidy(exponents)
            fresh[tidied] = fresh.get(tidied, 0) + coefficient * factor
        polys.append({monomial: number for monomial, number in fresh.items() if number})
    return Value(polys[0], ONE if value.den is ONE else polys[1])


def substituted(value: Value, replacement: Callable[[Opaque], Value | None]) -> Value:
    """``value`` with the functions for which ``replacement`` gives something replaced by that."""

    def one(name: str, exponent: Number) -> Value:
        if not isinstance(name, Opaque):
            return atom(name, exponent)
        value = replacement(name)
        if value is not None:
            if len(value.num) == 1 and value.den is ONE:
                ((monomial, number),) = value.num.items()
                if exponent.denominator == 1:
                    tidied, factor = tidy({inner: exp * exponent for inner, exp in monomial})
                    return Value({tidied: Fraction(number) ** int(exponent) * factor}, ONE)
            if exponent == 1:
                return value
            raise UndecidedError
        arguments = tuple(substituted(argument, replacement) for argument in name.arguments)
        return atom(Opaque(name.function, arguments), exponent)

    sides = []
    for poly in value:
        total = Value({}, ONE)
        for monomial, coefficient in poly.items():
            term = Value({(): coefficient}, ONE)
            for name, exponent in monomial:
                term = multiply(term, one(name, exponent))
            total = add(total, term)
        sides.append(total)
    return divide(*sides)


def variables(value: Value) -> set[str]:
    """Names of the variables of a value, also inside of functions."""
    names: set[str] = set()
    for name in value.atoms:
        if isinstance(name, Opaque):
            for argument in name.arguments:
                names |= variables(argument)
        elif name[0] not in "#√":
            names.add(name)
    return names


def functions(value: Value) -> set[str]:
    """Names of the functions that a value is made of."""
    names: set[str] = set()
    for name in value.atoms:
        if isinstance(name, Opaque):
            names.add(name.function)
            for argument in name.arguments:
                names |= functions(argument)
    return names
