r"""Tokens of LaTeX and plain-text expressions, the words that the parser (``reader``) knows, and numerals.

A token is a number, a command with its backslash (``\frac``), one letter, or one sign; known words of plain text
(``sin``, ``sqrt``) become commands, other words of up to three letters become their letters.
"""

from __future__ import annotations

import re
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import Number, UndecidedError

MAX_TOKENS = 400
"""Tokens of an expression; one of more is undecided."""

_TOKEN = re.compile(
    r"\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+(?![A-Za-z\d]))?)|(\\[A-Za-z]+)|([A-Za-z]+)|(\S))"
)
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell mho Upsilon"
)
GREEK = frozenset(_GREEK_NAMES.split())
"""Commands that are variables."""
SPELLINGS = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan", "sh": "sinh",
    "ch": "cosh", "th": "tanh", "lg": "log10", "log": "ln", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "cosec": "csc",
}  # fmt: skip
"""The usual name of a function by its other ones."""
_FUNCTION_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch ln exp cis "
    "arcsinh arccosh arctanh"
)
INVERSES = {name: f"arc{name}" for name in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"]}
r"""What a function with the exponent -1 is, as in ``\sin^{-1} x``."""
FUNCTIONS = frozenset(_FUNCTION_NAMES.split()) | SPELLINGS.keys()
"""Functions of one argument, by all of their names."""
OF_SEVERAL = frozenset({"gcd", "lcm", "max", "min"})
"""Functions of several arguments."""
_WORDS = FUNCTIONS | OF_SEVERAL | {"sqrt", "pi", "cbrt", "binom"}
ACCENTS = frozenset(
    {"hat", "vec", "tilde", "bar", "overline", "widehat", "widetilde", "underline", "overrightarrow"}
)
"""Commands that set a mark above or below a letter, which makes it another variable."""
ALPHABETS = frozenset({"mathcal", "mathbb", "mathfrak", "mathscr", "mathbf", "boldsymbol", "mathrm"})
"""Commands that set a letter in another alphabet."""
CALLED = frozenset("fghFGHPQ")
"""Letters that name functions: what follows in brackets is their argument, f(n+1), and no factor, as in x(n+1)."""
OPEN_CLOSE = {"(": ")", "[": "]", "{": "}"}
"""The closing bracket of each opening one."""
_NO_FACTOR = frozenset(
    [
        "\\rfloor",
        "\\rceil",
        "\\cdot",
        "\\times",
        "\\div",
        "\\mid",
        "\\bmod",
        "\\mod",
        "\\pmod",
        "\\right",
        "\\pm",
        "\\mp",
        "\\in",
        "\\cup",
        "\\infty_",
    ]
)


def tokenize(text: str) -> list[str]:
    """The tokens of a text, and an empty one behind the last. Raises ``UndecidedError`` for too many or long words."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        number, command, word, sign = match.groups()
        if word and len(word) > 1:
            tokens.extend(_letters(word))
        elif token := number or command or word or sign:
            tokens.append(token)
    if len(tokens) > MAX_TOKENS:
        raise UndecidedError
    return [*tokens, ""]


def _letters(word: str) -> list[str]:
    if word in _WORDS:
        return ["\\" + word]
    if len(word) > 3:
        raise UndecidedError
    return list(word)


def starts_factor(token: str) -> bool:
    """Whether a token begins a factor that is written without a sign before it."""
    if not token:
        return False
    if token[0] == "\\":
        return token not in _NO_FACTOR
    return token[0].isalnum() or token[0] == "." or token in ("(", "[", "{")


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


_BARE_ARGUMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"\\frac\s*(\d)\s*(\\?[A-Za-z]+)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\d)"), r"\1{\2}"),
    (re.compile(r"(\\binom)\s*(\d)\s*(\d)"), r"\1{\2}{\3}"),
)
"""LaTeX takes one digit where there are no braces."""


def with_braces(text: str) -> str:
    """The text with braces around each argument that is one digit or letter: ``\\frac12`` is ``\\frac{1}{2}``."""
    if "\\frac" in text or "\\sqrt" in text or "\\binom" in text:
        for pattern, replacement in _BARE_ARGUMENTS:
            text = pattern.sub(replacement, text)
    return text
