r"""Normal forms of final answers: the first half of the verifier's fast path, without symbolic mathematics.

``form(text)`` reads an answer as a number, an exact expression (``algebra``), a tuple or interval, an unordered
collection, a matrix, an equation, a time or words. ``Form.canon`` is equal for answers with equal meaning, as far as
understood; ``compare`` decides about two forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from cipo_eval.verifiers.math import words
from cipo_eval.verifiers.math.algebra import (
    UndecidedError,
    atom,
    constant,
)
from cipo_eval.verifiers.math.commas import Commas, joined
from cipo_eval.verifiers.math.forms import (
    MAX_ITEMS,
    UNKNOWN,
    Form,
    everything,
    number,
    sequence,
    unordered,
    without_points,
)
from cipo_eval.verifiers.math.latex import OPEN, ROW, clean, split_top, unbraced
from cipo_eval.verifiers.math.phrases import PLAIN_WORDS, math_word, phrase, said_in_words
from cipo_eval.verifiers.math.reader import readings
from cipo_eval.verifiers.math.relations import BOTH, MEMBER, MODULUS, intersection, relation, residue
from cipo_eval.verifiers.math.units import without_units
from cipo_eval.verifiers.math.wordnumber import in_words

MAX_LENGTH = 600
"""Longer answers are left to be compared as text."""
_BASE = re.compile(
    r"\(?([0-9][0-9A-Fa-f]{0,98})\)?_\{?\(?\s*(?:base\s*)?([0-9]{1,2}|[a-z]{3,8}|[a-z])\)?\s*\}?"
)
_MATRIX = re.compile(r"\\begin\{((?:p|b|v|small)?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_CHOICE = re.compile(r"\(\s?([A-H])\s?\)|([A-H])[.)]?")
_CHOICE_PREFIX = re.compile(r"(?:\(([A-H])\)|([A-H])(?:[.)](?=\s)|\)))\s*(?=[-.\d\\({]|[a-z](?![A-Za-z]))")
_INNER_UNITS = re.compile("\\s*\ue001[^\ue002]*\ue002(?=\\s*\\})")
_POINT = re.compile(r"[A-Z]'?\s*\(")
_HALF_LINE = re.compile(
    r"\\mathbb\s*\{?R\s*\}?\s*(?:\^\s*\{?\s*\+\s*\}?|_\s*\{\s*(?:>=?|\\ge)\s*0\s*\}|_\s*\{?\s*\+\s*\}?)"
)
"""The positive real numbers, and those that are not negative."""
_TURNED = re.compile(r"([\[\]])([^\[\]()]{1,80}[,;][^\[\]()]{1,80})([\[\]])")


def _turned_back(match: re.Match[str]) -> str:
    """``]2, 5[`` is the open interval (2, 5)."""
    return f"{'(' if match[1] == ']' else '['}{match[2]}{')' if match[3] == '[' else ']'}"


@lru_cache(maxsize=8192)
def form(
    text: str, *, units: bool = False, several: bool = False, unit: str = "", commas: Commas = Commas.AUTO
) -> Form:
    """Reads an answer. ``units``: unit letters after a number are ignored (Minerva); ``several``: the problem has
    several answers, so a comma separates; ``unit``: the problem's own unit; ``commas``: how digits with commas are
    read. Never raises."""
    if len(text) > MAX_LENGTH:
        return UNKNOWN
    bare = text.strip()
    if bare.isascii() and bare.isdigit() and len(bare) <= 400:
        return Form("value", str(int(bare)), constant(int(bare)))
    try:
        cleaned = clean(text)
        if unit:
            cleaned = _without_unit(cleaned, unit)
        if cleaned[:1] == "]" or cleaned[-1:] == "[" or "cup" in cleaned:
            cleaned = _TURNED.sub(_turned_back, cleaned)
        cleaned = joined(cleaned, Commas.SPLIT if several else commas)
        result = _whole(cleaned, units=units, several=several)
    except words.RefusedError:
        return Form("refused", text_key(text))
    except (UndecidedError, RecursionError, ValueError, ArithmeticError, IndexError):
        result = UNKNOWN
    if result.kind == "unknown":
        return Form("unknown", text_key(text))
    return result


@lru_cache(maxsize=8192)
def text_key(text: str) -> str:
    """The canonical string of what is not understood: cleaned, without spaces."""
    if len(text) > MAX_LENGTH:
        return text.strip()
    try:
        return _SPACE.sub("", words.plain(clean(text)))
    except UndecidedError:
        return _SPACE.sub("", text)


_SPACE = re.compile(r"(?<![0-9])\s+|\s+(?![0-9\s])")
"""All spaces but those between digits."""


def _without_unit(text: str, unit: str) -> str:
    """``text`` without the problem's own unit at its end."""
    unit_text = re.sub(r"[\s${}]", "", unit).replace("^\\circ", "")
    if not unit_text:
        return text
    plain = text.rstrip().rstrip("\ue002").rstrip()
    number_part = re.sub(r"\s*\ue001?\s*" + re.escape(unit_text) + r"s?(?:\^\{?\d\}?)?$", "", plain)
    return number_part.rstrip() or text if number_part != plain else text


def _whole(cleaned: str, *, units: bool, several: bool) -> Form:
    """The form of a whole answer: what is said in words first, then what stands beside side conditions."""
    bare = words.plain(cleaned).strip() if OPEN in cleaned else cleaned
    if result := phrase(cleaned, bare):
        return result
    if words.only_words(cleaned) and bare != "\\infty":
        return said_in_words(bare)
    if bare == "\\infty":
        cleaned = bare
    if both := BOTH.fullmatch(cleaned):
        sides = [_read(side, units=units, several=several, depth=1) for side in both.groups()]
        if meeting := intersection(sides):
            return meeting
    statement = words.statement(cleaned)
    result = _read(statement.text, units=units, several=several, depth=0)
    return replace(result, condition=statement.condition) if statement.condition else result


def _read(text: str, *, units: bool, several: bool, depth: int) -> Form:
    text = unbraced(text)
    if depth > 6 or not text:
        raise UndecidedError
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    if result := number(text):
        return replace(result, percent=percent) if percent else result
    if text[-1:] == "°" and (result := number(text[:-1].rstrip())):
        return replace(result, measure="degrees")
    if "\\begin" in text:
        return _matrix(text, depth)
    if (match := _BASE.fullmatch(text)) and (result := _in_base(match[1], match[2])):
        return result
    result = _structure(text, units, several, depth)
    return replace(result, percent=True) if percent and result.kind == "value" else result


def _in_base(digits: str, base: str) -> Form | None:
    """``2A7_{16}``, ``1101_{\\text{two}}``; None where the digits are none of that base's."""
    if len(base) == 1 and base.isalpha():
        return Form("base", f"{digits}_{base}") if len(digits) > 1 and digits.isdigit() else None
    size = int(base) if base.isdigit() else in_words(base) or 0
    if not 2 <= size <= 36 or not all(int(digit, 36) < size for digit in digits):
        return None
    return Form("base", f"{digits.upper().lstrip('0') or '0'}_{size}")


_RELATION_SIGNS = ("=", "<", ">", "\\le", "\\ge", "\\approx", "\\sim", "\\equiv", "\\ne", "\\lt", "\\gt")


def _structure(text: str, units: bool, several: bool, depth: int) -> Form:
    """The form of a text by its outermost structure: a list, a relation, a set, a union, or one expression."""

    def again(part: str, *, more: bool = False) -> Form:
        return _read(part, units=units, several=more, depth=depth + 1)

    if text in ("...", "\\ldots"):
        return Form("words", "...")
    if text in ("\\mathbb{R}", "\\mathbb R", "\\R"):
        return everything()
    if _HALF_LINE.fullmatch(text):
        ends = [again("0"), everything().items[1]]
        return sequence(ends, "[)" if "ge" in text or ">=" in text else "()")
    if match := _CHOICE.fullmatch(text):
        letter = match[1] or match[2]
        return Form("value", letter, atom(letter), choice=letter)
    if match := _CHOICE_PREFIX.match(text):
        return replace(again(text[match.end() :]), choice=match[1] or match[2])
    if PLAIN_WORDS.fullmatch(text) and not math_word(text):
        return said_in_words(text)
    text = re.sub(r"(?<=[)\]}])\s*\^\s*(?:\{\s*(?:T|\\top|\\intercal)\s*\}|T|\\top)\s*$", "", text)
    parts = split_top(text, ",;")
    if len(parts) > 1:
        return _collection(parts, again)
    if (match := _POINT.match(text)) and text[-1] == ")" and len(split_top(text[match.end() : -1], ",")) > 1:
        return again(text[match.end() - 1 :])  # P(1, 2)
    if OPEN in text:
        if words.only_words(text):
            return said_in_words(words.plain(text))
        rest, lead = words.led(text)
        if rest != text:
            result = again(rest, more=several)
            return (
                replace(result, name=lead.lower()) if lead and ":" in text + "=" and _labels(text) else result
            )
    if ("\\p" in text or "mod" in text) and (match := MODULUS.search(text)):
        return residue(text[: match.start()], next(g for g in match.groups() if g), again)
    if (
        text.startswith("\\{")
        and text.endswith("\\}")
        and "\\{" not in text[2:]
        and (built := _BUILT.fullmatch(text[2:-2]))
    ):
        return again(built[2])
    if any(sign in text for sign in _RELATION_SIGNS):
        return relation(text, again)
    if match := MEMBER.match(text):
        return again(text[match.end() :], more=several)
    if match := _REALS_BUT.fullmatch(text):
        return without_points([again(part) for part in split_top(match[1], ",")])
    pieces = re.split(r"\\cup(?![A-Za-z])", text)
    if len(pieces) > 1:
        return unordered([again(piece) for piece in pieces])
    if bracketed := _bracketed(text, again):
        return bracketed
    if "\\pm" in text or "\\mp" in text:
        return _plus_minus(text, again)
    if ":" in text:
        sides = text.split(":")
        return sequence([again(side) for side in sides], "::")
    return _expression(text, units, again)


def _labels(text: str) -> bool:
    """Whether the words before a value are a label, ``Rayna: 7``."""
    return bool(re.match(r"\s*\ue001[^\ue002]*\ue002\s*[:=]", text))


def _expression(text: str, units: bool, again: Callable[..., Form]) -> Form:
    measure = ""
    if OPEN in text:
        text, measure = words.measured(text)
        text = _INNER_UNITS.sub("", text) if "\\frac" in text else text
        if OPEN in text:
            raise UndecidedError
        if measure:
            return replace(again(text), measure=measure)
    stripped, letters = without_units(text, letters=units)
    if stripped != text:
        if result := number(joined(stripped, Commas.JOIN)):
            return replace(result, measure=letters)
        text = stripped
    if "°" in text and "\\" not in text and "sin" not in text and "cos" not in text and "tan" not in text:
        text, letters = text.replace("°", ""), letters or "degrees"
    value, other = readings(text)
    return Form("value", value.canon, value, other=other, measure=letters)


def _collection(parts: Sequence[str], again: Callable[..., Form]) -> Form:
    """Top-level commas: an unordered collection, in which ``x = 1, 2`` names the first only."""
    if len(parts) > MAX_ITEMS:
        raise UndecidedError
    items = [again(part) for part in parts if part.strip()]
    names = [item.name for item in items]
    width = len(set(names))
    if all(names) and 1 < width < len(names) and names == names[:width] * (len(names) // width):
        # p=5, q=2, p=7, q=2 is a list of pairs
        items = [sequence(items[at : at + width], "()") for at in range(0, len(items), width)]
    return unordered(items)


_BUILT = re.compile(
    r"\s*[A-Za-z]\s*(\\in\s*(?:\\mathbb\s*\{?R\}?|\\R))?\s*(?:\\mid(?![A-Za-z])|\||:)\s*([^|:]*[<>]?[^|:]*)",
    re.DOTALL,
)
"""{x | x > 3}; over the reals only."""


def _bracketed(text: str, again: Callable[..., Form]) -> Form | None:
    """A tuple, an interval, a set in braces, or a bracket around everything; None for an ordinary expression."""
    if text.startswith("\\{") and text.endswith("\\}"):
        inner = text[2:-2].strip()
        if not inner:
            return Form("set", "{}")
        if "\\mid" in inner or "|" in inner or ":" in inner:
            raise UndecidedError
        result: Form = again(inner, more=True)
        if result.kind == "set" and result.items:
            return replace(result, brackets="{}")
        return Form("set", "{" + result.canon + "}", items=(result,), brackets="{}")
    if text == "\\emptyset":
        return Form("set", "{}")
    if text[0] not in "([{" or text[-1] not in ")]}":
        return None
    if len(split_top(text[1:-1], "", closed=True)) == 0:
        return None  # the first bracket does not match the last one
    inner = text[1:-1]
    if text[0] == "{" and text[-1] == "}":
        return again(inner, more=True)
    parts = split_top(inner, ",;")
    if len(parts) == 1:
        if (
            text[0] == "("
            and text[-1] == ")"
            and ("=" in inner or "\\pm" in inner or number(inner.strip()) or _BASE.fullmatch(inner.strip()))
        ):
            return again(inner)
        return None
    return sequence([again(part) for part in parts], text[0] + text[-1])


def _plus_minus(text: str, again: Callable[..., Form]) -> Form:
    if len(re.findall(r"\\pm", text)) != 1:
        raise UndecidedError
    plus = again(text.replace("\\pm", "+").replace("\\mp", "-"))
    minus = again(text.replace("\\pm", "-").replace("\\mp", "+"))
    return unordered([plus, minus])


def _matrix(text: str, depth: int) -> Form:
    name = ""
    if match := re.match(
        r"\s*([A-Za-z]|\\?[A-Za-z]+(?:_\w)?|\\mathbf\{[A-Za-z]\})\s*=\s*(?=\\begin|[(\[]\s*\\begin)", text
    ):
        name, text = match[1], text[match.end() :]
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
        sequence([_read(cell, units=False, several=False, depth=depth + 1) for cell in row], "[]")
        for row in rows
    ]
    canon = kind + "[" + ",".join(line.canon for line in lines) + "]"
    return Form("matrix", canon, items=tuple(lines), name=name)


_REALS_BUT = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?\s*(?:\\setminus|\\backslash|-|\\)\s*\\\{(.*)\\\}")
