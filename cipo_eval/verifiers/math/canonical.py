r"""Normal forms of final answers: the first half of the verifier's fast path, without symbolic mathematics.

``form(text)`` reads an answer as a number, an exact expression (``algebra``), a tuple or interval, an unordered
collection, a matrix, an equation or words. ``Form.canon`` is equal for answers with equal meaning, as far as
understood; ``compare`` decides about two forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from cipo_eval.verifiers.math.algebra import (
    INF,
    ONE,
    Number,
    UndecidedError,
    Value,
    add,
    atom,
    constant,
    negate,
)
from cipo_eval.verifiers.math.latex import ROW, clean, split_top, strip_units
from cipo_eval.verifiers.math.reader import read, read_number

MAX_LENGTH = 600
"""Longer answers are left to be compared as text."""
MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer says."""

    kind: str
    """``value``, ``tuple``, ``set``, ``matrix``, ``equation``, ``relation``, ``base``, ``words`` or ``unknown``."""
    canon: str
    value: Value | None = None
    items: tuple[Form, ...] = ()
    brackets: str = ""
    """Of a tuple: ``()``, ``[]``, ``(]`` or ``[)``."""
    digits: int | None = None
    """Significant digits of a number written as a decimal or in e-notation; None where it is written exactly."""
    unit: Fraction = Fraction(0)
    """Place value of its last written digit."""
    percent: bool = False
    name: str = ""
    """Left side of ``x = 5``."""
    choice: str = ""
    """Letter of ``(B) 27``."""


UNKNOWN = Form("unknown", "")

# --- numbers ------------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?\d{1,400}")
_DECIMAL = re.compile(r"([-+]?)(\d*)\.(\d*)")
_SCIENTIFIC = re.compile(r"([-+]?)(\d*)\.?(\d*)(?:[eE]|\*10\^|\*10\*\*)\{?\(?([-+]?\d{1,4})\)?\}?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_FRACTION = re.compile(r"([-+]?)(?:\\frac\{(-?\d{1,99})\}\{(-?\d{1,99})\}|(\d{1,99})/(\d{1,99}))")
_MIXED = re.compile(r"([-+]?)(\d{1,99})(?: ?\\frac\{(\d{1,99})\}\{(\d{1,99})\}| (\d{1,99})/(\d{1,99}))")
_BASE = re.compile(r"(\d{1,99})_\{?\(?(\d{1,2})\)?\}?")


def _number(text: str) -> Form | None:
    """A number in one of its usual writings, or None. ``text`` is clean."""
    if _INTEGER.fullmatch(text):
        value = int(text)
        return Form("value", str(value), constant(value))
    if match := _DECIMAL.fullmatch(text):
        sign, whole, decimals = match.groups()
        if (not whole and not decimals) or len(text) > 400:
            return None
        return _decimal(sign, whole, decimals, 0)
    if match := _SCIENTIFIC.fullmatch(text):
        sign, whole, decimals, exponent = match.groups()
        if (whole or decimals) and abs(int(exponent)) <= 1000 and len(text) <= 400:
            return _decimal(sign, whole, decimals, int(exponent))
        return None
    if match := _FRACTION.fullmatch(text):
        sign = -1 if match[1] == "-" else 1
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        return _exact(Fraction(sign * top, bottom)) if bottom else None
    if match := _MIXED.fullmatch(text):
        top, bottom = int(match[3] or match[5]), int(match[4] or match[6])
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


# --- structures ---------------------------------------------------------------------------------------------------

_MATRIX = re.compile(r"\\begin\{((?:p|b|v|small)?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z]{2,20}'?(?:[ -][A-Za-z']{1,20}){0,30}\.?")
_ARTICLES = re.compile(r"\b(?:the|a|an)\b\s*")
_MATH_WORDS = frozenset({"pi", "sqrt", "sin", "cos", "tan", "ln", "log", "e", "i", "inf", "infinity"})
_NAME = re.compile(
    r"\\?[A-Za-z]{1,12}(?:_(?:\{[^{}]{1,20}\}|\w))?'{0,3}(?:\([A-Za-z0-9, ]{1,12}\))?|\\?[A-Z]{1,4}[A-Z_\d{}]{0,6}"
    r"|\([A-Za-z](?:,\s?[A-Za-z])*\)|\\(?:angle|frac|triangle)[\s{}A-Za-z_\d]{1,30}"
    r"|[A-Za-z]_?\{?\d?\}?:[A-Za-z]_?\{?\d?\}?|\|[A-Z]{1,3}\|"
)
_CHOICE = re.compile(r"\(?([A-H])\)?")
_CHOICE_PREFIX = re.compile(r"\(([A-H])\)\s*(?=[-\d\\(])")
_RELATION = re.compile(r"(<=|>=|<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\lt(?![A-Za-z])|\\gt(?![A-Za-z]))")
_MEMBER = re.compile(r"^\\?[A-Za-z](?:_\{?\w\}?)?\s*(?:\\in(?![A-Za-z])|∈|:)\s*")
_APPROX = re.compile(r"\\approx|≈|\\simeq|\\doteq|\\sim(?![A-Za-z])")


@lru_cache(maxsize=8192)
def form(text: str, *, units: bool = False, several: bool = False, unit: str = "") -> Form:
    """Reads an answer. ``units``: unit letters after a number are ignored (Minerva); ``several``: the problem has
    several answers, so a comma separates; ``unit``: the problem's own unit. Never raises."""
    if len(text) > MAX_LENGTH:
        return UNKNOWN
    bare = text.strip()
    if bare.isascii() and bare.isdigit() and len(bare) <= 400:
        return Form("value", str(int(bare)), constant(int(bare)))
    try:
        cleaned = clean(text)
        if unit:
            cleaned = _without_unit(cleaned, unit)
        found = _read(cleaned, units=units, several=several, depth=0)
    except (UndecidedError, RecursionError, ValueError, ArithmeticError, IndexError):
        found = UNKNOWN
    if found.kind == "unknown":
        return Form("unknown", text_key(text))
    return found


@lru_cache(maxsize=8192)
def text_key(text: str) -> str:
    """The canonical string of what is not understood: cleaned, without spaces."""
    if len(text) > MAX_LENGTH:
        return text.strip()
    try:
        return re.sub(r"\s+", "", clean(text))
    except UndecidedError:
        return re.sub(r"\s+", "", text)


def _without_unit(text: str, unit: str) -> str:
    own = re.sub(r"[\s${}]", "", unit).replace("^\\circ", "")
    if not own:
        return text
    return re.sub(re.escape(own) + r"(?:\^\{?\d\}?)?$", "", text.rstrip()).rstrip() or text


def _read(text: str, *, units: bool, several: bool, depth: int) -> Form:
    text = text.strip()
    if depth > 4 or not text:
        raise UndecidedError
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    if found := _number(text):
        return replace(found, percent=percent) if percent else found
    if _THOUSANDS.fullmatch(text) and not several:
        found = _number(text.replace(",", ""))
        return replace(found, percent=percent) if found else UNKNOWN
    if "\\begin" in text:
        return _matrix(text, depth)
    if match := _BASE.fullmatch(text):
        return Form("base", f"{match[1].lstrip('0') or '0'}_{match[2]}")
    found = _structure(text, units, several, depth)
    return replace(found, percent=True) if percent and found.kind == "value" else found


def _structure(text: str, units: bool, several: bool, depth: int) -> Form:
    def again(part: str, *, more: bool = False) -> Form:
        return _read(part, units=units, several=more, depth=depth + 1)

    if match := _CHOICE.fullmatch(text):
        return Form("value", match[1], atom(match[1]), choice=match[1])
    if match := _CHOICE_PREFIX.match(text):
        return replace(again(text[match.end() :]), choice=match[1])
    if _WORDS.fullmatch(text) and not _math_word(text):
        words = _ARTICLES.sub("", text.lower().rstrip(".")).strip()
        return Form("words", " ".join(words.split()))
    parts = split_top(text, ",;")
    if len(parts) > 1:
        return _collection(parts, again)
    if "=" in text or "<" in text or ">" in text or "\\le" in text or "\\ge" in text or _APPROX.search(text):
        return _relation(text, again)
    if match := _MEMBER.match(text):
        return again(text[match.end() :], more=several)
    pieces = re.split(r"\\cup(?![A-Za-z])|∪", text)
    if len(pieces) > 1:
        return _unordered([again(piece) for piece in pieces])
    if found := _bracketed(text, again):
        return found
    if "\\pm" in text or "\\mp" in text or "±" in text:
        return _plus_minus(text, again)
    if ":" in text:
        sides = text.split(":")
        return _sequence([again(side) for side in sides], "::")
    return _expression(text, units)


def _math_word(text: str) -> bool:
    letters = text.replace(" ", "")
    return (
        len(letters) <= 3
        and not text.isupper()
        and " " not in text
        and letters not in ("yes", "no", "odd", "all")
    ) or letters in _MATH_WORDS


def _expression(text: str, units: bool) -> Form:
    stripped = strip_units(text, letters=units)
    if stripped != text:
        if found := _number(stripped.replace(",", "") if _THOUSANDS.fullmatch(stripped) else stripped):
            return found
        text = stripped
    value = read(text)
    return Form("value", value.canon, value)


def _collection(parts: Sequence[str], again: Callable[..., Form]) -> Form:
    """Top-level commas: an unordered collection, in which ``x = 1, 2`` names the first only."""
    if len(parts) > MAX_ITEMS:
        raise UndecidedError
    items = [again(part) for part in parts if part.strip()]
    names = [item.name for item in items]
    width = len(set(names))
    if all(names) and 1 < width < len(names) and names == names[:width] * (len(names) // width):
        # p=5, q=2, p=7, q=2 is a list of pairs
        items = [_sequence(items[at : at + width], "()") for at in range(0, len(items), width)]
    return _unordered(items)


def _unordered(items: Sequence[Form]) -> Form:
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


def _sequence(items: Sequence[Form], brackets: str) -> Form:
    canon = brackets[0] + ", ".join(item.canon for item in items) + brackets[1]
    return Form("tuple", canon, items=tuple(items), brackets=brackets)


def _bracketed(text: str, again: Callable[..., Form]) -> Form | None:
    """A tuple, an interval, a set in braces, or a bracket around everything; None for an ordinary expression."""
    if text.startswith("\\{") and text.endswith("\\}"):
        inner = text[2:-2].strip()
        if not inner:
            return Form("set", "{}")
        if "\\mid" in inner or "|" in inner or ":" in inner:
            raise UndecidedError
        found: Form = again(inner, more=True)
        return found if found.kind == "set" else Form("set", "{" + found.canon + "}", items=(found,))
    if text[0] not in "([{" or text[-1] not in ")]}":
        return None
    if len(split_top(text[1:-1], "", closed=True)) == 0:
        return None  # the first bracket does not match the last one
    inner = text[1:-1]
    if text[0] == "{" and text[-1] == "}":
        return again(inner, more=True)
    parts = split_top(inner, ",;")
    if len(parts) == 1:
        if text[0] == "(" and text[-1] == ")" and ("=" in inner or "\\pm" in inner):
            return again(inner)
        return None
    return _sequence([again(part) for part in parts], text[0] + text[-1])


def _plus_minus(text: str, again: Callable[..., Form]) -> Form:
    text = text.replace("±", "\\pm").replace("∓", "\\mp")
    if len(re.findall(r"\\pm", text)) != 1:
        raise UndecidedError
    plus = again(text.replace("\\pm", "+").replace("\\mp", "-"))
    minus = again(text.replace("\\pm", "-").replace("\\mp", "+"))
    return _unordered([plus, minus])


def _matrix(text: str, depth: int) -> Form:
    while text[0] in "([{" and text[-1] in ")]}":
        text = text[1:-1].strip()
    match = _MATRIX.fullmatch(text)
    if not match or "\\begin" in match[2]:
        raise UndecidedError
    rows = [row.split("&") for row in match[2].split(ROW) if row.strip()]
    if not rows or len(rows) * max(map(len, rows)) > MAX_ITEMS:
        raise UndecidedError
    kind = "det" if match[1] == "vmatrix" else ""
    lines = [
        _sequence([_read(cell, units=False, several=False, depth=depth + 1) for cell in row], "[]")
        for row in rows
    ]
    return Form("matrix", kind + "[" + ",".join(line.canon for line in lines) + "]", items=tuple(lines))


# --- equations and inequalities -----------------------------------------------------------------------------------


def _relation(text: str, again: Callable[..., Form]) -> Form:
    """``x = 5`` is 5 with a name; an equation becomes its polynomial up to a factor; an inequality an interval."""
    approximate = _APPROX.split(text)
    if len(approximate) > 1:
        exact = approximate[0].strip()
        return again(approximate[1]) if _NAME.fullmatch(exact) else again(exact)
    if match := _MEMBER.match(text):
        return again(text[match.end() :])
    if _RELATION.search(text) and "=" not in text.replace("<=", "").replace(">=", ""):
        return _interval(_RELATION.split(text), again)
    if _RELATION.search(text) or "\\ne" in text or "!=" in text:
        raise UndecidedError
    sides = [side.strip() for side in split_top(text, "=")]
    if len(sides) < 2 or not all(sides):
        raise UndecidedError
    if _NAME.fullmatch(sides[0]) and not _number(sides[0]):
        found: Form = again(sides[-1])
        return replace(found, name=sides[0].replace(" ", ""))
    if len(sides) > 2:
        raise UndecidedError
    left, right = read(sides[0]), read(sides[1])
    difference = add(left, negate(right))
    return Form("equation", up_to_factor(difference), difference)


def up_to_factor(value: Value) -> str:
    """Normal form of the equation ``value = 0``: denominators gone, leading coefficient 1."""
    if not value.num:
        raise UndecidedError
    lead = Fraction(value.num[min(value.num, key=str)])
    return Value({monomial: Fraction(x) / lead for monomial, x in value.num.items()}, ONE).canon + "=0"


_FLIP = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SIGNS = {"\\le": "<=", "\\ge": ">=", "\\lt": "<", "\\gt": ">"}


def _interval(pieces: Sequence[str], again: Callable[..., Form]) -> Form:
    """``a < x <= b`` as ``(a, b]``, ``x > a`` as ``(a, ∞)``; both sides but the variable must be values."""
    terms = [piece.strip() for piece in pieces[::2]]
    signs = [_SIGNS.get(sign, sign) for sign in pieces[1::2]]
    names = [bool(_NAME.fullmatch(term)) and not _number(term) for term in terms]
    infinity = atom(INF)
    low = high = None
    if len(terms) == 3 and names == [False, True, False] and signs[0][0] == signs[1][0]:
        if signs[0][0] == ">":
            terms, signs = terms[::-1], [_FLIP[signs[1]], _FLIP[signs[0]]]
        low, high = again(terms[0]), again(terms[2])
        return _sequence([low, high], ("[" if "=" in signs[0] else "(") + ("]" if "=" in signs[1] else ")"))
    if len(terms) == 2 and names in ([True, False], [False, True]):
        sign = signs[0] if names[0] else _FLIP[signs[0]]
        bound = again(terms[1] if names[0] else terms[0])
        closed = "=" in sign
        if sign[0] == ">":
            return _sequence([bound, Form("value", infinity.canon, infinity)], "[)" if closed else "()")
        lowest = negate(infinity)
        return _sequence([Form("value", lowest.canon, lowest), bound], "(]" if closed else "()")
    raise UndecidedError
