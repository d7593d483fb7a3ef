r"""Exact algebra for final answers: reads LaTeX into rational functions with a unique normal form, without SymPy.

Most answers are built from integers, fractions, roots, π, e, i and a few variables. Here they become quotients of
polynomials over the rationals, whose "variables" are symbols, prime radicals (√12 = 2·√3: distinct products of real
radicals are linearly independent over the rationals, Besicovitch 1940), π, e and i with i² = −1. Equality is then a
comparison of dictionaries, and inequality is a certainty instead of a failure to simplify. Everything else (sin, log,
floor, x^n …) is carried as an opaque symbol named by the normal form of its argument: such expressions may be
found equal, but never decided to be different. What does not fit raises ``UndecidedError``; sizes are bounded, so
nothing here takes long.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction
"""Integers stay ``int`` where they can: it is much the faster arithmetic, and equal and hashed alike."""
Monomial = tuple[tuple[str, Number], ...]
Poly = dict[Monomial, Number]

MAX_TERMS = 60
MAX_BITS = 4096
MAX_POWER = 24
"""Largest power of a sum that is multiplied out."""

ONE: Poly = {(): 1}
PI, E, IMAGINARY, INF = "#pi", "#e", "#i", "#inf"


class UndecidedError(Exception):
    """The text is outside of what is understood exactly."""


class Value(NamedTuple):
    """A quotient of polynomials; ``den`` is ``ONE`` unless it has several terms."""

    num: Poly
    den: Poly

    @property
    def rational(self) -> Number | None:
        if self.den is not ONE or len(self.num) > 1:
            return None
        return self.num.get((), None) if self.num else 0

    @property
    def atoms(self) -> set[str]:
        return {atom for poly in self for monomial in poly for atom, _ in monomial}

    @property
    def canon(self) -> str:
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
    """A rational number as a value."""
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise UndecidedError
    return Value({(): value} if value else {}, ONE)


def atom(name: str, exponent: Number = 1) -> Value:
    """A symbol, constant or radical to a power."""
    return Value({((name, exponent),): 1}, ONE)


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
    return _tidy(exponents)


def _tidy(exponents: dict[str, Number]) -> tuple[Monomial, Number]:
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
            inverse, factor = _tidy({name: -exp for name, exp in monomial})
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


def power(base: Value, exponent: Value) -> Value:
    """base ** exponent for integer powers, rational powers of positive numbers, and symbolic powers term by term."""
    exp = exponent.rational
    if exp is not None and exp.denominator == 1:
        return _integer_power(base, int(exp))
    number = base.rational
    if exp is not None:
        if number is not None:
            return _root_power(number, exp)
        if base.den is ONE and len(base.num) == 1:
            ((monomial, value),) = base.num.items()
            if (
                len(monomial) == 1
                and monomial[0][1] == 1
                and value > 0
                and monomial[0][0] not in (IMAGINARY, INF)
            ):
                return multiply(_root_power(value, exp), atom(monomial[0][0], exp))
        return atom(f"~pow({base.canon};{exp})")
    return _symbolic_power(base, exponent)


def _integer_power(base: Value, n: int) -> Value:
    number = base.rational
    if number is not None:
        if number == 0 and n <= 0:
            raise UndecidedError
        if abs(n) * max(number.numerator.bit_length(), number.denominator.bit_length(), 1) > MAX_BITS:
            if abs(number) == 1:
                return constant(number ** (n % 2))
            raise UndecidedError
        return constant(number**n if n >= 0 else Fraction(number) ** n)
    if abs(n) > (MAX_POWER if len(base.num) > 1 or base.den is not ONE else 9999):
        return atom(f"~pow({base.canon};{n})")
    if n < 0:
        return divide(Value(dict(ONE), ONE), _integer_power(base, -n))
    if base.den is ONE and len(base.num) == 1:
        ((monomial, value),) = base.num.items()
        if abs(n) * (value.numerator.bit_length() + value.denominator.bit_length()) > MAX_BITS:
            raise UndecidedError
        raised, factor = _tidy({name: exp * n for name, exp in monomial})
        return Value({raised: value**n * factor}, ONE)
    result = Value(dict(ONE), ONE)
    for _ in range(n):
        result = multiply(result, base)
    return result


def _root_power(number: Number, exp: Number) -> Value:
    """A positive rational to a rational power, as radicals of primes; a square root of a negative one is
    imaginary."""
    if number == 0:
        return constant(0)
    if number < 0:
        if exp.denominator != 2:
            raise UndecidedError
        return multiply(_root_power(-number, exp), _integer_power(atom(IMAGINARY), exp.numerator))
    if exp.denominator > 12 or abs(exp.numerator) > 999:
        raise UndecidedError
    result = constant(1)
    for part, sign in ((number.numerator, 1), (number.denominator, -1)):
        for prime, count in _factors(part).items():
            total = exp * count * sign
            whole = math.floor(total)
            result = multiply(result, _integer_power(constant(prime), whole))
            if total != whole:
                result = multiply(result, atom(f"√{prime}", total - whole))
    return result


def _factors(n: int) -> dict[int, int]:
    if n > 10**12:
        raise UndecidedError
    found: dict[int, int] = {}
    divisor = 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            found[divisor] = found.get(divisor, 0) + 1
            n //= divisor
        divisor += 1 if divisor == 2 else 2
        if divisor > 3000 and divisor * divisor <= n:
            raise UndecidedError
    if n > 1:
        found[n] = found.get(n, 0) + 1
    return found


def _symbolic_power(base: Value, exponent: Value) -> Value:
    """base^(2n+1) = base · (base^n)^2, with numbers split into primes, so that 4^n and 2^{2n} are the same."""
    number = base.rational
    if exponent.den is not ONE:
        return atom(f"~pow({base.canon};{exponent.canon})")
    if number is not None:
        if number <= 0:
            return atom(f"~pow({base.canon};{exponent.canon})")
        bases = [(constant(prime), count) for prime, count in _factors(number.numerator).items()]
        bases += [(constant(prime), -count) for prime, count in _factors(number.denominator).items()]
    else:
        bases = [(base, 1)]
    result = constant(1)
    for root, count in bases:
        for monomial, value in exponent.num.items():
            part = Value({monomial: value * count}, ONE)
            if not monomial:
                result = multiply(result, power(root, part))
            else:
                result = multiply(result, atom(f"~pow({root.canon};{_show({monomial: 1})})", value * count))
    return result


def equal(a: Value, b: Value) -> bool | None:
    """Whether two values are the same; None where only opaque symbols or different variables keep them apart."""
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


def to_float(value: Value) -> float | None:
    """Decimal value of a real number, None for anything else."""
    constants = {PI: math.pi, E: math.e}
    totals = []
    for poly in value:
        total = 0.0
        for monomial, coefficient in poly.items():
            try:
                term = float(coefficient)
                for name, exp in monomial:
                    root = constants.get(name) or (float(name[1:]) if name[0] == "√" else None)
                    if root is None:
                        return None
                    term *= root ** float(exp)
            except (OverflowError, ValueError):
                return None
            total += term
        totals.append(total)
    return totals[0] / totals[1] if totals[1] else None
