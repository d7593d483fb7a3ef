r"""How large the value of an expression may become: upper bounds, and what sums, products and powers make of them.

Nothing is evaluated: a ``Size`` says how many digits the numbers of a part may have and how many terms it has when it
is multiplied out and brought over one denominator. What is beyond any limit raises ``HeavyError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple


class Limits(NamedTuple):
    """How much an answer may ask for. Each was set where symbolic mathematics takes about half a second."""

    length: int
    """Characters of the answer."""
    tokens: int
    """Numbers, letters, commands and signs."""
    depth: int
    """Nested brackets: the time of the LaTeX parser doubles with each."""
    bits: float
    """Bits of a number that is written out."""
    terms: float
    """Terms of an expression that is multiplied out, and of its denominator."""
    degree: float
    """Power of a letter."""
    items: int
    """Commas, unions, bars; a relation counts as six."""
    cells: int
    """Cells of all matrices together; a matrix to a power, or a determinant with letters, may have a quarter."""
    roots: int
    """Roots in the whole answer."""
    functions: int
    """Functions in the whole answer."""


USUAL = Limits(1000, 160, 6, 200, 40, 60, 40, 25, 6, 8)
"""What an answer may ask for where the gold is no larger than that."""
LARGE = Limits(1000, 500, 14, 40_000, 150, 3000, 120, 64, 16, 20)
"""What an answer may ask for where the gold itself exceeds ``USUAL``."""

MAX_DIGITS = 400
"""Digits of a numeral."""
MAX_EXPONENT = 9999
"""Largest exponent, also of e-notation."""
MAX_FACTORIAL = 3000
"""Largest n of n! and of a binomial coefficient."""
MAX_TOWER = 3
"""Powers within exponents."""
MAX_ROOT_BITS, MAX_NESTED_ROOTS, MAX_DEGREE_OF_ROOT = 100, 2, 30
"""Of roots: bits of the number under one, how many are nested, and the degree (3: a cube root)."""
MAX_NESTED_FUNCTIONS, MAX_ARGUMENT_BITS = 2, 60
"""Of functions: how many are nested, and bits of an argument."""
MAX_SIGNS = 4
r"""``\pm`` in the whole answer: each doubles the values."""
MAX_DEGREE_TO_SOLVE = 4
"""Degree of an equation or inequality that is solved where it does not agree at once."""


class HeavyError(Exception):
    """The text asks for too much."""


@dataclass(frozen=True, slots=True)
class Size:
    """Upper bounds of what a part may become."""

    bits: float = 0.0
    """Of its numbers, written out; letters have none."""
    value: float = 0.0
    """Binary logarithm of its absolute value, letters taken for 1."""
    terms: float = 1
    below: float = 1
    """Terms of its denominator."""
    plain: bool = True
    """Nothing but integers: it collapses to one number."""
    degree: float = 0
    """In its letters."""
    tower: int = 0
    roots: int = 0
    """Roots within roots."""
    functions: int = 0
    """Functions within functions."""
    cells: int = 0


ONE = Size()


def join(left: Size, right: Size, **changes: float) -> Size:
    """Two parts beside each other: what nests is the deeper of the two, ``changes`` say what becomes of the rest."""
    return replace(
        left,
        plain=left.plain and right.plain,
        tower=max(left.tower, right.tower),
        roots=max(left.roots, right.roots),
        functions=max(left.functions, right.functions),
        cells=left.cells + right.cells,
        **changes,
    )


def collapsed(size: Size) -> Size:
    """Integers alone become one number."""
    return replace(size, terms=1, below=1) if size.plain else size


def product(left: Size, right: Size) -> Size:
    """The size of a product."""
    return collapsed(
        join(
            left,
            right,
            bits=left.bits + right.bits,
            value=left.value + right.value,
            terms=left.terms * right.terms,
            below=left.below * right.below,
            degree=max(left.degree, right.degree),
        )
    )


def _log_of_sum(left: float, right: float) -> float:
    """Binary logarithm of a sum, from those of its terms."""
    return max(left, right) + math.log2(1 + 2 ** -min(abs(left - right), 99.0))


def added(left: Size, right: Size) -> Size:
    """The size of a sum, brought over one denominator."""
    same = left.below == right.below == 1
    return collapsed(
        join(
            left,
            right,
            bits=_log_of_sum(left.bits, right.bits),
            value=_log_of_sum(left.value, right.value),
            terms=left.terms + right.terms if same else left.terms * right.below + right.terms * left.below,
            below=left.below * right.below,
            degree=max(left.degree, right.degree),
        )
    )


def beside(left: Size, right: Size) -> Size:
    """Two elements of a list, or sides of a relation."""
    return join(
        left,
        right,
        bits=max(left.bits, right.bits),
        value=max(left.value, right.value),
        terms=max(left.terms, right.terms),
        below=max(left.below, right.below),
        degree=max(left.degree, right.degree),
    )


def either(combine: Callable[[Size, Size], Size], left: Size | None, right: Size | None) -> Size | None:
    """Both joined where there are both, else the one that there is."""
    return (
        combine(left, right) if left is not None and right is not None else left if right is None else right
    )


def quotient(top: Size, bottom: Size) -> Size:
    """The size of a fraction."""
    turned = replace(bottom, value=max(bottom.bits - bottom.value, 0), terms=bottom.below, below=bottom.terms)
    return product(top, turned)


def power(base: Size, exponent: Size) -> Size:
    """A power: of a number it is written out, of a sum multiplied out; letters in the exponent leave it as it is."""
    if exponent.value > math.log2(MAX_EXPONENT + 1):
        raise HeavyError
    if base.cells and exponent.value > 4:
        raise HeavyError
    times = 2**exponent.value
    tower = max(base.tower, exponent.tower)
    value = max(base.value, 0.1) * times
    size = join(base, exponent, bits=max(base.bits, value), value=value, terms=1, below=1)
    if not exponent.plain:
        return collapsed(replace(size, tower=max(base.tower, exponent.tower + 1)))
    if base.plain:
        return collapsed(replace(size, bits=max(base.bits, 1) * times, tower=tower))
    whole = math.ceil(times)
    if whole > LARGE.terms and max(base.terms, base.below) > 1:
        raise HeavyError
    return collapsed(
        replace(
            size,
            bits=base.bits * times,
            terms=math.comb(int(base.terms) + whole - 1, whole) if base.terms > 1 else 1,
            below=math.comb(int(base.below) + whole - 1, whole) if base.below > 1 else 1,
            degree=base.degree * times,
            tower=tower,
        )
    )


def factorial(size: Size) -> Size:
    """The size of a factorial. Raises ``HeavyError`` where its argument may be too large."""
    if size.value > math.log2(MAX_FACTORIAL + 1):
        raise HeavyError
    value = max(2**size.value * size.value, 1)
    if size.plain:
        return collapsed(replace(size, bits=value, value=value))
    return collapsed(replace(size, terms=1, below=1, functions=size.functions + 1))


def number(text: str) -> Size:
    """The size of a numeral."""
    whole, _, decimals = text.partition(".")
    value = math.log2(int(whole or 0) + bool(decimals)) if whole.strip("0") or decimals else 0.0
    return Size(bits=value + len(decimals) * math.log2(10), value=value)
