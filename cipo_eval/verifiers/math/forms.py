"""What an answer says (``Form``), and the forms that others are built from: numbers, sequences, collections."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import INF, Number, UndecidedError, Value, atom, constant, negate
from cipo_eval.verifiers.math.numeric import real
from cipo_eval.verifiers.math.tokens import read_number

MAX_ITEMS = 64
"""Items of a collection, or cells of a matrix; one of more is not understood."""


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer says."""

    kind: str
    """``value``, ``tuple``, ``set``, ``matrix``, ``equation``, ``base``, ``time``, ``words``, ``refused`` (it says more
    than one thing, or denies what it says) or ``unknown``."""
    canon: str
    """A text that forms with the same meaning share, as far as it is understood."""
    value: Value | None = None
    """What the expression is worth, exactly; None where it is no single value."""
    other: Value | None = None
    """The value in the other reading of ``1/2x``."""
    items: tuple[Form, ...] = ()
    """Elements of a collection, rows of a matrix."""
    brackets: str = ""
    """Of a tuple: ``()``, ``[]``, ``(]``, ``[)`` or ``::`` (a ratio)."""
    digits: int | None = None
    """Significant digits of a number written as a decimal or in e-notation; None where it is written exactly."""
    unit: Fraction = Fraction(0)
    """Place value of its last written digit."""
    cut: bool = False
    """Whether digits follow that are not shown (``3.14...``)."""
    percent: bool = False
    """Whether a percent sign follows."""
    name: str = ""
    """Left side of ``x = 5``."""
    choice: str = ""
    """Letter of ``(B) 27``."""
    measure: str = ""
    """Words or letters behind a value that may be its unit."""
    condition: str = ""
    """Side condition: what follows ``when``, ``for``, ``where``."""
    bounded: bool = False
    """Whether an interval was written as an inequality."""
    modulus: str = ""
    """Of a residue, ``7 \\pmod{11}``."""


UNKNOWN = Form("unknown", "")
"""The form of what is not understood."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_DECIMAL = re.compile(r"([-+]?)([0-9]*)\.([0-9]*)(\.\.\.)?")
_SCIENTIFIC = re.compile(
    r"([-+]?)([0-9]*)\.?([0-9]*)(?:[eE]| ?\* ?10 ?\^ ?| ?\* ?10\*\*)(?:\{ ?([-+]? ?[0-9]{1,4}) ?\}|"
    r"\(([-+]?[0-9]{1,4})\)|([-+]?[0-9]{1,4}))"
)
_FRACTION = re.compile(
    r"([-+]?)(?:\\frac\{(-?[0-9]{1,99})\}\{(-?[0-9]{1,99})\}|([0-9]{1,99}) ?/ ?([0-9]{1,99}))"
)
_MIXED = re.compile(
    r"([-+]?)([0-9]{1,99})(?: ?\\frac(?:\{([0-9]{1,99})\}\{([0-9]{1,99})\}|([0-9])([0-9]))|"
    r" ([0-9]{1,99})/([0-9]{1,99}))"
)


def number(text: str) -> Form | None:
    """A number in one of its usual writings, or None. ``text`` is clean."""
    if _INTEGER.fullmatch(text):
        value = int(text)
        return Form("value", str(value), constant(value))
    if match := _DECIMAL.fullmatch(text):
        sign, whole, decimals, more = match.groups()
        if (not whole and not decimals) or len(text) > 400:
            return None
        form = _decimal(sign, whole, decimals, 0)
        return replace(form, cut=True) if more else form
    if match := _SCIENTIFIC.fullmatch(text):
        sign, whole, decimals = match.group(1, 2, 3)
        exponent = int((match[4] or match[5] or match[6]).replace(" ", ""))
        if (whole or decimals) and abs(exponent) <= 1000 and len(text) <= 400:
            return _decimal(sign, whole, decimals, exponent)
        return None
    if match := _FRACTION.fullmatch(text):
        sign = -1 if match[1] == "-" else 1
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        return _exact(Fraction(sign * top, bottom)) if bottom else None
    if match := _MIXED.fullmatch(text):
        top, bottom = int(match[3] or match[5] or match[7]), int(match[4] or match[6] or match[8])
        if 0 < top < bottom:
            return _exact((int(match[2]) + Fraction(top, bottom)) * (-1 if match[1] == "-" else 1))
    return None


def _exact(value: Fraction) -> Form:
    number: Number = int(value) if value.denominator == 1 else value
    return Form("value", str(value), constant(number))


def _decimal(sign: str, whole: str, decimals: str, exponent: int) -> Form:
    value = read_number(f"{whole or 0}.{decimals or 0}") * Fraction(10) ** exponent
    written = (whole + decimals).lstrip("0")
    form = _exact(Fraction(-value if sign == "-" else value))
    return replace(form, digits=max(len(written), 1), unit=Fraction(10) ** (exponent - len(decimals)))


def unordered(items: Sequence[Form]) -> Form:
    """A collection whose order does not matter; one element is itself."""
    flat: list[Form] = []
    for item in items:
        flat.extend(item.items if item.kind == "set" else [item])
    if len(flat) == 1:
        return flat[0]
    if any(item.kind == "unknown" for item in flat) or len(flat) > MAX_ITEMS:
        raise UndecidedError
    named = distinct_names(flat)
    canon = (
        "{" + ", ".join(sorted(f"{item.name}={item.canon}" if named else item.canon for item in flat)) + "}"
    )
    return Form("set", canon, items=tuple(flat))


def distinct_names(items: Sequence[Form]) -> bool:
    """Whether every item is named (``x = 1, y = 2``), each differently, so that values must not change places. The x1
    and x2 of one equation may."""
    return all(item.name for item in items) and len(
        {re.sub(r"[_{}\d]", "", item.name) for item in items}
    ) == len(items)


def sequence(items: Sequence[Form], brackets: str) -> Form:
    """A tuple, an interval, a row of a matrix or a ratio."""
    canon = brackets[0] + ", ".join(item.canon for item in items) + brackets[1]
    return Form("tuple", canon, items=tuple(items), brackets=brackets)


def everything() -> Form:
    """The real numbers as an interval."""
    high = atom(INF)
    low = negate(high)
    return sequence([Form("value", low.canon, low), Form("value", high.canon, high)], "()")


def without_points(points: Sequence[Form], name: str = "") -> Form:
    """The real numbers but some, as intervals."""
    numbers = [(real(point.value), point) for point in points if point.value is not None]
    if len(numbers) != len(points) or any(number is None for number, _ in numbers):
        raise UndecidedError
    ends = [point for _, point in sorted(numbers, key=lambda pair: pair[0] or 0)]
    low, high = everything().items
    bounds = [low, *ends, high]
    pieces = [sequence([a, b], "()") for a, b in itertools.pairwise(bounds)]
    return replace(unordered(pieces), name=name)


def is_number(item: Form) -> bool:
    """Whether a form is one rational number."""
    return item.kind == "value" and item.value is not None and item.value.rational is not None
