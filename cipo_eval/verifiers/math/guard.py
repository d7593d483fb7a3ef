r"""Refuses answers that would cost symbolic mathematics seconds, by reading their text only: one pass, no evaluation.

A model can write ``9^{9^{9^9}}``, ``(x+y+z)^{400}`` or ``\int \sin(x^x)`` in a few characters. Such answers are wrong
in every benchmark that this project knows (golds are compared as text before the guard is asked), so they are refused
without evaluation. The pass bounds for each part how large its numbers may become, and how many terms it has when it
is multiplied out and brought over one denominator; roots, functions, sums and integrals are counted. It errs on the
side of refusing: what an answer needs is small. What slips through meets the worker pool's limits of processor time
and memory (``Verifier.overdue``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple


class Limits(NamedTuple):
    """How much an answer may ask for. Each was set where symbolic mathematics takes about half a second."""

    length: int
    """Characters."""
    tokens: int
    depth: int
    """Nested brackets: the time of the LaTeX parser doubles with each."""
    bits: float
    """Of a number that is written out."""
    terms: float
    """Of an expression that is multiplied out, and of its denominator."""
    degree: float
    """Power of a letter."""
    items: int
    """Commas, unions, bars; a relation counts as six."""
    cells: int
    """Of all matrices together; a matrix to a power, or a determinant with letters, may have a quarter."""
    roots: int
    functions: int


USUAL = Limits(1000, 160, 6, 200, 40, 60, 40, 25, 6, 8)
LARGE = Limits(1000, 500, 14, 40_000, 150, 3000, 120, 64, 16, 20)
"""Where the gold itself exceeds what is usual."""

MAX_DIGITS = 400
MAX_EXPONENT = 9999
MAX_FACTORIAL = 3000
MAX_TOWER = 3
"""Powers within exponents."""
MAX_ROOT_BITS, MAX_NESTED_ROOTS, MAX_DEGREE_OF_ROOT = 100, 2, 30
MAX_NESTED_FUNCTIONS, MAX_ARGUMENT_BITS = 2, 60
MAX_SIGNS = 4
r"""``\pm``: each doubles the values."""
MAX_DEGREE_TO_SOLVE = 4
"""Of an equation or inequality that is solved where it does not agree at once."""

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<open>[({\[]|\\(?:\{|l(?:floor|ceil|angle|brace|brack)(?![A-Za-z]))"
    r"|\\begin\s*\{[^{}]{0,20}\}(?:\{[^{}]{0,60}\})?)"
    r"|(?P<close>[)}\]]|\\(?:\}|r(?:floor|ceil|angle|brace|brack)(?![A-Za-z]))|\\end\s*\{[^{}]{0,20}\})"
    r"|\\(?P<command>[A-Za-z]+|.)|(?P<power>\^|\*\*)|(?P<letter>[^\W\d_])|(?P<sign>\S)",
    re.DOTALL,
)
_WORDS = re.compile(r"\\(?:text[a-z]{0,6}|mathrm|mathbf|mathit|mathsf|mbox|hbox)\s*\{[^{}\d^!\\]*\}")
"""Text without numbers: units and words."""
_DERIVATIVE = re.compile(r"\\[dtc]?frac\s*\{\s*(?:d(?![A-Za-z])|\\partial|\\mathrm\s*\{\s*d)")
_DIGIT_RUN = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_E_NOTATION = re.compile(r"\d\.?[eE][+-]?(\d{4,})")

_CALCULUS_NAMES = "int iint iiint oint smallint intop sum prod coprod lim limsup liminf bigcup bigcap"
_CALCULUS = frozenset(_CALCULUS_NAMES.split())
"""What may take for ever even where it is short, or has no value that is found: allowed where the gold has it, too."""
_CALCULUS_SIGNS = frozenset("∫∬∭∮∑∏")
_FUNCTION_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log lg exp max min gcd lcm det "
    "operatorname Gamma zeta floor ceil Re Im arg"
)
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_EXPONENTIAL = frozenset({"exp", "sinh", "cosh", "Gamma", "zeta"})
"""What grows as fast as a power: bounded as one."""
_ROOT = frozenset({"sqrt", "root"})
_BINOMIALS = frozenset({"binom", "dbinom", "tbinom", "choose"})
_FRACTIONS = frozenset({"frac", "dfrac", "tfrac", "cfrac"})
_LAYOUT_NAMES = (
    "left right big Big bigl bigr Bigl Bigr bigg Bigg text textrm textbf textit mathrm mathbf mathit mathsf mbox "
    "quad qquad displaystyle limits nolimits , ; ! : "
)
_LAYOUT = frozenset([*_LAYOUT_NAMES.split(), " "])
_RELATION_NAMES = "= < > le ge leq geq ne neq lt gt leqslant geqslant approx equiv in"
_RELATIONS = frozenset(_RELATION_NAMES.split())
_LARGE = 1e9


class _HeavyError(Exception):
    """The text asks for too much."""


@dataclass(frozen=True, slots=True)
class _Size:
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


_ONE = _Size()


def too_heavy(text: str, gold: str = "") -> bool:
    """Whether evaluating ``text`` might take seconds or gigabytes. Sums, integrals and limits are refused unless
    ``gold`` has some, and it may be as large as the gold."""
    calculus = has_calculus(gold)
    return _exceeds(text, LARGE if gold and unusual(gold) else USUAL, calculus=calculus)


def unusual(gold: str) -> bool:
    """Whether a gold is larger than answers are: then it is no fault of an answer's if judging it takes long."""
    return _exceeds(gold, USUAL, calculus=True)


def _exceeds(text: str, limits: Limits, *, calculus: bool) -> bool:
    if len(text) > limits.length or _DIGIT_RUN.search(text) or (not calculus and _DERIVATIVE.search(text)):
        return True
    if any(int(match[1]) > MAX_EXPONENT for match in _E_NOTATION.finditer(text)):
        return True
    try:
        return _Sizer(_WORDS.sub(" ", text), limits, calculus=calculus).heavy()
    except _HeavyError:
        return True


def has_calculus(text: str) -> bool:
    """Whether a text has a sum, a product, an integral, a limit or a derivative."""
    return bool(_DERIVATIVE.search(text)) or any(
        match["command"] in _CALCULUS or match["sign"] in _CALCULUS_SIGNS for match in _TOKEN.finditer(text)
    )


def _join(left: _Size, right: _Size, **changes: float) -> _Size:
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


def _collapsed(size: _Size) -> _Size:
    """Integers alone become one number."""
    return replace(size, terms=1, below=1) if size.plain else size


def _product(left: _Size, right: _Size) -> _Size:
    return _collapsed(
        _join(
            left,
            right,
            bits=left.bits + right.bits,
            value=left.value + right.value,
            terms=left.terms * right.terms,
            below=left.below * right.below,
            degree=max(left.degree, right.degree),
        )
    )


def _added(left: float, right: float) -> float:
    """Binary logarithm of a sum, from those of its terms."""
    return max(left, right) + math.log2(1 + 2 ** -min(abs(left - right), 99.0))


def _sum(left: _Size, right: _Size) -> _Size:
    same = left.below == right.below == 1
    return _collapsed(
        _join(
            left,
            right,
            bits=_added(left.bits, right.bits),
            value=_added(left.value, right.value),
            terms=left.terms + right.terms if same else left.terms * right.below + right.terms * left.below,
            below=left.below * right.below,
            degree=max(left.degree, right.degree),
        )
    )


def _beside(left: _Size, right: _Size) -> _Size:
    """Two elements of a list, or sides of a relation."""
    return _join(
        left,
        right,
        bits=max(left.bits, right.bits),
        value=max(left.value, right.value),
        terms=max(left.terms, right.terms),
        below=max(left.below, right.below),
        degree=max(left.degree, right.degree),
    )


def _either(join: Callable[[_Size, _Size], _Size], left: _Size | None, right: _Size | None) -> _Size | None:
    """Both joined where there are both, else the one that there is."""
    return join(left, right) if left is not None and right is not None else left if right is None else right


def _over(top: _Size, bottom: _Size) -> _Size:
    turned = replace(bottom, value=max(bottom.bits - bottom.value, 0), terms=bottom.below, below=bottom.terms)
    return _product(top, turned)


def _power(base: _Size, exponent: _Size) -> _Size:
    """A power: of a number it is written out, of a sum multiplied out; letters in the exponent leave it as it is."""
    if exponent.value > math.log2(MAX_EXPONENT + 1):
        raise _HeavyError
    if base.cells and exponent.value > 4:
        raise _HeavyError
    times = 2**exponent.value
    tower = max(base.tower, exponent.tower)
    value = max(base.value, 0.1) * times
    size = _join(base, exponent, bits=max(base.bits, value), value=value, terms=1, below=1)
    if not exponent.plain:
        return _collapsed(replace(size, tower=max(base.tower, exponent.tower + 1)))
    if base.plain:
        return _collapsed(replace(size, bits=max(base.bits, 1) * times, tower=tower))
    whole = math.ceil(times)
    if whole > LARGE.terms and max(base.terms, base.below) > 1:
        raise _HeavyError
    return _collapsed(
        replace(
            size,
            bits=base.bits * times,
            terms=math.comb(int(base.terms) + whole - 1, whole) if base.terms > 1 else 1,
            below=math.comb(int(base.below) + whole - 1, whole) if base.below > 1 else 1,
            degree=base.degree * times,
            tower=tower,
        )
    )


def _factorial(size: _Size) -> _Size:
    if size.value > math.log2(MAX_FACTORIAL + 1):
        raise _HeavyError
    value = max(2**size.value * size.value, 1)
    if size.plain:
        return _collapsed(replace(size, bits=value, value=value))
    return _collapsed(replace(size, terms=1, below=1, functions=size.functions + 1))


class _Sizer:
    """Reads a text from left to right, tolerantly: whatever it is, it has a size."""

    def __init__(self, text: str, limits: Limits, *, calculus: bool) -> None:
        self.limits = limits
        self.tokens = [
            (match.lastgroup or "sign", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)
        ]
        self.tokens = [token for token in self.tokens if token[0] != "command" or token[1] not in _LAYOUT]
        if len(self.tokens) > limits.tokens:
            raise _HeavyError
        self.tokens.append(("end", ""))
        self.at = self.depth = 0
        self.calculus = calculus
        self.counts = {
            "roots": 0,
            "functions": 0,
            "cells": 0,
            "items": 0,
            "signs": 0,
            "relations": 0,
            "degree": 0,
        }

    def heavy(self) -> bool:
        """Whether the whole is too much; ``_HeavyError`` says so, too."""
        while self.tokens[self.at][0] != "end":
            self.sum()
            self.at += self.tokens[self.at][0] == "close"  # one that nothing opened
        counts = self.counts
        return (
            counts["roots"] > self.limits.roots
            or counts["functions"] > self.limits.functions
            or counts["cells"] > self.limits.cells
            or counts["items"] > self.limits.items
            or counts["signs"] > MAX_SIGNS
            or (counts["relations"] > 0 and counts["degree"] > MAX_DEGREE_TO_SOLVE)
        )

    def sum(self) -> _Size:
        """Up to the bracket that closes, or the end."""
        self.depth += 1
        if self.depth > self.limits.depth:
            raise _HeavyError
        whole: _Size | None = None
        total: _Size | None = None
        factor: _Size | None = None
        while (token := self.tokens[self.at])[0] not in ("close", "end"):
            kind, text = token
            separate = self.separates(kind, text)
            if separate or text in ("+", "-", "pm", "mp", "±", "∓", "−"):
                self.at += 1
                self.counts["signs"] += text in ("pm", "mp", "±", "∓")
                total, factor = self.fit(_either(_sum, total, factor)), None
                if separate:
                    whole, total = _either(_beside, whole, total), None
            elif text in ("/", "div", "÷"):
                self.at += 1
                factor = self.fit(_over(factor or _ONE, self.factor()))
            else:
                factor = self.fit(_either(_product, factor, self.factor()))
        self.depth -= 1
        result = self.fit(_either(_beside, whole, self.fit(_either(_sum, total, factor)))) or _ONE
        self.counts["degree"] = max(self.counts["degree"], int(min(result.degree, _LARGE)))
        return result

    def fit(self, size: _Size | None) -> _Size | None:
        """The same size. Raises ``_HeavyError`` where it is beyond the limits."""
        limits = self.limits
        if size is not None and (
            max(size.bits, size.value) > limits.bits
            or max(size.terms, size.below) > limits.terms
            or size.degree > limits.degree
            or size.tower > MAX_TOWER
            or size.roots > MAX_NESTED_ROOTS
            or size.functions > MAX_NESTED_FUNCTIONS
        ):
            raise _HeavyError
        return size

    def separates(self, kind: str, text: str) -> bool:
        """Whether a token stands between expressions; counts it."""
        if text in (",", ";", ":", "cup", "cap", "setminus", "∪", "∩", "|", "mid", "?", "~"):
            # a parser tries each bar as an opening and a closing one; unions are compared pairwise
            self.counts["items"] += 8 if text in ("|", "cup", "∪") else 1
            if self.tokens[self.at + 1][1] == "!":
                raise _HeavyError  # of how much the factorial is cannot be told
        elif text in ("&", "\\"):
            self.counts["cells"] += 1
            self.counts["items"] += 1
        elif text in _RELATIONS or (kind == "sign" and text in "≤≥≠≈≡∈"):
            self.counts["items"] += 6
            self.counts["relations"] += 1
        else:
            return False
        return True

    def factor(self) -> _Size:
        """One part with its powers, subscripts and factorials."""
        size = self.primary()
        while True:
            kind, text = self.tokens[self.at]
            if kind == "power":
                self.at += 1
                size = _power(size, self.signed())
            elif text == "!":
                self.at += 1
                size = _factorial(size)
            elif text == "_":
                self.at += 1
                self.signed()
            elif text == "'":
                self.at += 1
            else:
                return size

    def signed(self) -> _Size:
        """An exponent or subscript: a group or one token, which in plain text is a power of its own (9**9**9)."""
        while self.tokens[self.at][1] in ("+", "-", "−"):
            self.at += 1
        start = self.at
        size = self.primary()
        if start < len(self.tokens) and self.tokens[self.at][0] == "power":
            self.at += 1
            size = _power(size, self.signed())
        return size

    def primary(self) -> _Size:
        kind, text = self.tokens[self.at]
        if kind in ("end", "close"):
            return _ONE
        self.at += 1
        if kind == "number":
            return _number(text)
        if kind == "open":
            return self.matrix(text) if "begin" in text else self.group()
        if kind == "letter":
            return _Size(bits=1.45, value=1.45, plain=False) if text == "e" else _Size(plain=False, degree=1)
        if kind == "command":
            return self.command(text)
        if text in _CALCULUS_SIGNS:
            return self.series()
        if text in "√∛∜":
            return self.root()
        return _ONE if text in "*·×⋅^_'!" or text.isascii() else _Size(plain=False)

    def group(self) -> _Size:
        size = self.sum()
        self.at += self.tokens[self.at][0] == "close"
        return size

    def command(self, name: str) -> _Size:
        if name in _CALCULUS:
            return self.series()
        if name in _FRACTIONS:
            top = self.primary()
            return _over(top, self.primary())
        if name in _ROOT:
            return self.root()
        if name in _BINOMIALS:
            return self.binomial(self.primary(), self.primary())
        if name in _FUNCTIONS:
            return self.function(name)
        if name in ("pi", "tau"):
            return _Size(bits=2.7, value=2.7, plain=False)
        return (
            _ONE
            if name in ("cdot", "times", "ldots", "cdots", "circ", "%", "$")
            else _Size(plain=False, degree=1)
        )

    def series(self) -> _Size:
        """A sum, product, integral or limit."""
        if not self.calculus:
            raise _HeavyError
        self.counts["functions"] += USUAL.functions // 2
        return _Size(plain=False)

    def root(self) -> _Size:
        self.counts["roots"] += 1
        if self.tokens[self.at] == ("open", "["):
            self.at += 1
            degree = self.group()
            if degree.value > math.log2(MAX_DEGREE_OF_ROOT + 1):
                raise _HeavyError
        size = self.primary()
        if size.bits > MAX_ROOT_BITS:
            raise _HeavyError
        return _collapsed(
            replace(size, roots=size.roots + 1, terms=1, below=1, plain=False, tower=max(size.tower, 1))
        )

    def binomial(self, top: _Size, bottom: _Size) -> _Size:
        if max(top.value, bottom.value) > math.log2(MAX_FACTORIAL + 1) or (
            not top.plain and bottom.value > 5
        ):
            raise _HeavyError
        size = 2**top.value if top.plain else top.value
        return _collapsed(_join(top, bottom, bits=size, value=size, terms=1, below=1))

    def function(self, name: str) -> _Size:
        """A function of what follows it: a group, or the factor behind it (and its own power)."""
        self.counts["functions"] += 1
        exponent = _ONE
        while self.tokens[self.at][0] == "power" or self.tokens[self.at][1] == "_":
            raised = self.tokens[self.at][0] == "power"
            self.at += 1
            size = self.signed()
            exponent = size if raised else exponent
        if name == "operatorname":
            self.primary()
        inside = self.factor()
        if max(inside.bits, inside.value) > MAX_ARGUMENT_BITS:
            raise _HeavyError
        if name in _EXPONENTIAL:
            return _power(_Size(bits=1.45, value=1.45, plain=False), replace(inside, plain=False))
        size = replace(inside, terms=1, below=1, plain=False, functions=inside.functions + 1, degree=1)
        return _power(_collapsed(size), exponent) if exponent is not _ONE else _collapsed(size)

    def matrix(self, begin: str) -> _Size:
        """A matrix, or another environment; a determinant has as many terms as permutations."""
        before = self.counts["cells"]
        self.counts["cells"] += 1
        size = self.group()
        cells = self.counts["cells"] - before
        following = self.tokens[self.at][0] == "power"
        if cells > self.limits.cells / 4 and (following or ("vmatrix" in begin and not size.plain)):
            raise _HeavyError
        return replace(size, cells=cells, terms=1, below=1, plain=False)


def _number(text: str) -> _Size:
    whole, _, decimals = text.partition(".")
    value = math.log2(int(whole or 0) + bool(decimals)) if whole.strip("0") or decimals else 0.0
    return _Size(bits=value + len(decimals) * math.log2(10), value=value)
