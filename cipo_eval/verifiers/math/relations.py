r"""Equations, inequalities, approximations and congruences: ``x = 5``, ``1 < x \le 3``, ``\sqrt2 \approx 1.41``.

What names a value (``x``, ``f(n)``, ``V(s)/U(s)``) is told from what is a side of an equation, and sides that are
different numbers contradict each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from cipo_eval.verifiers.math import words
from cipo_eval.verifiers.math.algebra import (
    INF,
    ONE,
    Number,
    Opaque,
    UndecidedError,
    Value,
    add,
    atom,
    multiply,
    negate,
    variables,
)
from cipo_eval.verifiers.math.forms import Form, number, sequence, without_points
from cipo_eval.verifiers.math.latex import OPEN, split_top
from cipo_eval.verifiers.math.numeric import real, same
from cipo_eval.verifiers.math.reader import read

_SYMBOL = r"\\?[A-Za-z]{1,12}(?:_(?:\{[^{}]{1,20}\}|\w))?'{0,3}"
_NAME = re.compile(
    rf"{_SYMBOL}(?:\^\{{(?:\\prime)+\}}|(?<!e)\^\{{?[A-Za-z*]\}}?)?(?:\([A-Za-z0-9, ]{{1,12}}\))?|"
    rf"\\?[A-Z]{{1,4}}[A-Z_\d{{}}]{{0,6}}"
    r"|\([A-Za-z](?:,\s?[A-Za-z])*\)|\\(?:angle|triangle|overline|dot|hat|vec|mathbf|mathcal)[\s{}A-Za-z_\d]{1,30}"
    r"|\[[A-Z]{3,8}\]|\\(?:max|min|sup|inf|"
    r"lim)(?:_\{[^{}]{1,20}\})?\s?\{?[A-Za-z]\}?(?:_\{?\w\}?)?(?:\([A-Za-z0-9, ]{1,12}\))?"
    r"|[A-Za-z]_?\{?\d?\}?:[A-Za-z]_?\{?\d?\}?|\|\s?[A-Z]{1,3}\s?\|"
)
_COMPOUND_NAME = re.compile(
    r"(?![-+])(?:[A-Za-z]|\\(?:frac|angle|triangle|alpha|beta|gamma|theta|lambda|mu|phi|omega|sigma|Delta|overline)(?![A-Za-z])"
    r"|_\{?\w{1,8}\}?|[-+*/(){}|' ])+"
)
_RELATION = re.compile(r"(<=|>=|<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\lt(?![A-Za-z])|\\gt(?![A-Za-z]))")
MEMBER = re.compile(r"^\\?[A-Za-z](?:_\{?\w\}?)?\s*(?:\\in(?![A-Za-z])|:)\s*")
r"""``x \in``, or ``x:``, before a set."""
_APPROX = re.compile(r"\\approx(?![A-Za-z])|\\sim(?![A-Za-z])")
_CONGRUENT = re.compile(r"\\equiv(?![A-Za-z])")
MODULUS = re.compile(
    rf"\s*(?:\\p[mo]o?d(?![A-Za-z])\s*(?:\{{([^{{}}]{{1,40}})\}}|(\w))|\(\s*\\?[bp]?mod(?![A-Za-z])\s*([^()]{{1,40}})\)"
    rf"|\(?\s*{OPEN}\s*(?:mod|modulo)\s*.\s*([^()]{{1,40}}?)\)?)\s*$"
)
r"""``\pmod{11}``, or ``(mod 11)``, at the end of a residue; one of its three groups is the modulus."""
BOTH = re.compile(r"([^\ue001]*[<>lg][^\ue001]*)\ue001\s*and\s*\ue002([^\ue001]*[<>lg][^\ue001]*)")
"""Two inequalities with "and" between them, cleaned (``latex``)."""


def intersection(sides: Sequence[Form]) -> Form | None:
    """``x > 2 and x <= 5`` is the interval (2, 5]."""
    if any(side.kind != "tuple" or not side.name or len(side.items) != 2 for side in sides):
        return None
    infinity = atom(INF).canon
    below = [side for side in sides if side.items[1].canon == infinity]
    above = [side for side in sides if side.items[0].canon == negate(atom(INF)).canon]
    if len(below) != 1 or len(above) != 1 or below[0].name != above[0].name:
        return None
    brackets = below[0].brackets[0] + above[0].brackets[1]
    return replace(sequence([below[0].items[0], above[0].items[1]], brackets), name=below[0].name)


def residue(text: str, modulus: str, again: Callable[..., Form]) -> Form:
    r"""``7 \pmod{11}`` and ``x \equiv 7 \pmod{11}``: a class of integers."""
    sides = _CONGRUENT.split(text.replace("=", "\\equiv "))
    value_form: Form = again(sides[-1])
    if value_form.kind == "value" and value_form.value is not None and value_form.value.rational is not None:
        return replace(
            value_form, canon=f"{value_form.canon} mod {modulus.strip()}", modulus=read(modulus).canon
        )
    if value_form.kind in ("set", "tuple"):
        return value_form
    raise UndecidedError


NEAR = Fraction(1, 50)
"""What stands beside an approximation sign may differ by so much."""


def relation(text: str, again: Callable[..., Form]) -> Form:
    """``x = 5`` is 5 with a name; an equation becomes its polynomial up to a factor; an inequality an interval. Sides
    that are different numbers contradict each other."""
    approximate = _APPROX.split(text)
    if len(approximate) > 1:
        return _approximate(approximate, again)
    if _CONGRUENT.search(text):
        text = _CONGRUENT.sub("=", text)
    if match := MEMBER.match(text):
        return again(text[match.end() :])
    if _RELATION.search(text) and "=" not in text.replace("<=", "").replace(">=", ""):
        return _interval(_RELATION.split(text), again)
    if "\\ne" in text or "!=" in text:
        return _all_but(text, again)
    if _RELATION.search(text):
        raise UndecidedError
    sides = [side.strip() for side in split_top(text, "=")]
    while len(sides) > 1 and _is_name(sides[-1]) and not _is_name(sides[0]) and not _unknowns(sides[0]):
        sides = [sides[-1], *sides[:-1]]  # 5 = x
    if len(sides) > 1 and not sides[0]:
        sides = sides[1:]
        if len(sides) == 1:
            return again(sides[0])
    if len(sides) < 2 or not all(sides):
        raise UndecidedError
    return _equalities(sides, again)


def _all_but(text: str, again: Callable[..., Form]) -> Form:
    """``x \\ne 2``: all real numbers but one."""
    sides = [side.strip() for side in re.split(r"\\ne(?![A-Za-z])|!=", text)]
    if len(sides) != 2 or not _is_name(sides[0]):
        raise UndecidedError
    point: Form = again(sides[1])
    return without_points([point], name=sides[0])


def _is_name(side: str) -> bool:
    return (
        bool(_NAME.fullmatch(side)) and not number(side) and side not in ("e", "i", "\\pi", "pi", "\\infty")
    )


def _equalities(sides: list[str], again: Callable[..., Form]) -> Form:
    """``x = 2 + 3 = 5`` is 5 with a name; without one, all sides must be the same value, or there are two: an
    equation."""
    name = ""
    while len(sides) > 1 and _is_name(sides[0]):
        name = name or sides[0].replace(" ", "")
        sides = sides[1:]
    if len(sides) > 1 and not name and _is_compound_name(sides):
        name = sides[0].replace(" ", "")
        sides = sides[1:]
    if len(sides) > 2 and not name and _unknowns(sides[0]) and not any(map(_unknowns, sides[1:])):
        name, sides = sides[0].replace(" ", ""), sides[1:]  # e^{a+bi} = … = 1+2i
    if name or len(sides) == 1:
        last: Form = again(sides[-1])
        if name and last.value is not None and name in variables(last.value):
            difference = add(read(name), negate(last.value))  # x = 2x + 1
            return Form("equation", up_to_factor(difference), difference)
        return replace(last, name=last.name or name)
    forms = [again(side) for side in sides]
    values = [item.value for item in forms]
    if all(value is not None for value in values):
        values_known = [value for value in values if value is not None]
        agree = [same(values_known[-1], value) for value in values_known[:-1]]
        if all(agree):
            if any(variables(value) for value in values_known) and len(set(sides)) < len(sides):
                raise words.RefusedError  # 2x+1 = 2x+1 says nothing
            return forms[-1]
        if any(result is False for result in agree) and not any(variables(value) for value in values_known):
            raise words.RefusedError
        if len(sides) == 2:
            difference = add(values_known[0], negate(values_known[1]))
            return Form("equation", up_to_factor(difference), difference)
        raise UndecidedError
    if len({item.canon for item in forms}) == 1:
        return forms[-1]
    raise UndecidedError


def _is_compound_name(sides: Sequence[str]) -> bool:
    """Whether the left side names what follows: ``m+n = 27`` (only letters, and a number behind them),
    ``V(s)/U(s) = 1/(s+1)``, ``dy/dx = 2x``."""
    if not _COMPOUND_NAME.fullmatch(sides[0]):
        return False
    try:
        value = read(sides[0])
    except UndecidedError:
        return False
    if not any(map(_unknowns, sides[1:])):
        return value.den is not ONE or all(number == 1 for number in value.num.values())
    return (
        value.den is ONE
        and len(value.num) == 1
        and all(
            (isinstance(atom, Opaque) and atom.function.startswith("call ")) or atom.endswith("'")
            for monomial in value.num
            for atom, _ in monomial
        )
        and not _same_letters(sides)
    )


def _same_letters(sides: Sequence[str]) -> bool:
    """Whether the left side shares variables with the others, so that it is no name but one side of an equation.
    Functions count as names of their own: V(s)/U(s) is a name."""

    def letters(side: str) -> set[str]:
        names = set()
        for name in read(side).atoms:
            if isinstance(name, Opaque) and name.function.startswith("call "):
                names.add(str(name))
            elif isinstance(name, Opaque):
                names.update(*(variables(argument) for argument in name.arguments))
            elif name[0] not in "#√":
                names.add(name)
        return names

    try:
        return bool(letters(sides[0]) & set().union(*(letters(side) for side in sides[1:])))
    except UndecidedError:
        return False


def _unknowns(side: str) -> bool:
    try:
        return bool(variables(read(side)))
    except UndecidedError:
        return False


def _approximate(sides: Sequence[str], again: Callable[..., Form]) -> Form:
    r"""``\approx 7`` is 7, ``x \approx 7`` too, ``\sqrt2 \approx 1.41`` is √2; ``3 \approx 7`` says two things."""
    parts = [side.strip() for side in sides]
    last: Form = again(parts[-1])
    named = [part for part in parts[:-1] if part and not _is_name(part) and not words.only_words(part)]
    if not named:
        return replace(last, name=parts[0].replace(" ", ""))
    first: Form = again(named[0])
    if first.name:
        return first  # x = 1/3 ≈ 0.33: the exact value is the answer
    if first.value is None or last.value is None:
        raise UndecidedError
    if variables(first.value) and _COMPOUND_NAME.fullmatch(named[0]):
        return last  # P(A) + P(B) ≈ 0.3
    a, b = real(first.value), real(last.value)
    if last.value.rational is None and not same(first.value, last.value):
        raise words.RefusedError  # √51 ≈ √52
    if a is None or b is None:
        raise UndecidedError
    if a != b and a.denominator == b.denominator == 1 and not variables(first.value):
        raise words.RefusedError  # 4 ≈ 5
    shares = (Fraction(1, 100), 1) if first.percent != last.percent else (1,)
    if not any(abs(a - b * share) <= abs(a) * NEAR + last.unit * share for share in shares) and not (
        last.percent and abs(a * 100 - b) <= abs(a * 100) * NEAR
    ):
        raise words.RefusedError
    return first


def up_to_factor(value: Value) -> str:
    """Normal form of the equation ``value = 0``: denominators gone, leading coefficient 1."""
    if not value.num:
        raise UndecidedError
    value = Value(value.num, ONE)
    lowest: dict[str, Number] = {}
    for monomial in value.num:
        for name, exponent in monomial:
            if exponent < lowest.get(name, 0) and not isinstance(name, Opaque):
                lowest[name] = exponent
    for name, exponent in lowest.items():
        value = multiply(value, atom(name, -exponent))
    lead = Fraction(value.num[min(value.num, key=str)])
    return Value({monomial: Fraction(x) / lead for monomial, x in value.num.items()}, ONE).canon + "=0"


_FLIP = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SIGNS = {"\\le": "<=", "\\ge": ">=", "\\lt": "<", "\\gt": ">"}


def _interval(pieces: Sequence[str], again: Callable[..., Form]) -> Form:
    """``a < x <= b`` as ``(a, b]``, ``x > a`` as ``(a, ∞)``; both sides but the variable must be values."""
    terms = [piece.strip() for piece in pieces[::2]]
    signs = [_SIGNS.get(sign, sign) for sign in pieces[1::2]]
    names = [_is_name(term) for term in terms]
    if len(terms) == 2 and not any(names):
        return _interval(_solved(terms, signs[0]), again)
    infinity = atom(INF)
    low = high = None
    if len(terms) == 3 and names == [False, True, False] and signs[0][0] == signs[1][0]:
        if signs[0][0] == ">":
            terms, signs = terms[::-1], [_FLIP[signs[1]], _FLIP[signs[0]]]
        low, high = again(terms[0]), again(terms[2])
        brackets = ("[" if "=" in signs[0] else "(") + ("]" if "=" in signs[1] else ")")
        return replace(sequence([low, high], brackets), name=terms[1], bounded=True)
    if len(terms) == 2 and names in ([True, False], [False, True]):
        sign = signs[0] if names[0] else _FLIP[signs[0]]
        bound = again(terms[1] if names[0] else terms[0])
        name = terms[0] if names[0] else terms[1]
        closed = "=" in sign
        if sign[0] == ">":
            interval = sequence([bound, Form("value", infinity.canon, infinity)], "[)" if closed else "()")
            return replace(interval, name=name, bounded=True)
        lowest = negate(infinity)
        return replace(
            sequence([Form("value", lowest.canon, lowest), bound], "(]" if closed else "()"),
            name=name,
            bounded=True,
        )
    raise UndecidedError


def _solved(terms: Sequence[str], sign: str) -> tuple[str, str, str]:
    """``-x >= -1`` as x <= 1: one variable that stands alone, times a number."""
    difference = add(read(terms[0]), negate(read(terms[1])))
    names = variables(difference)
    if len(names) != 1 or difference.den is not ONE:
        raise UndecidedError
    (name,) = names
    factor = difference.num.get(((name, 1),))
    rest = {monomial: number for monomial, number in difference.num.items() if monomial != ((name, 1),)}
    if factor is None or any(monomial for monomial in rest):
        raise UndecidedError
    bound = Fraction(-rest.get((), 0)) / Fraction(factor)
    return name, sign if factor > 0 else _FLIP[sign], str(bound)
