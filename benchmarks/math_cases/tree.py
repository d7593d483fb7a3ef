"""Trees of final answers: what a gold says, apart from how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Node:
    """An answer or a part of one."""


# --- expressions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Node):
    """An unsigned number in digits, with a decimal point or without."""

    digits: str


@dataclass(frozen=True)
class Scientific(Node):
    """``mantissa`` times ten to the ``exponent``; e-notation in a gold."""

    mantissa: str
    exponent: int


@dataclass(frozen=True)
class Repeating(Node):
    """A decimal whose last digits repeat for ever: ``whole.plain(period)``."""

    whole: str
    plain: str
    period: str


@dataclass(frozen=True)
class Mixed(Node):
    """A whole number and a proper fraction: 1 4/5."""

    whole: int
    top: int
    bottom: int


@dataclass(frozen=True)
class Name(Node):
    """A variable, or one of the constants ``\\pi``, ``e``, ``i``, ``\\infty``."""

    name: str


@dataclass(frozen=True)
class Sum(Node):
    """Terms with their signs, +1 or -1. A single negative term is a negation."""

    terms: tuple[tuple[int, Node], ...]


@dataclass(frozen=True)
class Product(Node):
    """Factors, written side by side."""

    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Quotient(Node):
    """A fraction."""

    top: Node
    bottom: Node


@dataclass(frozen=True)
class Power(Node):
    """``base`` to the power ``exponent``."""

    base: Node
    exponent: Node


@dataclass(frozen=True)
class Root(Node):
    """The real root for real radicands of odd degree, else the principal one."""

    inner: Node
    degree: int = 2


@dataclass(frozen=True)
class Call(Node):
    """A named function of one argument: ``sin``, ``ln``, ``log`` (with ``base``, or natural)."""

    function: str
    argument: Node
    base: Node | None = None


@dataclass(frozen=True)
class Factorial(Node):
    """``inner``!."""

    inner: Node


@dataclass(frozen=True)
class Degrees(Node):
    """An angle in degrees inside an expression, as in sin 30°."""

    inner: Node


# --- values with marks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked(Node):
    """A value with a mark: ``percent``, ``degree``, ``money`` or a unit in words (``unit``)."""

    mark: str
    inner: Node
    unit: str = ""


@dataclass(frozen=True)
class Named(Node):
    """``x = 5``."""

    name: str
    inner: Node


@dataclass(frozen=True)
class Based(Node):
    """A numeral in another base."""

    digits: str
    base: int


# --- containers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items(Node):
    """``kind``: ``tuple`` (ordered, in round brackets), ``list`` (any order, no brackets), ``set`` (any order, braces),
    ``ratio`` (3:4), ``letters`` of several choices (any order)."""

    kind: str
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Interval(Node):
    """All numbers between two; the brackets tell whether the ends belong to it."""

    left: str
    low: Node
    high: Node
    right: str


@dataclass(frozen=True)
class Union(Node):
    """Intervals and sets together."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Matrix(Node):
    """Rows of entries."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Words(Node):
    """A word or several: ``ellipse``."""

    text: str


@dataclass(frozen=True)
class Choice(Node):
    """The letter of a choice."""

    letter: str


@dataclass(frozen=True)
class Clock(Node):
    """A time of day; ``half`` is ``a`` or ``p``."""

    hour: int
    minute: int | None
    half: str


@dataclass(frozen=True)
class Opaque(Node):
    """A gold that is not understood; it is only wrapped, never changed."""

    text: str


EXPRESSIONS = (
    Number,
    Scientific,
    Repeating,
    Mixed,
    Name,
    Sum,
    Product,
    Quotient,
    Power,
    Root,
    Call,
    Factorial,
    Degrees,
)
"""Kinds of nodes that stand for a number."""


def is_expression(node: Node) -> bool:
    return isinstance(node, EXPRESSIONS)


def whole(value: int) -> Node:
    """The tree of an integer."""
    return negative(Number(str(-value))) if value < 0 else Number(str(value))


def negative(node: Node) -> Node:
    """The tree of minus ``node``, without a double sign."""
    if isinstance(node, Sum):
        if len(node.terms) == 1 and node.terms[0][0] < 0:
            return node.terms[0][1]
        return Sum(tuple((-sign, term) for sign, term in node.terms))
    return Sum(((-1, node),))


def integer(node: Node) -> int | None:
    """The value of an integer that is written in digits."""
    if isinstance(node, Number) and node.digits.isdigit():
        return int(node.digits)
    if isinstance(node, Sum) and len(node.terms) == 1 and isinstance(node.terms[0][1], Number):
        inner = integer(node.terms[0][1])
        return None if inner is None else node.terms[0][0] * inner
    return None


def _children(node: Node) -> list[tuple[tuple[Any, ...], Node]]:
    """(place, child) of every direct child; a place is understood by ``_put``."""
    found: list[tuple[tuple[Any, ...], Node]] = []
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            found.append(((field.name,), value))
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, Node):
                    found.append(((field.name, i), item))
                elif isinstance(item, tuple):
                    found += [((field.name, i, j), x) for j, x in enumerate(item) if isinstance(x, Node)]
    return found


def _put(node: Node, place: tuple[Any, ...], child: Node) -> Node:
    name, *rest = place
    if not rest:
        return replace(node, **{name: child})
    values = list(getattr(node, name))
    if len(rest) == 1:
        values[rest[0]] = child
    else:
        inner = list(values[rest[0]])
        inner[rest[1]] = child
        values[rest[0]] = tuple(inner)
    return replace(node, **{name: tuple(values)})


def walk(node: Node) -> list[Node]:
    """The node and all below it."""
    return [node] + [below for _place, child in _children(node) for below in walk(child)]


def variants(node: Node, change: Callable[[Node], list[Node]]) -> list[Node]:
    """Every tree that comes from changing one node of this one, by ``change``'s proposals."""
    found = list(change(node))
    for place, child in _children(node):
        found += [_put(node, place, changed) for changed in variants(child, change)]
    return found


def names(node: Node) -> set[str]:
    """Names of the variables in a tree."""
    return {x.name for x in walk(node) if isinstance(x, Name)} - {"\\pi", "e", "i", "\\infty"}
