"""What an answer's tree is worth, and whether two trees are worth the same: exact rationals, else 50 digits.

Expressions with variables are evaluated at fixed points, positive and irrational, so that different expressions do not
meet there by chance.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

from .tree import (
    Based,
    Call,
    Degrees,
    Factorial,
    Interval,
    Items,
    Marked,
    Matrix,
    Mixed,
    Name,
    Named,
    Node,
    Number,
    Opaque,
    Power,
    Product,
    Quotient,
    Repeating,
    Root,
    Scientific,
    Sum,
    Union,
    Words,
    is_expression,
    names,
    walk,
)

DIGITS = 50
POINTS = 3
MEASURED = 0.06
"""Physical values that differ by less may be the same value rounded."""
ROUNDED = 0.02
"""A decimal and an exact number that differ by less may be the same number rounded."""

Number_ = Fraction | mpmath.mpc


class UnknownError(Exception):
    """The oracle has no certain opinion; there is no case then."""


# --- numbers ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def value(node: Node, point: int = 0) -> Number_:
    """The number an expression is worth at a point: a ``Fraction`` where it is rational, else 50 digits."""
    with mpmath.workdps(DIGITS + 10):
        try:
            return _value(node, point)
        except (ZeroDivisionError, OverflowError, ValueError) as error:
            raise UnknownError(str(error)) from error


def _value(node: Node, point: int) -> Number_:
    match node:
        case Number(digits):
            return Fraction(digits if not digits.startswith(".") else "0" + digits)
        case Scientific(mantissa, exponent):
            return Fraction(mantissa) * Fraction(10) ** exponent
        case Repeating(whole, plain, period):
            nines = Fraction(int(period), 10 ** len(period) - 1)
            return int(whole) + (Fraction(int(plain or 0)) + nines) / 10 ** len(plain)
        case Mixed(whole, top, bottom):
            return whole + Fraction(top, bottom)
        case Name(name):
            return _name(name, point)
        case Sum(terms):
            return _sum([_value(term, point) if sign > 0 else -_value(term, point) for sign, term in terms])
        case Product(factors):
            result: Number_ = Fraction(1)
            for factor in factors:
                result = _both(result, _value(factor, point), lambda a, b: a * b)
            return result
        case Quotient(top, bottom):
            return _both(_value(top, point), _value(bottom, point), lambda a, b: a / b)
        case Power(base, exponent):
            return _power(_value(base, point), _value(exponent, point))
        case Root(inner, degree):
            return _root(_value(inner, point), degree)
        case Factorial(inner):
            return _factorial(_value(inner, point))
        case Degrees(inner):
            return _both(_value(inner, point), mpmath.mpc(mpmath.pi) / 180, lambda a, b: a * b)
        case Call(function, argument, base):
            return _call(function, _value(argument, point), None if base is None else _value(base, point))
    raise UnknownError(type(node).__name__)


def _inexact(number: Number_) -> mpmath.mpc:
    if isinstance(number, Fraction):
        return mpmath.mpc(mpmath.mpf(number.numerator) / mpmath.mpf(number.denominator))
    return number


def _both(a: Number_, b: Number_, operation: Callable[[Any, Any], Number_]) -> Number_:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return operation(a, b)
    return operation(_inexact(a), _inexact(b))


def _sum(terms: list[Number_]) -> Number_:
    result: Number_ = Fraction(0)
    for term in terms:
        result = _both(result, term, lambda a, b: a + b)
    return result


def _name(name: str, point: int) -> Number_:
    if name == "\\pi":
        return mpmath.mpc(mpmath.pi)
    if name == "e":
        return mpmath.mpc(mpmath.e)
    if name == "i":
        return mpmath.mpc(0, 1)
    if name == "\\infty":
        return mpmath.mpc(mpmath.inf)
    seed = zlib.crc32(f"{name}/{point}".encode())
    return mpmath.mpc(mpmath.sqrt(2 + seed % 10007) / 30 + mpmath.mpf(1) / 7)


def _power(base: Number_, exponent: Number_) -> Number_:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if abs(exponent) <= 4000:
            return base ** int(exponent)
        return mpmath.mpc(mpmath.power(_inexact(base), int(exponent)))
    return mpmath.mpc(mpmath.power(_inexact(base), _inexact(exponent)))


def _root(inner: Number_, degree: int) -> Number_:
    if isinstance(inner, Fraction):
        if inner < 0 and degree % 2:
            return -_root(-inner, degree)
        top, bottom = (_exact_root(x, degree) for x in (inner.numerator, inner.denominator))
        if top is not None and bottom is not None:
            return Fraction(top, bottom)
    return mpmath.mpc(mpmath.root(_inexact(inner), degree))


def _exact_root(number: int, degree: int) -> int | None:
    if number < 0 or number.bit_length() > 20000:
        return None
    guess = int(mpmath.nint(mpmath.root(mpmath.mpf(number), degree)))
    return guess if guess**degree == number else None


def _factorial(n: Number_) -> Number_:
    if not isinstance(n, Fraction) or n.denominator != 1 or not 0 <= n <= 3000:
        raise UnknownError("factorial")
    return Fraction(int(mpmath.factorial(int(n)))) if n <= 20 else mpmath.mpc(mpmath.factorial(int(n)))


def _call(function: str, argument: Number_, base: Number_ | None) -> Number_:
    if function in ("ln", "log"):
        if base is None:
            return mpmath.mpc(mpmath.log(_inexact(argument)))
        return mpmath.mpc(mpmath.log(_inexact(argument)) / mpmath.log(_inexact(base)))
    name = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}.get(function, function)
    if name not in (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "asin",
        "acos",
        "atan",
    ):
        raise UnknownError(function)
    return mpmath.mpc(getattr(mpmath, name)(_inexact(argument)))


# --- equality -----------------------------------------------------------------------------------------------------


def _gap(a: Number_, b: Number_) -> Any:
    """Relative difference of two numbers, 0 where they are equal to the digits computed."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        if a == b:
            return 0
        return abs(a - b) / max(abs(a), abs(b))
    with mpmath.workdps(DIGITS + 10):
        x, y = _inexact(a), _inexact(b)
        if x == y:
            return 0
        if mpmath.isinf(x) or mpmath.isinf(y):
            return 1
        size = max(abs(x), abs(y))
        gap = abs(x - y) / size
        return 0 if gap < mpmath.mpf(10) ** (-DIGITS + 8) or size < mpmath.mpf(10) ** (-DIGITS + 8) else gap


def gap(one: Node, other: Node) -> Any:
    """The largest relative difference of two expressions at the points; numbers need one."""
    points = POINTS if names(one) | names(other) else 1
    return max(_gap(value(one, point), value(other, point)) for point in range(points))


def same(one: Node, other: Node) -> bool:
    """Whether two answers say the same, order and names as a reader takes them."""
    one, other = plain(one), plain(other)
    if is_expression(one) and is_expression(other):
        return gap(one, other) == 0
    if type(one) is not type(other):
        return False
    match one, other:
        case Items(kind, items), Items(other_kind, others):
            loose = ("list", "set")
            if len(items) != len(others) or (kind != other_kind and not {kind, other_kind} <= set(loose)):
                return False
            if kind == "ratio":
                return same(Quotient(*items), Quotient(*others))
            if kind == "tuple":
                return all(same(a, b) for a, b in zip(items, others, strict=True))
            return _pairs_up(list(items), list(others))
        case Interval(left, low, high, right), Interval(left2, low2, high2, right2):
            return (left, right) == (left2, right2) and same(low, low2) and same(high, high2)
        case Union(parts), Union(others):
            return len(parts) == len(others) and _pairs_up(list(parts), list(others))
        case Matrix(rows), Matrix(others):
            if [len(row) for row in rows] != [len(row) for row in others]:
                return False
            flat = zip([x for row in rows for x in row], [x for row in others for x in row], strict=True)
            return all(same(a, b) for a, b in flat)
        case Named(name, inner), Named(name2, inner2):
            return name == name2 and same(inner, inner2)
        case Based(digits, base), Based(digits2, base2):
            return int(digits, base) == int(digits2, base2) if base == base2 else False
        case Words(text), Words(text2):
            return text.lower() == text2.lower()
        case Opaque(), Opaque():
            raise UnknownError("opaque")
    return one == other


def _pairs_up(items: list[Node], others: list[Node]) -> bool:
    for item in items:
        for other in others:
            if same(item, other):
                others.remove(other)
                break
        else:
            return False
    return True


def plain(node: Node) -> Node:
    """A node without what does not count: marks, names before a single value."""
    while isinstance(node, Marked | Named):
        node = node.inner
    if isinstance(node, Items) and node.kind != "tuple" and len(node.items) == 1:
        return plain(node.items[0])
    return node


# --- certain differences ------------------------------------------------------------------------------------------


def _decimal(node: Node) -> bool:
    return any(
        isinstance(x, Scientific | Repeating) or (isinstance(x, Number) and "." in x.digits)
        for x in walk(node)
    )


def certainly_different(gold: Node, answer: Node, options: Mapping[str, Any]) -> bool:
    """Whether nobody would take ``answer`` for ``gold``: not equal, and not one rounded from the other.

    A percent sign may stand for hundredths, a Minerva gold for what rounds to it, a decimal for an exact number.
    """
    if same(gold, answer):
        return False
    if isinstance(gold, Marked) and gold.mark in ("percent", "money") and is_expression(plain(answer)):
        ratio = value(plain(gold))
        if any(_gap(ratio, _scaled(plain(answer), scale)) == 0 for scale in (100, Fraction(1, 100))):
            return False
    one, other = plain(gold), plain(answer)
    if not (is_expression(one) and is_expression(other)):
        return True
    if options.get("tolerance"):
        return False
    distance = gap(one, other)
    if options.get("units") == "skip" and not _count(one):
        return bool(distance > MEASURED)
    if _decimal(one) != _decimal(other):
        return bool(distance > ROUNDED)
    return bool(distance > 0)


def _count(gold: Node) -> bool:
    """An integer below 100 is no measured value."""
    return isinstance(gold, Number) and gold.digits.isdigit() and int(gold.digits) < 100


def _scaled(node: Node, scale: Fraction | int) -> Number_:
    number = value(node)
    return number * scale if isinstance(number, Fraction) else number * _inexact(Fraction(scale))
