r"""Reads LaTeX and plain-text expressions into exact algebra: a recursive-descent parser.

Bounded in tokens (``tokens``) and nesting; what is unknown raises ``UndecidedError`` instead of being guessed. Where
mathematicians write what can be read in two ways (``1/2x``, ``\sin x/2``), ``read`` goes from left to right and
``readings`` gives both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

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
    opaque,
)
from cipo_eval.verifiers.math.functions import apply, binomial, factorial, integers, logarithm, power, rounded
from cipo_eval.verifiers.math.tokens import (
    ACCENTS,
    ALPHABETS,
    CALLED,
    FUNCTIONS,
    GREEK,
    INVERSES,
    OF_SEVERAL,
    OPEN_CLOSE,
    SPELLINGS,
    read_number,
    starts_factor,
    tokenize,
    with_braces,
)

MAX_DEPTH = 25
"""Nested sums: each costs the interpreter several frames."""


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, *, tight: bool = False) -> None:
        self.tokens = tokenize(text)
        self.at = 0
        self.depth = 0
        self.angle = 0
        self.tight = tight
        self.ambiguous = False

    def read(self) -> Value:
        value = self.sum()
        if self.tokens[self.at]:
            raise UndecidedError
        if "\\infty" in self.tokens and [t for t in self.tokens if t not in "(){}+-"] != ["\\infty"]:
            raise UndecidedError  # ∞ - ∞ and the like have no value
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
        start = self.at
        result = self.factor()
        if mixed := self.mixed_part(start):
            result = add(result, mixed)
        while True:
            token = self.tokens[self.at]
            if token in ("*", "\\cdot", "\\times"):
                self.at += 1
                result = multiply(result, self.signed())
            elif token in ("/", "\\div", "÷"):
                self.at += 1
                result = divide(result, self.divisor())
            elif token in ("\\bmod", "\\mod"):
                self.at += 1
                result = integers("mod", [result, self.signed()])
            elif starts_factor(token):
                if token[0].isdigit() and self.tokens[self.at - 1][-1:].isdigit():
                    raise UndecidedError
                result = multiply(result, self.factor())
            else:
                return result

    def mixed_part(self, start: int) -> Value | None:
        r"""The ½ of 1\frac12: an integer directly before a proper fraction of integers is a mixed number."""
        tokens = self.tokens
        if self.at != start + 1 or not tokens[start].isdigit() or tokens[self.at] != "\\frac":
            return None
        before = tokens[start - 1] if start else ""
        if before in ("*", "/", "\\cdot", "\\times", ")", "}") or before.isalnum():
            return None
        shape = tokens[self.at + 1 : self.at + 7]
        if (
            len(shape) == 6
            and shape[0] == shape[3] == "{"
            and shape[2] == shape[5] == "}"
            and shape[1].isdigit()
            and shape[4].isdigit()
            and len(shape[1]) + len(shape[4]) < 200
            and 0 < int(shape[1]) < int(shape[4])
        ):
            self.at += 7
            return constant(Fraction(int(shape[1]), int(shape[4])))
        return None

    def divisor(self) -> Value:
        """What a slash divides by; the factors written behind it without a sign are where readings part."""
        bottom = self.signed()
        if starts_factor(self.tokens[self.at]):
            self.ambiguous = True
            while self.tight and starts_factor(self.tokens[self.at]):
                bottom = multiply(bottom, self.factor())
        return bottom

    def signed(self) -> Value:
        if self.tokens[self.at] in ("-", "+"):
            minus = self.tokens[self.at] == "-"
            self.at += 1
            return negate(self.factor()) if minus else self.factor()
        return self.factor()

    def factor(self) -> Value:
        base = self.primary()
        while True:
            token = self.tokens[self.at]
            if token == "!":
                self.at += 1
                if self.tokens[self.at] == "!":
                    raise UndecidedError
                base = factorial(base)
            elif token == "°":
                self.at += 1
                if self.angle:
                    base = multiply(base, multiply(atom(PI), constant(Fraction(1, 180))))
            elif token == "^" or (token == "*" and self.tokens[self.at + 1] == "*"):
                self.at += 1 if token == "^" else 2
                base = power(base, self.argument(signed=True))
                if self.tokens[self.at] == "^":
                    raise UndecidedError  # a^b^c: LaTeX refuses it, and writers mean different things
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
        self.expect(OPEN_CLOSE[opening])
        return value

    def expect(self, token: str) -> None:
        if self.tokens[self.at] != token:
            raise UndecidedError
        self.at += 1

    def primary(self) -> Value:
        token = self.tokens[self.at]
        if not token:
            raise UndecidedError
        if token in OPEN_CLOSE:
            return self.group(token)
        self.at += 1
        if token[0].isdigit() or token[0] == ".":
            return constant(read_number(token))
        if token == "\\pi":
            return atom(PI)
        if token[0] == "\\":
            return self.command(token[1:])
        if token == "|":
            inner = self.sum()
            self.expect("|")
            return rounded("abs", inner)
        if token.isalpha():
            return self.symbol(token)
        raise UndecidedError

    # --- names ---

    def symbol(self, name: str) -> Value:
        """A variable with its subscript and primes; e and i are the constants; f(…) is one symbol."""
        primes = 0
        while True:
            token = self.tokens[self.at]
            if token == "_":
                self.at += 1
                name += "_" + self.raw_group()
            elif token == "'":
                self.at += 1
                primes += 1
            elif token == "^" and (count := self.primes_in_exponent()):
                primes += count
            else:
                break
        name += "'" * primes
        if self.tokens[self.at] == "(":
            start = self.at
            inner = self.group("(")
            if name[0] in CALLED or primes or inner.rational is not None or self.at == start + 3:
                return opaque(
                    f"call {name}", inner
                )  # u(t) and I(0) are values of functions, n(n-1) is a product
            self.at = start
        if name in ("e", "i"):
            return atom(E if name == "e" else IMAGINARY)
        return atom(name)

    def primes_in_exponent(self) -> int:
        r"""y^{\prime\prime} is y''."""
        at = self.at + 1
        braced = self.tokens[at] == "{"
        at += braced
        count = 0
        while self.tokens[at] in ("\\prime", "'"):
            at, count = at + 1, count + 1
        if not count or (braced and self.tokens[at] != "}"):
            return 0
        self.at = at + braced
        return count

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

    # --- commands ---

    def command(self, name: str) -> Value:
        if handler := _COMMANDS.get(name):
            return handler(self)
        if name in FUNCTIONS or name == "log":
            return self.function(name)
        if name in OF_SEVERAL:
            return self.of_several(name)
        if name in GREEK:
            return self.symbol("\\" + name.replace("var", ""))
        if name in ("dot", "ddot"):
            inner = self.raw_group()
            return self.symbol_with_primes(inner, 1 if name == "dot" else 2)
        if name in ACCENTS or name in ALPHABETS:
            inner = self.raw_group()
            if not inner or inner[0].isdigit():
                raise UndecidedError
            if name == "overline" and len(inner) == 2:
                inner = "".join(sorted(inner))  # a segment has no direction
            return self.symbol(inner if name in ("mathbf", "boldsymbol", "mathrm") else f"{name}{inner}")
        raise UndecidedError

    def symbol_with_primes(self, inner: str, primes: int) -> Value:
        if not re.fullmatch(r"\\?[A-Za-z]+(?:_\w+)?", inner):
            raise UndecidedError
        while self.tokens[self.at] == "_":
            self.at += 1
            inner += "_" + self.raw_group()
        self.tokens[self.at : self.at] = ["'"] * primes
        return self.symbol(inner)

    def fraction(self) -> Value:
        if derivative := self.derivative():
            return derivative
        top = self.argument()
        return divide(top, self.argument())

    def derivative(self) -> Value | None:
        r"""\frac{dx}{dt} and \frac{d^2 x}{dt^2} are x' and x'', as are partial ones."""
        rest = " ".join(self.tokens[self.at : self.at + 24])
        match = _DERIVATIVE.match(rest)
        if not match or (match[1] or match[2] or "1") != (match[5] or match[6] or "1"):
            return None
        order = int(match[1] or match[2] or 1)
        self.at += len(match[0].split())
        return self.symbol_with_primes(re.sub(r"[\s{}]", "", match[3]), order)

    def root(self) -> Value:
        degree: Number = 2
        if self.tokens[self.at] == "[":
            index = self.group("[").rational
            if index is None or index.denominator != 1 or not 2 <= index <= 1000:
                raise UndecidedError
            degree = index
        return power(self.argument(), constant(Fraction(1) / degree))

    def between(self, closing: str, name: str) -> Value:
        inner = self.sum()
        self.expect(closing)
        return rounded(name, inner)

    def combination(self) -> Value:
        top = self.argument()
        return binomial(top, self.argument())

    def of_several(self, name: str) -> Value:
        self.at += self.tokens[self.at] == "\\"  # \max\{…\}
        opening = self.tokens[self.at]
        if opening not in OPEN_CLOSE:
            raise UndecidedError
        self.at += 1
        values = [self.sum()]
        while self.tokens[self.at] == ",":
            self.at += 1
            values.append(self.sum())
        self.at += self.tokens[self.at] == "\\"
        self.expect(OPEN_CLOSE[opening])
        return integers(name, values)

    def function(self, name: str) -> Value:
        base = exponent = None
        name = SPELLINGS.get(name, name)
        while self.tokens[self.at] in ("_", "^"):
            mark = self.tokens[self.at]
            self.at += 1
            if mark == "_":
                base = self.argument()
            else:
                exponent = self.argument(signed=True)
        if exponent is not None and exponent.rational == -1:
            if name not in INVERSES:
                raise UndecidedError
            name, exponent = INVERSES[name], None
        self.angle += 1
        token = self.tokens[self.at]
        inner = self.group(token) if token in OPEN_CLOSE else self.bare_argument()
        if token in OPEN_CLOSE and self.tokens[self.at] == "^" and exponent is None and name not in ("exp",):
            self.ambiguous = True  # ln(x)^2
            if self.tight:
                self.at += 1
                inner = power(inner, self.argument(signed=True))
        self.angle -= 1
        if name == "cis":
            return add(apply("cos", inner), multiply(atom(IMAGINARY), apply("sin", inner)))
        if name in ("ln", "log10"):
            result = logarithm(inner)
            if base is None and name == "log10":
                base = constant(10)
            if base is not None:
                result = divide(result, logarithm(base))
        elif base is not None:
            raise UndecidedError
        else:
            result = apply(name, inner)
        return result if exponent is None else power(result, exponent)

    def bare_argument(self) -> Value:
        r"""The 2x of \sin 2x: factors up to the next sign, bracket or function; a slash is read both ways."""
        negative = self.tokens[self.at] == "-"
        self.at += negative
        inner = self.factor()
        while starts_factor(self.tokens[self.at]):
            token = self.tokens[self.at]
            if token in ("(", "[") or token[1:] in FUNCTIONS or token[1:] in OF_SEVERAL:
                break
            inner = multiply(inner, self.factor())
        if self.tokens[self.at] == "/":
            self.ambiguous = True
            if self.tight:
                self.at += 1
                inner = divide(inner, self.signed())
        return negate(inner) if negative else inner


_COMMANDS: dict[str, Callable[[_Reader], Value]] = {
    "frac": _Reader.fraction,
    "sqrt": _Reader.root,
    "cbrt": lambda reader: power(reader.argument(), constant(Fraction(1, 3))),
    "infty": lambda _: atom(INF),
    "lfloor": lambda reader: reader.between("\\rfloor", "floor"),
    "lceil": lambda reader: reader.between("\\rceil", "ceil"),
    "binom": _Reader.combination,
}
_D = r"(?:d|\\partial)"
_DERIVATIVE = re.compile(
    rf"\{{ {_D}(?: \^ (?:(\d)|\{{ (\d) \}}))? (\{{? ?\\?[A-Za-z]+ ?\}}?(?: _ (?:\w+|\{{ \w+(?: \w+)* \}}))?)"
    rf"( \( [a-z] \))? \}} \{{ {_D} [A-Za-z](?: \^ (?:(\d)|\{{ (\d) \}}))? \}}"
)


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Value, Value | None]:
    """The value of a cleaned expression (see ``canonical``), read from left to right, and its other reading where it
    has two; raises ``UndecidedError``."""
    text = with_braces(text)
    try:
        first = _Reader(text)
        value = first.read()
        if not first.ambiguous:
            return value, None
        try:
            return value, _Reader(text, tight=True).read()
        except UndecidedError:
            return value, None
    except (RecursionError, ValueError, ArithmeticError, IndexError):
        raise UndecidedError from None


def read(text: str) -> Value:
    """The value of a cleaned expression, read from left to right; raises ``UndecidedError``."""
    return readings(text)[0]
