r"""Powers, roots, logarithms, angles and factorials of exact values (``algebra``), as far as they have a normal form.

What has none (√(x+1), sin 1, 7^5000) becomes an ``Opaque`` symbol. Variables are positive; odd roots of negative
numbers are real, as answers mean them (∛−8 = −2), even ones imaginary.
"""

from __future__ import annotations

import math
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import (
    HALF,
    IMAGINARY,
    INF,
    MAX_BITS,
    ONE,
    PI,
    E,
    Monomial,
    Number,
    Opaque,
    UndecidedError,
    Value,
    add,
    atom,
    constant,
    divide,
    multiply,
    negate,
    opaque,
    tidy,
)

MAX_POWER = 24
"""Largest power of a sum that is multiplied out."""
MAX_FACTORIAL = 200
"""Largest factorial that is multiplied out."""
POSITIVE = frozenset({"pow", "root", "fact", "abs", "binom"})
"""Functions whose values are positive where their variables are."""


def power(base: Value, exponent: Value) -> Value:
    """base ** exponent: integer and rational powers, e^{iπ/3}, and symbolic powers term by term."""
    exp = exponent.rational
    if exp is not None and exp.denominator == 1:
        return _integer_power(base, int(exp))
    if exp is not None:
        number = base.rational
        return _root_of_number(number, Fraction(exp)) if number is not None else root(base, Fraction(exp))
    return _symbolic_power(base, exponent)


def _integer_power(base: Value, n: int) -> Value:
    number = base.rational
    if number is not None:
        if number == 0 and n <= 0:
            raise UndecidedError
        if abs(n) * max(number.numerator.bit_length(), number.denominator.bit_length(), 1) > MAX_BITS:
            if abs(number) == 1:
                return constant(number ** (n % 2))
            return opaque("pow", base, _whole(n))
        return constant(number**n if n >= 0 else Fraction(number) ** n)
    if len(base.num) == 1 and base.den is ONE:
        return _monomial_power(base, n)
    if abs(n) > MAX_POWER:
        return opaque("pow", base, _whole(n))
    if n < 0:
        return divide(constant(1), _integer_power(base, -n))
    result = constant(1)
    try:
        for _ in range(n):
            result = multiply(result, base)
    except UndecidedError:  # too many terms
        return opaque("pow", base, _whole(n))
    return result


def _whole(n: int) -> Value:
    if abs(n).bit_length() > MAX_BITS:
        raise UndecidedError
    return constant(n)


def _monomial_power(base: Value, n: int) -> Value:
    ((monomial, value),) = base.num.items()
    if abs(n) > 9999 or abs(n) * (value.numerator.bit_length() + value.denominator.bit_length()) > MAX_BITS:
        return opaque("pow", base, _whole(n))
    raised, factor = tidy({name: exp * n for name, exp in monomial})
    return Value({raised: (value**n if n >= 0 else Fraction(value) ** n) * factor}, ONE)


def root(base: Value, exp: Fraction) -> Value:
    """A rational power of what is no number: coefficient and positive factors are taken out of the root."""
    if base.den is not ONE:
        return divide(root(Value(base.num, ONE), exp), root(Value(base.den, ONE), exp))
    if not base.num:
        if exp <= 0:
            raise UndecidedError
        return constant(0)
    outside, inside = _split(base)
    result = _rational_powers(outside, exp)
    content = _content(inside) if exp.denominator % 2 == 0 or len(inside.num) > 1 else constant(1)
    if len(inside.num) == 1:
        content = Value({(): next(iter(inside.num.values()))}, ONE)
    if content.rational != 1:
        number = content.rational
        assert number is not None
        result = multiply(result, _root_of_number(number, exp))
        inside = divide(inside, content)
    if inside.num == ONE:
        return result
    if inside == atom(IMAGINARY) and exp.denominator == 2:
        # √i = (1+i)/√2, the principal root
        unit = multiply(add(constant(1), atom(IMAGINARY)), atom("√2", -HALF))
        return multiply(result, _integer_power(unit, exp.numerator))
    whole = math.floor(exp)
    if whole and len(inside.num) == 1:
        result = multiply(result, _integer_power(inside, whole))
        exp -= whole
        if not exp:
            return result
    return multiply(result, opaque("root", inside, constant(exp)))


def _split(base: Value) -> tuple[Monomial, Value]:
    """The largest common factor of positive symbols, and what it leaves."""
    monomials = list(base.num)
    names = {name for monomial in monomials for name, _ in monomial if positive(name)}
    common: dict[str, Number] = {}
    for name in names:
        exponents = [dict(monomial).get(name, 0) for monomial in monomials]
        if least := min(exponents):
            common[name] = least
    if not common:
        return (), base
    factor = Value({tuple(sorted(common.items())): 1}, ONE)
    return tuple(sorted(common.items())), divide(base, factor)


def positive(name: str) -> bool:
    """Whether a symbol stands for a positive number: variables, radicals, π, e, and functions that are."""
    if isinstance(name, Opaque):
        return name.function in POSITIVE and all(
            all(positive(inner) for inner in argument.atoms)
            and all(number > 0 for poly in argument for number in poly.values())
            for argument in name.arguments
        )
    return name not in (IMAGINARY, INF)


def _content(value: Value) -> Value:
    """The positive rational that divides all coefficients."""
    numbers = [Fraction(number) for number in value.num.values()]
    top = math.gcd(*(abs(number.numerator) for number in numbers))
    bottom = math.lcm(*(number.denominator for number in numbers))
    return constant(Fraction(top, bottom))


def _rational_powers(monomial: Monomial, exp: Fraction) -> Value:
    result = constant(1)
    for name, exponent in monomial:
        if name[0] == "√":
            result = multiply(result, _root_of_number(int(name[1:]), Fraction(exponent) * exp))
        else:
            total = Fraction(exponent) * exp
            result = multiply(result, atom(name, int(total) if total.denominator == 1 else total))
    return result


def _root_of_number(number: Number, exp: Fraction) -> Value:
    """A rational to a rational power, as radicals of primes."""
    if number == 0:
        if exp <= 0:
            raise UndecidedError
        return constant(0)
    if number < 0:
        if exp.denominator % 2:
            result = _root_of_number(-number, exp)
            return negate(result) if exp.numerator % 2 else result
        if exp.denominator == 2:
            return multiply(_root_of_number(-number, exp), _integer_power(atom(IMAGINARY), exp.numerator))
        return opaque("root", constant(number), constant(exp))
    try:
        if exp.denominator > 12 or abs(exp.numerator) > 999:
            raise UndecidedError
        result = constant(1)
        for part, sign in ((number.numerator, 1), (number.denominator, -1)):
            for prime, count in factors(part).items():
                total = exp * count * sign
                whole = math.floor(total)
                result = multiply(result, _integer_power(constant(prime), whole))
                if total != whole:
                    result = multiply(result, atom(f"√{prime}", total - whole))
    except UndecidedError:
        return opaque("root", constant(number), constant(exp))
    return result


def factors(n: int) -> dict[int, int]:
    """Prime factors of a positive integer; undecided where trial division would take long."""
    powers: dict[int, int] = {}
    divisor = 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            powers[divisor] = powers.get(divisor, 0) + 1
            n //= divisor
        divisor += 1 if divisor == 2 else 2
        if divisor > 3000 and divisor * divisor <= n:
            raise UndecidedError
    if n > 1:
        powers[n] = powers.get(n, 0) + 1
    return powers


def _symbolic_power(base: Value, exponent: Value) -> Value:
    """base^(2n+1) = base · (base^n)^2, with numbers split into primes, so that 4^n and 2^{2n} are the same; e to an
    imaginary angle is a point of the unit circle, e to a logarithm its argument."""
    number = base.rational
    if number == 1:
        return constant(1)
    if exponent.den is not ONE:
        return opaque("pow", base, exponent)
    if number is not None:
        if number <= 0:
            return opaque("pow", base, exponent)
        try:
            bases = [(constant(prime), count) for prime, count in factors(number.numerator).items()]
            bases += [(constant(prime), -count) for prime, count in factors(number.denominator).items()]
        except UndecidedError:
            return opaque("pow", base, exponent)
    else:
        bases = [(base, 1)]
    result = constant(1)
    for prime, count in bases:
        for monomial, value in exponent.num.items():
            part = Value({monomial: value * count}, ONE)
            if not monomial:
                factor = power(prime, part)
            elif base == atom(E) and (special := _of_e(monomial, value)):
                factor = special
            else:
                factor = atom(Opaque("pow", (prime, Value({monomial: 1}, ONE))), value * count)
            result = multiply(result, factor)
    return result


def _of_e(monomial: Monomial, value: Number) -> Value | None:
    if monomial == ((IMAGINARY, 1), (PI, 1)):
        half_turns = Fraction(value) / 2
        cosine, sine = sine_of_turns(half_turns + Fraction(1, 4)), sine_of_turns(half_turns)
        if cosine is not None and sine is not None:
            return add(cosine, multiply(atom(IMAGINARY), sine))
        return None
    if len(monomial) == 1 and monomial[0][1] == 1 and isinstance(monomial[0][0], Opaque):
        name = monomial[0][0]
        if name.function == "ln":
            return power(name.arguments[0], constant(value))
    return None


def logarithm(value: Value) -> Value:
    """Natural logarithm: of a product the sum of its factors', of a power its multiple."""
    if value == constant(1):
        return constant(0)
    if value.den is not ONE or len(value.num) != 1:
        return opaque("ln", value)
    ((monomial, number),) = value.num.items()
    if number <= 0 or not all(positive(name) for name, _ in monomial):
        return opaque("ln", value)
    try:
        primes = [(prime, count) for prime, count in factors(number.numerator).items()]
        primes += [(prime, -count) for prime, count in factors(number.denominator).items()]
    except UndecidedError:
        if not monomial:
            return opaque("ln", value)
        primes = []
        total = opaque("ln", constant(number))
    else:
        total = constant(0)
    for prime, count in primes:
        total = add(total, multiply(constant(count), opaque("ln", constant(prime))))
    for name, exponent in monomial:
        if name == E:
            part = constant(1)
        elif name[0] == "√":
            part = logarithm(constant(int(name[1:])))
        elif isinstance(name, Opaque) and name.function == "pow" and name.arguments[0] == atom(E):
            part = name.arguments[1]
        else:
            part = opaque("ln", atom(name))
        total = add(total, multiply(constant(exponent), part))
    return total


_SINES: dict[Fraction, tuple[Number, tuple[int, ...]]] = {
    Fraction(0): (0, ()),
    Fraction(1, 12): (HALF, ()),
    Fraction(1, 8): (HALF, (2,)),
    Fraction(1, 6): (HALF, (3,)),
    Fraction(1, 4): (1, ()),
}


def sine_of_turns(turns: Fraction) -> Value | None:
    """sin(2π · ``turns``) where it is made of square roots of 2, 3 and 6; None elsewhere."""
    turns %= 1
    if turns >= HALF:
        result = sine_of_turns(turns - HALF)
        return None if result is None else negate(result)
    if turns > Fraction(1, 4):
        turns = HALF - turns
    if turns in _SINES:
        number, radicals = _SINES[turns]
        result = constant(number)
        for radical in radicals:
            result = multiply(result, atom(f"√{radical}", HALF))
        return result
    if turns in (Fraction(1, 24), Fraction(5, 24)):
        quarter = constant(Fraction(1, 4))
        first = multiply(atom("√2", HALF), atom("√3", HALF))
        second = atom("√2", HALF)
        return multiply(quarter, add(first, second if turns == Fraction(5, 24) else negate(second)))
    return None


_ODD = {"sin", "tan", "cot", "csc", "arcsin", "arctan", "sinh", "tanh"}
"""Functions with f(-x) = -f(x)."""
_EVEN = {"cos", "sec", "cosh"}
"""Functions with f(-x) = f(x)."""


def apply(name: str, value: Value) -> Value:
    """A function of one value by its usual name: angles at multiples of π/12 and simple arguments exactly."""
    if name == "exp":
        return power(atom(E), value)
    if name == "ln":
        return logarithm(value)
    if name in ("sinh", "cosh"):
        up, down = power(atom(E), value), power(atom(E), negate(value))
        return multiply(add(up, negate(down) if name == "sinh" else down), constant(HALF))
    if name in ("sin", "cos", "tan", "cot", "sec", "csc") and (exact := _angle(name, value)) is not None:
        return exact
    if value == constant(0) and name in ("arcsin", "arctan", "tanh"):
        return constant(0)
    if name in _ODD | _EVEN and _leads_negative(value):
        inner = opaque(name, negate(value))
        return negate(inner) if name in _ODD else inner
    return opaque(name, value)


def _leads_negative(value: Value) -> bool:
    return bool(value.num) and value.num[min(value.num, key=str)] < 0


def _angle(name: str, value: Value) -> Value | None:
    if value.den is not ONE or len(value.num) > 1:
        return None
    ((monomial, number),) = value.num.items() if value.num else (((), 0),)
    if number and monomial != ((PI, 1),):
        return None
    turns = Fraction(number) / 2
    sine, cosine = sine_of_turns(turns), sine_of_turns(turns + Fraction(1, 4))
    if sine is None or cosine is None:
        return None
    return {
        "sin": lambda: sine,
        "cos": lambda: cosine,
        "tan": lambda: divide(sine, cosine),
        "cot": lambda: divide(cosine, sine),
        "sec": lambda: divide(constant(1), cosine),
        "csc": lambda: divide(constant(1), sine),
    }[name]()


def factorial(value: Value) -> Value:
    """n!, multiplied out up to ``MAX_FACTORIAL``."""
    number = value.rational
    if number is None:
        return opaque("fact", value)
    if number.denominator != 1 or number < 0:
        raise UndecidedError
    return opaque("fact", value) if number > MAX_FACTORIAL else constant(math.factorial(int(number)))


def binomial(top: Value, bottom: Value) -> Value:
    """n over k, multiplied out up to ``MAX_FACTORIAL``."""
    n, k = top.rational, bottom.rational
    if n is None or k is None or n.denominator != 1 or k.denominator != 1:
        return opaque("binom", top, bottom)
    if not 0 <= k <= n:
        raise UndecidedError
    return opaque("binom", top, bottom) if n > MAX_FACTORIAL else constant(math.comb(int(n), int(k)))


def integers(name: str, values: list[Value]) -> Value:
    """gcd, lcm, max, min and remainders of numbers; a symbol where they are none."""
    numbers = [value.rational for value in values]
    if any(number is None for number in numbers):
        return opaque(name, *values)
    fractions = [Fraction(number) for number in numbers if number is not None]
    if name in ("max", "min"):
        chosen = max(fractions) if name == "max" else min(fractions)
        return constant(int(chosen) if chosen.denominator == 1 else chosen)
    if any(number.denominator != 1 for number in fractions):
        raise UndecidedError
    whole = [int(number) for number in fractions]
    if name == "mod":
        if whole[1] <= 0:
            raise UndecidedError
        return constant(whole[0] % whole[1])
    return constant(math.gcd(*whole) if name == "gcd" else math.lcm(*whole))


def rounded(name: str, value: Value) -> Value:
    """Floor, ceiling or absolute value."""
    number = value.rational
    if number is None:
        return opaque(name, value)
    if name == "abs":
        return constant(max(number, -number))
    return constant(math.floor(number) if name == "floor" else math.ceil(number))
