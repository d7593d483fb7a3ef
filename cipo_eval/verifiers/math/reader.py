r"""Reads LaTeX and plain-text expressions into exact algebra: a tokenizer and a recursive-descent parser.

Bounded in tokens and nesting; whatever is unknown or ambiguous (``1/2x``, ``\sin x/2``) raises ``UndecidedError``
instead of being guessed.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import (
    IMAGINARY,
    INF,
    PI,
    E,
    Number,
    UndecidedError,
    Value,
    add,
    atom,
    constant,
    divide,
    multiply,
    negate,
    power,
)

MAX_FACTORIAL = 200
MAX_DEPTH = 25

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(\\[A-Za-z]+)|([A-Za-z]+)|(\S))"
)
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell"
)
_GREEK = frozenset(_GREEK_NAMES.split())
_FUNCTIONS_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp gcd lcm"
_FUNCTIONS = frozenset(_FUNCTIONS_NAMES.split())
_WORDS = _FUNCTIONS | {"sqrt", "pi", "asin", "acos", "atan"}
_CALLED = frozenset("fghFGHPQ")
_OPEN_CLOSE = {"(": ")", "[": "]", "{": "}"}


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        for match in _TOKEN.finditer(text):
            number, command, word, other = match.groups()
            if word and len(word) > 1:
                self.tokens.extend(["\\" + word] if word in _WORDS else self._letters(word))
            elif found := number or command or word or other:
                self.tokens.append(found)
        if len(self.tokens) > 400:
            raise UndecidedError
        self.tokens.append("")
        self.at = 0
        self.depth = 0

    @staticmethod
    def _letters(word: str) -> list[str]:
        if len(word) > 3:
            raise UndecidedError
        return list(word)

    def read(self) -> Value:
        value = self.sum()
        if self.tokens[self.at]:
            raise UndecidedError
        return value

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UndecidedError
        total: Value | None = None
        while total is None or self.tokens[self.at] in ("+", "-"):
            negative = False
            while self.tokens[self.at] in ("+", "-"):
                negative ^= self.tokens[self.at] == "-"
                self.at += 1
            term = self.product()
            term = negate(term) if negative else term
            total = term if total is None else add(total, term)
        self.depth -= 1
        return total

    def product(self) -> Value:
        result = self.factor()
        divided = False
        while True:
            token = self.tokens[self.at]
            if token in ("*", "\\cdot", "\\times"):
                self.at += 1
                result, divided = multiply(result, self.signed()), False
            elif token in ("/", "\\div", "÷"):
                self.at += 1
                result, divided = divide(result, self.signed()), True
            elif self.starts_factor(token):
                if divided:
                    raise UndecidedError  # 1/2x: read both ways in practice
                if token[0].isdigit() and self.tokens[self.at - 1][-1:].isdigit():
                    raise UndecidedError
                result = multiply(result, self.factor())
            else:
                return result

    def signed(self) -> Value:
        if self.tokens[self.at] == "-":
            self.at += 1
            return negate(self.factor())
        return self.factor()

    @staticmethod
    def starts_factor(token: str) -> bool:
        if not token:
            return False
        if token[0] == "\\":
            return token not in ("\\rfloor", "\\rceil", "\\cdot", "\\times", "\\div", "\\mid")
        return token[0].isalnum() or token[0] == "." or token in ("(", "[", "{", "√", "π")

    def factor(self) -> Value:
        base = self.primary()
        while True:
            token = self.tokens[self.at]
            if token == "!":
                self.at += 1
                base = _factorial(base)
            elif token == "^" or (token == "*" and self.tokens[self.at + 1] == "*"):
                self.at += 1 if token == "^" else 2
                base = power(base, self.argument(signed=True))
            else:
                return base

    def argument(self, *, signed: bool = False) -> Value:
        """A braced group or one token, as after ^, \\frac and \\sqrt."""
        token = self.tokens[self.at]
        if token == "{":
            return self.group("{")
        if signed and token in ("-", "+"):
            self.at += 1
            value = self.argument()
            return negate(value) if token == "-" else value
        return self.primary()

    def group(self, opening: str) -> Value:
        self.expect(opening)
        value = self.sum()
        self.expect(_OPEN_CLOSE[opening])
        return value

    def expect(self, token: str) -> None:
        if self.tokens[self.at] != token:
            raise UndecidedError
        self.at += 1

    def primary(self) -> Value:
        token = self.tokens[self.at]
        if not token:
            raise UndecidedError
        if token in _OPEN_CLOSE:
            return self.group(token)
        self.at += 1
        if token[0].isdigit() or token[0] == ".":
            return constant(read_number(token))
        if token == "π" or token == "\\pi":
            return atom(PI)
        if token == "√":
            return power(self.argument(), constant(Fraction(1, 2)))
        if token[0] == "\\":
            return self.command(token[1:])
        if token == "|":
            inner = self.sum()
            self.expect("|")
            return _absolute(inner)
        if token.isalpha():
            return self.symbol(token)
        raise UndecidedError

    def symbol(self, name: str) -> Value:
        """A variable with its subscript and primes; e and i are the constants; f(…) is one symbol."""
        if self.tokens[self.at] == "_":
            self.at += 1
            name += "_" + self.raw_group()
        while self.tokens[self.at] == "'":
            self.at += 1
            name += "'"
        if self.tokens[self.at] == "(":
            start = self.at
            inner = self.group("(")
            if name[0] in _CALLED or inner.rational is not None or self.at == start + 3:
                return atom(
                    f"~{name}({inner.canon})"
                )  # u(t) and I(0) are values of functions, n(n-1) is a product
            self.at = start
        return atom({"e": E, "i": IMAGINARY}.get(name, name))

    def raw_group(self) -> str:
        token = self.tokens[self.at]
        self.at += 1
        if token != "{":
            return token
        parts = []
        while (token := self.tokens[self.at]) != "}":
            if not token or token == "{":
                raise UndecidedError
            parts.append(token)
            self.at += 1
        self.at += 1
        return "".join(parts)

    def command(self, name: str) -> Value:
        if name == "frac":
            top = self.argument()
            return divide(top, self.argument())
        if name == "sqrt":
            degree: Number = 2
            if self.tokens[self.at] == "[":
                given = self.group("[").rational
                if given is None or given.denominator != 1 or not 2 <= given <= 12:
                    raise UndecidedError
                degree = given
            return power(self.argument(), constant(Fraction(1) / degree))
        if name == "infty":
            return atom(INF)
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.expect("\\rfloor" if name == "lfloor" else "\\rceil")
            number = inner.rational
            if number is not None:
                return constant(math.floor(number) if name == "lfloor" else math.ceil(number))
            return atom(f"~{name[1:]}({inner.canon})")
        if name == "binom":
            top = self.argument()
            return _binomial(top, self.argument())
        if name in _FUNCTIONS:
            return self.function(name)
        if name in _GREEK:
            return self.symbol("\\" + name)
        raise UndecidedError

    def function(self, name: str) -> Value:
        base = exponent = None
        while self.tokens[self.at] in ("_", "^"):
            mark = self.tokens[self.at]
            self.at += 1
            if mark == "_":
                base = self.argument()
            else:
                exponent = self.argument(signed=True)
        if exponent is not None and exponent.rational == -1:
            raise UndecidedError
        token = self.tokens[self.at]
        inner = self.group(token) if token in _OPEN_CLOSE else self.bare_argument()
        if name in ("log", "ln") and base is None:
            name = "ln"  # a logarithm without base is the natural one here; lg and \log_{10} are others
        if name == "exp":
            result = power(atom(E), inner)
        elif name in ("sinh", "cosh"):
            up, down = power(atom(E), inner), power(atom(E), negate(inner))
            result = multiply(add(up, negate(down) if name == "sinh" else down), constant(Fraction(1, 2)))
        elif name in ("ln", "log", "lg") and inner.rational == 1:
            result = constant(0)
        else:
            result = atom(f"~{name}{'_' + base.canon if base else ''}({inner.canon})")
        return result if exponent is None else power(result, exponent)

    def bare_argument(self) -> Value:
        r"""The 2x of \sin 2x: factors up to the next sign; another function or a slash makes it ambiguous."""
        inner = self.factor()
        while self.starts_factor(self.tokens[self.at]):
            if self.tokens[self.at] in ("(", "[") or self.tokens[self.at][1:] in _FUNCTIONS:
                if self.tokens[self.at][1:] in _FUNCTIONS:
                    return inner
                raise UndecidedError
            inner = multiply(inner, self.factor())
        if self.tokens[self.at] == "/":
            raise UndecidedError
        return inner


def read_number(token: str) -> Number:
    """A decimal or e-notation literal, exactly; huge exponents are refused."""
    if token.isdigit() and len(token) <= 400:
        return int(token)
    mantissa, _, exponent = token.replace("E", "e").partition("e")
    if len(mantissa) > 400 or len(exponent) > 4:
        raise UndecidedError
    value = Fraction(mantissa if mantissa[-1] != "." else mantissa[:-1])
    if not exponent:
        return value
    shift = int(exponent)
    if abs(shift) > 1000:
        raise UndecidedError
    return value * Fraction(10) ** shift


def _factorial(value: Value) -> Value:
    number = value.rational
    if number is None:
        return atom(f"~fact({value.canon})")
    if number.denominator != 1 or not number >= 0:
        raise UndecidedError
    if number > MAX_FACTORIAL:
        return atom(f"~fact({number})")
    return constant(math.factorial(int(number)))


def _binomial(top: Value, bottom: Value) -> Value:
    n, k = top.rational, bottom.rational
    if n is None or k is None:
        return atom(f"~binom({top.canon};{bottom.canon})")
    if n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n:
        raise UndecidedError
    if n > MAX_FACTORIAL:
        return atom(f"~binom({n};{k})")
    return constant(math.comb(int(n), int(k)))


def _absolute(value: Value) -> Value:
    number = value.rational
    return constant(max(number, -number)) if number is not None else atom(f"~abs({value.canon})")


_BARE_FRACTION: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\d)"), r"\1{\2}"),
)


def read(text: str) -> Value:
    """The value of a cleaned expression (see ``canonical``); raises ``UndecidedError``."""
    if "\\frac" in text or "\\sqrt" in text:
        for pattern, replacement in _BARE_FRACTION:
            text = pattern.sub(replacement, text)
    try:
        return _Reader(text).read()
    except (RecursionError, ValueError, ArithmeticError, IndexError):
        raise UndecidedError from None
