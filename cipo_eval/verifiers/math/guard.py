r"""Refuses answers that would cost symbolic mathematics seconds, by reading their text only: one pass, no evaluation.

A model can write ``9^{9^{9^9}}``, ``(x+y+z)^{400}`` or ``\int \sin(x^x)`` in a few characters. Such answers are wrong
in every benchmark that this project knows (golds are compared as text before the guard is asked), so they are refused
without evaluation. The pass bounds for each part how large its numbers may become, and how many terms it has when it
is multiplied out and brought over one denominator; roots, functions, sums and integrals are counted. It errs on the
side of refusing: what an answer needs is small. What slips through meets the worker pool's limits of processor time
and memory (``Verifier.overdue``).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace

from cipo_eval.verifiers.math.sizes import (
    LARGE,
    MAX_ARGUMENT_BITS,
    MAX_DEGREE_OF_ROOT,
    MAX_DEGREE_TO_SOLVE,
    MAX_DIGITS,
    MAX_EXPONENT,
    MAX_FACTORIAL,
    MAX_NESTED_FUNCTIONS,
    MAX_NESTED_ROOTS,
    MAX_ROOT_BITS,
    MAX_SIGNS,
    MAX_TOWER,
    ONE,
    USUAL,
    HeavyError,
    Limits,
    Size,
    added,
    beside,
    collapsed,
    either,
    factorial,
    join,
    number,
    power,
    product,
    quotient,
)

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


def too_heavy(text: str, gold: str = "") -> bool:
    """Whether evaluating ``text`` might take seconds or gigabytes. Sums, integrals and limits are refused unless
    ``gold`` has some, and it may be as large as the gold."""
    calculus = has_calculus(gold)
    return _exceeds(text, LARGE if gold and unusual(gold) else USUAL, calculus=calculus)


@functools.lru_cache(maxsize=4096)
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
    except HeavyError:
        return True


def has_calculus(text: str) -> bool:
    """Whether a text has a sum, a product, an integral, a limit or a derivative."""
    return bool(_DERIVATIVE.search(text)) or any(
        match["command"] in _CALCULUS or match["sign"] in _CALCULUS_SIGNS for match in _TOKEN.finditer(text)
    )


class _Sizer:
    """Reads a text from left to right, tolerantly: whatever it is, it has a size."""

    def __init__(self, text: str, limits: Limits, *, calculus: bool) -> None:
        self.limits = limits
        self.tokens = [
            (match.lastgroup or "sign", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)
        ]
        self.tokens = [token for token in self.tokens if token[0] != "command" or token[1] not in _LAYOUT]
        if len(self.tokens) > limits.tokens:
            raise HeavyError
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
        """Whether the whole is too much; ``HeavyError`` says so, too."""
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

    def sum(self) -> Size:
        """Up to the bracket that closes, or the end."""
        self.depth += 1
        if self.depth > self.limits.depth:
            raise HeavyError
        whole: Size | None = None
        total: Size | None = None
        factor: Size | None = None
        while (token := self.tokens[self.at])[0] not in ("close", "end"):
            kind, text = token
            separate = self.separates(kind, text)
            if separate or text in ("+", "-", "pm", "mp", "±", "∓", "−"):
                self.at += 1
                self.counts["signs"] += text in ("pm", "mp", "±", "∓")
                total, factor = self.fit(either(added, total, factor)), None
                if separate:
                    whole, total = either(beside, whole, total), None
            elif text in ("/", "div", "÷"):
                self.at += 1
                factor = self.fit(quotient(factor or ONE, self.factor()))
            else:
                factor = self.fit(either(product, factor, self.factor()))
        self.depth -= 1
        result = self.fit(either(beside, whole, self.fit(either(added, total, factor)))) or ONE
        self.counts["degree"] = max(self.counts["degree"], int(min(result.degree, _LARGE)))
        return result

    def fit(self, size: Size | None) -> Size | None:
        """The same size. Raises ``HeavyError`` where it is beyond the limits."""
        limits = self.limits
        if size is not None and (
            max(size.bits, size.value) > limits.bits
            or max(size.terms, size.below) > limits.terms
            or size.degree > limits.degree
            or size.tower > MAX_TOWER
            or size.roots > MAX_NESTED_ROOTS
            or size.functions > MAX_NESTED_FUNCTIONS
        ):
            raise HeavyError
        return size

    def separates(self, kind: str, text: str) -> bool:
        """Whether a token stands between expressions; counts it."""
        if text in (",", ";", ":", "cup", "cap", "setminus", "∪", "∩", "|", "mid", "?", "~"):
            # a parser tries each bar as an opening and a closing one; unions are compared pairwise
            self.counts["items"] += 8 if text in ("|", "cup", "∪") else 1
            if self.tokens[self.at + 1][1] == "!":
                raise HeavyError  # of how much the factorial is cannot be told
        elif text in ("&", "\\"):
            self.counts["cells"] += 1
            self.counts["items"] += 1
        elif text in _RELATIONS or (kind == "sign" and text in "≤≥≠≈≡∈"):
            self.counts["items"] += 6
            self.counts["relations"] += 1
        else:
            return False
        return True

    def factor(self) -> Size:
        """One part with its powers, subscripts and factorials."""
        size = self.primary()
        while True:
            kind, text = self.tokens[self.at]
            if kind == "power":
                self.at += 1
                size = power(size, self.signed())
            elif text == "!":
                self.at += 1
                size = factorial(size)
            elif text == "_":
                self.at += 1
                self.signed()
            elif text == "'":
                self.at += 1
            else:
                return size

    def signed(self) -> Size:
        """An exponent or subscript: a group or one token, which in plain text is a power of its own (9**9**9)."""
        while self.tokens[self.at][1] in ("+", "-", "−"):
            self.at += 1
        start = self.at
        size = self.primary()
        if start < len(self.tokens) and self.tokens[self.at][0] == "power":
            self.at += 1
            size = power(size, self.signed())
        return size

    def primary(self) -> Size:
        kind, text = self.tokens[self.at]
        if kind in ("end", "close"):
            return ONE
        self.at += 1
        if kind == "number":
            return number(text)
        if kind == "open":
            return self.matrix(text) if "begin" in text else self.group()
        if kind == "letter":
            return Size(bits=1.45, value=1.45, plain=False) if text == "e" else Size(plain=False, degree=1)
        if kind == "command":
            return self.command(text)
        if text in _CALCULUS_SIGNS:
            return self.series()
        if text in "√∛∜":
            return self.root()
        return ONE if text in "*·×⋅^_'!" or text.isascii() else Size(plain=False)

    def group(self) -> Size:
        size = self.sum()
        self.at += self.tokens[self.at][0] == "close"
        return size

    def command(self, name: str) -> Size:
        if name in _CALCULUS:
            return self.series()
        if name in _FRACTIONS:
            top = self.primary()
            return quotient(top, self.primary())
        if name in _ROOT:
            return self.root()
        if name in _BINOMIALS:
            return self.binomial(self.primary(), self.primary())
        if name in _FUNCTIONS:
            return self.function(name)
        if name in ("pi", "tau"):
            return Size(bits=2.7, value=2.7, plain=False)
        return (
            ONE
            if name in ("cdot", "times", "ldots", "cdots", "circ", "%", "$")
            else Size(plain=False, degree=1)
        )

    def series(self) -> Size:
        """A sum, product, integral or limit."""
        if not self.calculus:
            raise HeavyError
        self.counts["functions"] += USUAL.functions // 2
        return Size(plain=False)

    def root(self) -> Size:
        self.counts["roots"] += 1
        if self.tokens[self.at] == ("open", "["):
            self.at += 1
            degree = self.group()
            if degree.value > math.log2(MAX_DEGREE_OF_ROOT + 1):
                raise HeavyError
        size = self.primary()
        if size.bits > MAX_ROOT_BITS:
            raise HeavyError
        return collapsed(
            replace(size, roots=size.roots + 1, terms=1, below=1, plain=False, tower=max(size.tower, 1))
        )

    def binomial(self, top: Size, bottom: Size) -> Size:
        if max(top.value, bottom.value) > math.log2(MAX_FACTORIAL + 1) or (
            not top.plain and bottom.value > 5
        ):
            raise HeavyError
        size = 2**top.value if top.plain else top.value
        return collapsed(join(top, bottom, bits=size, value=size, terms=1, below=1))

    def function(self, name: str) -> Size:
        """A function of what follows it: a group, or the factor behind it (and its own power)."""
        self.counts["functions"] += 1
        exponent = ONE
        while self.tokens[self.at][0] == "power" or self.tokens[self.at][1] == "_":
            raised = self.tokens[self.at][0] == "power"
            self.at += 1
            size = self.signed()
            exponent = size if raised else exponent
        if name == "operatorname":
            self.primary()
        inside = self.factor()
        if max(inside.bits, inside.value) > MAX_ARGUMENT_BITS:
            raise HeavyError
        if name in _EXPONENTIAL:
            return power(Size(bits=1.45, value=1.45, plain=False), replace(inside, plain=False))
        size = replace(inside, terms=1, below=1, plain=False, functions=inside.functions + 1, degree=1)
        return power(collapsed(size), exponent) if exponent is not ONE else collapsed(size)

    def matrix(self, begin: str) -> Size:
        """A matrix, or another environment; a determinant has as many terms as permutations."""
        before = self.counts["cells"]
        self.counts["cells"] += 1
        size = self.group()
        cells = self.counts["cells"] - before
        following = self.tokens[self.at][0] == "power"
        if cells > self.limits.cells / 4 and (following or ("vmatrix" in begin and not size.plain)):
            raise HeavyError
        return replace(size, cells=cells, terms=1, below=1, plain=False)
