"""Reads golds as the data sets write them into trees. What it does not know for certain is ``Opaque``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from .tree import (
    Based,
    Call,
    Choice,
    Clock,
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
    Root,
    Scientific,
    Sum,
    Union,
    Words,
    is_expression,
    negative,
)

FUNCTIONS = (
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "ln",
    "log",
)
GREEK = (
    "alpha", "beta", "gamma", "theta", "lambda", "mu", "omega", "rho", "sigma", "tau", "phi", "zeta",
    "infty", "pi",
)  # fmt: skip


class NotReadError(Exception):
    """The gold is not in the small language of this reader."""


def read(gold: str, options: Mapping[str, Any] | None = None) -> Node:
    """The tree of a gold; ``Opaque`` where it is not read with certainty."""
    options = options or {}
    text = _clean(gold)
    try:
        return _answer(text, options)
    except (NotReadError, IndexError, ValueError):
        return Opaque(gold)


def _clean(text: str) -> str:
    text = text.replace("$,$", ",").replace("$, $", ",").replace("\\\\", "\x02")
    text = re.sub(r"(?<!\\)\$", "", text).strip()
    text = re.sub(
        r"\\(?:left|right|displaystyle|quad|limits)(?![A-Za-z])|\\[!,;: ]|~", lambda m: _spacing(m[0]), text
    )
    text = text.replace("\\mbox", "\\text").replace("\\text ", "\\text")
    text = re.sub(r"\\(?:dfrac|tfrac|cfrac)", r"\\frac", text)
    text = text.replace("{,}", "").replace("\n", " ").strip()
    if text.endswith(".") and not text.endswith("m."):
        text = text[:-1]
    text = re.sub(r"(\w)\.(\s*\})$", r"\1\2", text) if re.search(r"ways\.\}$", text) else text
    return re.sub(r"\s+", " ", text).strip()


def _spacing(command: str) -> str:
    return "\x01" if command == "\\!" else "" if command in ("\\left", "\\right") else " "


# --- whole answers ------------------------------------------------------------------------------------------------

_CHOICE = re.compile(r"\\text(?:bf)?\{\s*\(?([A-F])\)?\s*\}|\(\\text\{([A-F])\}\)")
_WORDS = re.compile(r"\\text\{\s*([A-Za-z]{2,}(?: [A-Za-z]+)*)\s*\}")
_BARE_WORD = re.compile(r"[a-z]{4,}")
_WORD_LIKE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:arc)?(?:sin|cos|tan)|infty)[A-Za-z]{4,}|\d ?(?:in|ft|cm|mm|km|kg|lb|oz)\b"
)
"""Letters that are a name or a unit rather than a product of variables."""
_CLOCK = re.compile(
    r"(?:\\text\{)?\s*(\d{1,2})(?::(\d\d))?(?:\\text\{)?\s*([ap])\.?m\.?\s*\}?", re.IGNORECASE
)
_UNIT = re.compile(r"(.*?)\s*\\text\{\s*([A-Za-z][A-Za-z ]*?)\s*\}(?:\^\{?\d\}?)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:, ?\x01 ?\d{3})+(?:\.\d+)?")
_PLAIN_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_BASE = re.compile(r"(\d[\dA-F]*)_\{?(\d{1,2})\}?")
_NAMED = re.compile(r"([A-Za-z]|[fgp]\([a-z]\)|f\(n\)) ?(?:=|\\in) ?(.+)")


def _answer(text: str, options: Mapping[str, Any]) -> Node:
    if match := _CHOICE.fullmatch(text):
        return Choice(match[1] or match[2])
    if _BARE_WORD.fullmatch(text) and not text.startswith(FUNCTIONS):
        return Words(text)
    if _WORD_LIKE.search(re.sub(r"\\[a-z]+\{[A-Za-z. ]*\}", "", text)):
        raise NotReadError
    if match := re.fullmatch(r"(\d+) ?: ?(\d+)", text):
        return Items("ratio", (Number(match[1]), Number(match[2])))
    if match := re.fullmatch(r"\\text\{([A-H](?:, ?[A-H])+)\}", text):
        return Items("letters", tuple(Choice(x.strip()) for x in match[1].split(",")))
    if match := _CLOCK.fullmatch(text):
        return Clock(int(match[1]), None if match[2] is None else int(match[2]), match[3].lower())
    if match := _WORDS.fullmatch(text):
        return Words(match[1])
    if _THOUSANDS.fullmatch(text.removeprefix("\\$").strip()) and not options.get("multiple"):
        bare = Number(re.sub(r"[^0-9.]", "", text))
        return Marked("money", bare) if text.startswith("\\$") else bare
    if _PLAIN_THOUSANDS.fullmatch(text) and not options.get("multiple"):
        raise NotReadError("a number, or a list of numbers")
    text = re.sub(r",? ?\\text\{ ?and ?\}", ",", text.replace("\x01", ""))
    if text.startswith("-\\$"):
        return Marked("money", negative(_expression(text[3:], options)))
    if text.startswith("\\$"):
        return Marked("money", _expression(text[2:], options))
    if match := re.fullmatch(r"(.*?)\s*\\?%", text):
        return Marked("percent", _expression(match[1], options))
    if match := re.fullmatch(r"([^a-z]*?)\^ ?\{?\\circ\}?", text):
        return Marked("degree", _expression(match[1], options))
    if (match := _UNIT.fullmatch(text)) and not re.search(r"\\text|\band\b", match[1]):
        unit = text[len(match[1]) :].strip()
        return Marked("degree" if match[2] == "degrees" else "unit", _expression(match[1], options), unit)
    return _structure(text, options)


def _structure(text: str, options: Mapping[str, Any]) -> Node:
    parts = [part.strip() for part in _split(text, ",")]
    if len(parts) > 1:
        return Items("list", tuple(_item(part, options) for part in parts))
    if re.search(r"\\cup", text):
        return Union(tuple(_structure(part.strip(), options) for part in _split(text, "\\cup")))
    if match := _NAMED.fullmatch(text):
        return Named(match[1], _structure(match[2].strip(), options))
    if match := _BASE.fullmatch(text):
        return Based(match[1], int(match[2]))
    if re.search(r"=|<|>|\\le|\\ge|\\ne|\\in(?!f)|\\equiv|\\approx", text):
        raise NotReadError(text)
    if match := re.fullmatch(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", text):
        rows = [row for row in match[1].split("\x02") if row.strip()]
        return Matrix(tuple(tuple(_expression(x, options) for x in row.split("&")) for row in rows))
    if text.startswith("\\{") and text.endswith("\\}"):
        return Items("set", tuple(_item(x, options) for x in _split(text[2:-2], ",")))
    if text[0] in "([" and text[-1] in ")]" and _closes_at_end(text):
        inside = _split(text[1:-1], ",")
        if len(inside) > 1:
            return _bracketed(text[0], [_expression(x, options) for x in inside], text[-1], options)
    if "\\pm" in text:
        return Items("list", (_expression(text.replace("\\pm", "+", 1).lstrip("+ "), options),
                              _expression(text.replace("\\pm", "-", 1), options)))  # fmt: skip
    return _expression(text, options)


def _item(text: str, options: Mapping[str, Any]) -> Node:
    text = re.sub(r"\^ ?\{?\\circ\}?$", "", text.strip())
    if "\\text" in text:
        raise NotReadError(text)
    return _structure(text, options)


def _bracketed(left: str, items: list[Node], right: str, options: Mapping[str, Any]) -> Node:
    infinite = any(isinstance(x, Name | Sum) and "\\infty" in repr(x) for x in items)
    if len(items) == 2 and (left + right != "()" or infinite or options.get("answer_type") == "Interval"):
        return Interval(left, items[0], items[1], right)
    if left + right != "()":
        raise NotReadError("brackets")
    return Items("tuple", tuple(items))


def _closes_at_end(text: str) -> bool:
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and i < len(text) - 1:
            return False
    return depth == 0


def _split(text: str, separator: str) -> list[str]:
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i])
            i += len(separator)
            start = i
            continue
        i += 1
    return [*parts, text[start:]]


# --- expressions --------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\d+(?:\.\d+)?e[-+]?\d+|\d+\.\d*|\.\d+|\d+|\\[A-Za-z]+|\\[{}]|[A-Za-z]|[-+*/^_!(){}\[\]]"
)


def _expression(text: str, options: Mapping[str, Any]) -> Node:
    text = text.strip()
    position, tokens = 0, []
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotReadError(text)
        tokens.append(match[0])
        position = match.end()
    if not tokens:
        raise NotReadError(text)
    return _Parser(tokens, mixed=options.get("units") != "skip").whole()


class _Parser:
    """Recursive descent over the tokens of an expression."""

    def __init__(self, tokens: list[str], *, mixed: bool) -> None:
        self.tokens, self.at, self.mixed = [*tokens, ""], 0, mixed

    @property
    def next(self) -> str:
        return self.tokens[self.at]

    def take(self, *wanted: str) -> str:
        token = self.next
        if wanted and token not in wanted:
            raise NotReadError(f"{token!r} instead of {wanted}")
        self.at += 1
        return token

    def whole(self) -> Node:
        found = self.sum()
        if self.next:
            raise NotReadError(self.next)
        return found

    def sum(self) -> Node:
        terms: list[tuple[int, Node]] = []
        sign = 1
        if self.next in ("-", "+"):
            sign = -1 if self.take() == "-" else 1
        terms.append((sign, self.product()))
        while self.next in ("-", "+"):
            sign = -1 if self.take() == "-" else 1
            terms.append((sign, self.product()))
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else Sum(tuple(terms))

    def product(self) -> Node:
        factors = [self.power()]
        while True:
            if self.next in ("*", "\\cdot", "\\times"):
                self.take()
                factors.append(self.power())
            elif self.next == "/":
                self.take()
                factors = [Quotient(_times(factors), self.power())]
                if self.starts():
                    raise NotReadError("a/b c")
            elif self.starts():
                factors.append(self.power())
            else:
                break
        return self.joined(factors)

    def joined(self, factors: list[Node]) -> Node:
        for i, (left, right) in enumerate(itertools.pairwise(factors)):
            if isinstance(left, Number) and isinstance(right, Quotient) and i == 0:
                if not self.mixed or not (isinstance(right.top, Number) and isinstance(right.bottom, Number)):
                    raise NotReadError("a number before a fraction")
                top, bottom = int(right.top.digits), int(right.bottom.digits)
                if not 0 < top < bottom or len(factors) > 2:
                    raise NotReadError("mixed")
                return Mixed(int(left.digits), top, bottom)
            if isinstance(right, Number | Scientific):
                raise NotReadError("a number after something")
        return _times(factors)

    def starts(self) -> bool:
        token = self.next
        return bool(token) and (token[0].isalnum() or token[0] == "." or token in ("(", "{") or (
            token[0] == "\\" and token not in ("\\cdot", "\\times")))  # fmt: skip

    def power(self) -> Node:
        base = self.atom()
        while self.next in ("^", "!"):
            if self.take() == "!":
                base = Factorial(base)
            elif self.degrees():
                base = Degrees(base)
            else:
                base = Power(base, self.group())
        return base

    def degrees(self) -> bool:
        for sign in (["\\circ"], ["{", "\\circ", "}"]):
            if self.tokens[self.at : self.at + len(sign)] == sign:
                self.at += len(sign)
                return True
        return False

    def group(self) -> Node:
        """What stands behind ^ or a command: braces, or one digit or letter."""
        if self.next == "{":
            self.take()
            inner = self.sum()
            self.take("}")
            return inner
        token = self.next
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return Number(token[0])
        if token in ("-", ""):
            raise NotReadError("group")
        return self.atom()

    def atom(self) -> Node:
        token = self.take()
        if "e" in token and token[0].isdigit():
            mantissa, _, exponent = token.partition("e")
            return Scientific(mantissa, int(exponent))
        if token[0].isdigit() or token[0] == ".":
            return Number(token.removesuffix("."))
        if token in ("(", "{", "["):
            inner = self.sum()
            self.take({"(": ")", "{": "}", "[": "]"}[token])
            return inner
        if token == "\\frac":
            return Quotient(self.group(), self.group())
        if token == "\\sqrt":
            degree = 2
            if self.next == "[":
                self.take()
                degree = int(self.take())
                self.take("]")
            return Root(self.group(), degree)
        if token[1:] in FUNCTIONS and token[0] == "\\":
            return self.call(token[1:])
        if token[1:] in GREEK and token[0] == "\\":
            return self.name(token)
        if token.isalpha() and len(token) == 1:
            return self.name(token)
        raise NotReadError(token)

    def name(self, name: str) -> Node:
        if name in "fghpuxyIP" and self.next == "(" and self.tokens[self.at + 1].isalpha() and (
            self.tokens[self.at + 2] == ")"
        ):  # fmt: skip
            raise NotReadError("a function's value")
        if self.next == "_":
            self.take()
            group = self.group()
            if not isinstance(group, Number | Name):
                raise NotReadError("subscript")
            name += "_" + (group.digits if isinstance(group, Number) else group.name)
        return Name(name)

    def call(self, function: str) -> Node:
        base = exponent = None
        while self.next in ("_", "^"):
            if self.take() == "_":
                base = self.group()
            else:
                exponent = self.group()
        if self.next in ("(", "{", "["):
            closed = {"(": ")", "{": "}", "[": "]"}[self.take()]
            argument = self.sum()
            self.take(closed)
        else:
            factors = [self.power()]
            while self.starts() and self.next not in ("(", "{") and self.next[1:] not in FUNCTIONS:
                factors.append(self.power())
            argument = _times(factors)
        if exponent is not None and not isinstance(exponent, Number):
            raise NotReadError("inverse function")
        found: Node = Call(function, argument, base)
        return found if exponent is None else Power(found, exponent)


def _times(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def understood(node: Node) -> bool:
    """Whether a gold was read as something that can be changed and rewritten."""
    return not isinstance(node, Opaque)


__all__ = ["NotReadError", "is_expression", "read", "understood"]
