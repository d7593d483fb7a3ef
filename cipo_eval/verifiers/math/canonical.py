r"""Normal forms of final answers: the first half of the verifier's fast path, without symbolic mathematics.

``form(text)`` reads an answer as a number, an exact expression (``algebra``), a tuple or interval, an unordered
collection, a matrix, an equation, a time or words. ``Form.canon`` is equal for answers with equal meaning, as far as
understood; ``compare`` decides about two forms.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

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
    constant,
    multiply,
    negate,
    variables,
)
from cipo_eval.verifiers.math.commas import Commas, joined
from cipo_eval.verifiers.math.latex import OPEN, ROW, clean, split_top, unbraced
from cipo_eval.verifiers.math.numeric import real, same
from cipo_eval.verifiers.math.reader import read, read_number, readings
from cipo_eval.verifiers.math.units import without_units
from cipo_eval.verifiers.math.wordnumber import in_words

MAX_LENGTH = 600
"""Longer answers are left to be compared as text."""
MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer says."""

    kind: str
    """``value``, ``tuple``, ``set``, ``matrix``, ``equation``, ``base``, ``time``, ``words``, ``refused`` (it says more
    than one thing, or denies what it says) or ``unknown``."""
    canon: str
    value: Value | None = None
    other: Value | None = None
    """The value in the other reading of ``1/2x``."""
    items: tuple[Form, ...] = ()
    brackets: str = ""
    """Of a tuple: ``()``, ``[]``, ``(]``, ``[)`` or ``::`` (a ratio)."""
    digits: int | None = None
    """Significant digits of a number written as a decimal or in e-notation; None where it is written exactly."""
    unit: Fraction = Fraction(0)
    """Place value of its last written digit."""
    cut: bool = False
    """Whether digits follow that are not shown (``3.14...``)."""
    percent: bool = False
    name: str = ""
    """Left side of ``x = 5``."""
    choice: str = ""
    """Letter of ``(B) 27``."""
    measure: str = ""
    """Words or letters behind a value that may be its unit."""
    condition: str = ""
    """Side condition: what follows ``when``, ``for``, ``where``."""
    bounded: bool = False
    """Whether an interval was written as an inequality."""
    modulus: str = ""
    """Of a residue, ``7 \\pmod{11}``."""


UNKNOWN = Form("unknown", "")

# --- numbers ------------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_DECIMAL = re.compile(r"([-+]?)([0-9]*)\.([0-9]*)(\.\.\.)?")
_SCIENTIFIC = re.compile(
    r"([-+]?)([0-9]*)\.?([0-9]*)(?:[eE]| ?\* ?10 ?\^ ?| ?\* ?10\*\*)(?:\{ ?([-+]? ?[0-9]{1,4}) ?\}|\(([-+]?[0-9]{1,4})\)|([-+]?[0-9]{1,4}))"
)
_FRACTION = re.compile(
    r"([-+]?)(?:\\frac\{(-?[0-9]{1,99})\}\{(-?[0-9]{1,99})\}|([0-9]{1,99}) ?/ ?([0-9]{1,99}))"
)
_MIXED = re.compile(
    r"([-+]?)([0-9]{1,99})(?: ?\\frac(?:\{([0-9]{1,99})\}\{([0-9]{1,99})\}|([0-9])([0-9]))| ([0-9]{1,99})/([0-9]{1,99}))"
)
_BASE = re.compile(
    r"\(?([0-9][0-9A-Fa-f]{0,98})\)?_\{?\(?\s*(?:base\s*)?([0-9]{1,2}|two|three|eight|ten|sixteen)\)?\s*\}?"
)
_BASES = {"two": "2", "three": "3", "eight": "8", "ten": "10", "sixteen": "16"}


def _number(text: str) -> Form | None:
    """A number in one of its usual writings, or None. ``text`` is clean."""
    if _INTEGER.fullmatch(text):
        value = int(text)
        return Form("value", str(value), constant(value))
    if match := _DECIMAL.fullmatch(text):
        sign, whole, decimals, more = match.groups()
        if (not whole and not decimals) or len(text) > 400:
            return None
        found = _decimal(sign, whole, decimals, 0)
        return replace(found, cut=True) if more else found
    if match := _SCIENTIFIC.fullmatch(text):
        sign, whole, decimals = match.group(1, 2, 3)
        exponent = int((match[4] or match[5] or match[6]).replace(" ", ""))
        if (whole or decimals) and abs(exponent) <= 1000 and len(text) <= 400:
            return _decimal(sign, whole, decimals, exponent)
        return None
    if match := _FRACTION.fullmatch(text):
        sign = -1 if match[1] == "-" else 1
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        return _exact(Fraction(sign * top, bottom)) if bottom else None
    if match := _MIXED.fullmatch(text):
        top, bottom = int(match[3] or match[5] or match[7]), int(match[4] or match[6] or match[8])
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


# --- reading ------------------------------------------------------------------------------------------------------

_MATRIX = re.compile(r"\\begin\{((?:p|b|v|small)?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{\1\}", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z]{2,20}'?(?:[ -][A-Za-z']{1,20}){0,30}\.?")
_ARTICLES = re.compile(r"\b(?:the|a|an|there (?:is|are)|it is|this is|exists?|of)\b\s*|[.,!()]")
_MATH_WORDS = frozenset({"pi", "sqrt", "sin", "cos", "tan", "ln", "log", "e", "i", "inf", "infinity"})
_SYMBOL = r"\\?[A-Za-z]{1,12}(?:_(?:\{[^{}]{1,20}\}|\w))?'{0,3}"
_NAME = re.compile(
    rf"{_SYMBOL}(?:\^\{{(?:\\prime)+\}}|(?<!e)\^\{{?[A-Za-z*]\}}?)?(?:\([A-Za-z0-9, ]{{1,12}}\))?|\\?[A-Z]{{1,4}}[A-Z_\d{{}}]{{0,6}}"
    r"|\([A-Za-z](?:,\s?[A-Za-z])*\)|\\(?:angle|triangle|overline|dot|hat|vec|mathbf|mathcal)[\s{}A-Za-z_\d]{1,30}"
    r"|\[[A-Z]{3,8}\]|\\(?:max|min|sup|inf|lim)(?:_\{[^{}]{1,20}\})?\s?\{?[A-Za-z]\}?(?:\([A-Za-z0-9, ]{1,12}\))?"
    r"|[A-Za-z]_?\{?\d?\}?:[A-Za-z]_?\{?\d?\}?|\|\s?[A-Z]{1,3}\s?\|"
)
_COMPOUND_NAME = re.compile(
    r"(?![-+])(?:[A-Za-z]|\\(?:frac|angle|triangle|alpha|beta|gamma|theta|lambda|mu|phi|omega|sigma|Delta|overline)(?![A-Za-z])"
    r"|_\{?\w{1,8}\}?|[-+*/(){}|' ])+"
)
_CHOICE = re.compile(r"\(\s?([A-H])\s?\)|([A-H])[.)]?")
_CHOICE_PREFIX = re.compile(r"(?:\(([A-H])\)|([A-H])(?:[.)](?=\s)|\)))\s*(?=[-.\d\\({])")
_CHOICE_WORDS = re.compile(rf"(?:\(([A-H])\)\s*[.:]?|([A-H])[.):])\s*(?={OPEN})")
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_RELATION = re.compile(r"(<=|>=|<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\lt(?![A-Za-z])|\\gt(?![A-Za-z]))")
_MEMBER = re.compile(r"^\\?[A-Za-z](?:_\{?\w\}?)?\s*(?:\\in(?![A-Za-z])|:)\s*")
_APPROX = re.compile(r"\\approx(?![A-Za-z])|\\sim(?![A-Za-z])")
_CONGRUENT = re.compile(r"\\equiv(?![A-Za-z])")
_MODULUS = re.compile(
    rf"\s*(?:\\p[mo]o?d(?![A-Za-z])\s*(?:\{{([^{{}}]{{1,40}})\}}|(\w))|\(\s*\\?[bp]?mod(?![A-Za-z])\s*([^()]{{1,40}})\)"
    rf"|\(?\s*{OPEN}\s*(?:mod|modulo)\s*.\s*([^()]{{1,40}}?)\)?)\s*$"
)


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
        found = _whole(cleaned, units=units, several=several)
    except words.RefusedError:
        return Form("refused", text_key(text))
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
        return _SPACE.sub("", words.plain(clean(text)))
    except UndecidedError:
        return _SPACE.sub("", text)


_SPACE = re.compile(r"(?<![0-9])\s+|\s+(?![0-9\s])")
"""All spaces but those between digits."""


def _without_unit(text: str, unit: str) -> str:
    """``text`` without the problem's own unit at its end."""
    own = re.sub(r"[\s${}]", "", unit).replace("^\\circ", "")
    if not own:
        return text
    plain = text.rstrip().rstrip("\ue002").rstrip()
    found = re.sub(r"\s*\ue001?\s*" + re.escape(own) + r"s?(?:\^\{?\d\}?)?$", "", plain)
    return found.rstrip() or text if found != plain else text


def _whole(cleaned: str, *, units: bool, several: bool) -> Form:
    """The form of a whole answer: times, choices and words first, then what stands beside side conditions."""
    bare = words.plain(cleaned).strip() if OPEN in cleaned else cleaned
    if match := _ASSENT.match(bare):
        return Form("words", match[1].lower())
    if match := _DATE.fullmatch(bare.lower()):
        month, day = match[1] or match[4], match[2] or match[3]
        return Form("words", f"date {_MONTHS[month]} {int(day)} {match[5] or ''}".strip())
    if match := _TIME.fullmatch(bare):
        return Form("time", f"{int(match[1])}:{match[2] or '00'} {match[3].lower()}m")
    if match := _CHOICE_WORDS.match(cleaned):
        rest = words.plain(cleaned[match.end() :])
        if not re.search(r"\(?[A-H]\)|\b(?:or|and)\s+[A-H]\b", rest):
            return replace(_said_in_words(rest), choice=match[1] or match[2])
    if words.only_words(cleaned) and bare != "\\infty":
        return _said_in_words(bare)
    if bare == "\\infty":
        cleaned = bare
    if both := _BOTH.fullmatch(cleaned):
        sides = [_read(side, units=units, several=several, depth=1) for side in both.groups()]
        if meeting := _intersection(sides):
            return meeting
    said = words.said(cleaned)
    found = _read(said.text, units=units, several=several, depth=0)
    return replace(found, condition=said.condition) if said.condition else found


_EVERYTHING = frozenset(
    {"all real number", "real number", "all real", "any real number", "every real number"}
)
_MONTHS_NAMES = "january february march april may june july august september october november december"
_MONTHS = {name: at for at, name in enumerate(_MONTHS_NAMES.split(), start=1)}
_ASSENT = re.compile(
    r"(yes|no|true|false)\s*(?:[,.;:](?!\s*(?:yes|no|true|false)\b)|\s+(?:because|since|as)\b)", re.IGNORECASE
)
"""A verdict with its reason: the reason does not count."""
_DATE = re.compile(
    rf"(?:({'|'.join(_MONTHS)})\s+(\d{{1,2}})|(\d{{1,2}})\s+(?:of\s+)?({'|'.join(_MONTHS)}))(?:\s*,?\s*(\d{{4}}))?"
)


_BOTH = re.compile(r"([^\ue001]*[<>lg][^\ue001]*)\ue001\s*and\s*\ue002([^\ue001]*[<>lg][^\ue001]*)")


def _intersection(sides: Sequence[Form]) -> Form | None:
    """``x > 2 and x <= 5`` is the interval (2, 5]."""
    if any(side.kind != "tuple" or not side.name or len(side.items) != 2 for side in sides):
        return None
    infinity = atom(INF).canon
    below = [side for side in sides if side.items[1].canon == infinity]
    above = [side for side in sides if side.items[0].canon == negate(atom(INF)).canon]
    if len(below) != 1 or len(above) != 1 or below[0].name != above[0].name:
        return None
    brackets = below[0].brackets[0] + above[0].brackets[1]
    return replace(_sequence([below[0].items[0], above[0].items[1]], brackets), name=below[0].name)


def _said_in_words(text: str) -> Form:
    number = in_words(text)
    if number is not None:
        return Form("value", str(number), constant(number))
    bare = _ARTICLES.sub(" ", text.lower().replace("-", " "))
    said = " ".join(word[:-1] if len(word) > 4 and word[-1] == "s" else word for word in bare.split())
    if said in _EVERYTHING:
        return _everything()
    return Form("set", "{}") if said in ("no solution", "empty set") else Form("words", said)


def _everything() -> Form:
    """The real numbers as an interval."""
    high = atom(INF)
    low = negate(high)
    return _sequence([Form("value", low.canon, low), Form("value", high.canon, high)], "()")


def _read(text: str, *, units: bool, several: bool, depth: int) -> Form:
    text = unbraced(text)
    if depth > 6 or not text:
        raise UndecidedError
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    if found := _number(text):
        return replace(found, percent=percent) if percent else found
    if text[-1:] == "°" and (found := _number(text[:-1].rstrip())):
        return replace(found, measure="degrees")
    if "\\begin" in text:
        return _matrix(text, depth)
    if (match := _BASE.fullmatch(text)) and (
        match[1].isdigit() or match[2] in ("11", "12", "13", "14", "15", "16")
    ):
        return Form("base", f"{match[1].upper().lstrip('0') or '0'}_{_BASES.get(match[2], match[2])}")
    found = _structure(text, units, several, depth)
    return replace(found, percent=True) if percent and found.kind == "value" else found


def _structure(text: str, units: bool, several: bool, depth: int) -> Form:
    def again(part: str, *, more: bool = False) -> Form:
        return _read(part, units=units, several=more, depth=depth + 1)

    if text in ("...", "\\ldots"):
        return Form("words", "...")
    if text in ("\\mathbb{R}", "\\mathbb R", "\\R"):
        return _everything()
    if match := _CHOICE.fullmatch(text):
        letter = match[1] or match[2]
        return Form("value", letter, atom(letter), choice=letter)
    if match := _CHOICE_PREFIX.match(text):
        return replace(again(text[match.end() :]), choice=match[1] or match[2])
    if _WORDS.fullmatch(text) and not _math_word(text):
        return _said_in_words(text)
    text = re.sub(r"(?<=[)\]}])\s*\^\s*(?:\{\s*(?:T|\\top|\\intercal)\s*\}|T|\\top)\s*$", "", text)
    parts = split_top(text, ",;")
    if len(parts) > 1:
        return _collection(parts, again)
    if OPEN in text:
        if words.only_words(text):
            return _said_in_words(words.plain(text))
        rest, lead = words.led(text)
        if rest != text:
            found = again(rest, more=several)
            return (
                replace(found, name=lead.lower()) if lead and ":" in text + "=" and _labels(text) else found
            )
    if ("\\p" in text or "mod" in text) and (match := _MODULUS.search(text)):
        return _residue(text[: match.start()], next(g for g in match.groups() if g), again)
    if (
        text.startswith("\\{")
        and text.endswith("\\}")
        and "\\{" not in text[2:]
        and (built := _BUILT.fullmatch(text[2:-2]))
    ):
        return again(built[2])
    if any(
        sign in text
        for sign in ("=", "<", ">", "\\le", "\\ge", "\\approx", "\\sim", "\\equiv", "\\ne", "\\lt", "\\gt")
    ):
        return _relation(text, again)
    if match := _MEMBER.match(text):
        return again(text[match.end() :], more=several)
    if match := _REALS_BUT.fullmatch(text):
        return _without_points([again(part) for part in split_top(match[1], ",")])
    pieces = re.split(r"\\cup(?![A-Za-z])", text)
    if len(pieces) > 1:
        return _unordered([again(piece) for piece in pieces])
    if found := _bracketed(text, again):
        return found
    if "\\pm" in text or "\\mp" in text:
        return _plus_minus(text, again)
    if ":" in text:
        sides = text.split(":")
        return _sequence([again(side) for side in sides], "::")
    return _expression(text, units, again)


def _labels(text: str) -> bool:
    """Whether the words before a value are a label, ``Rayna: 7``."""
    return bool(re.match(r"\s*\ue001[^\ue002]*\ue002\s*[:=]", text))


def _math_word(text: str) -> bool:
    letters = text.replace(" ", "")
    return (
        len(letters) <= 3
        and not text.isupper()
        and " " not in text
        and letters.lower() not in ("yes", "no", "odd", "all")
    ) or letters in _MATH_WORDS


def _expression(text: str, units: bool, again: Callable[..., Form]) -> Form:
    measure = ""
    if OPEN in text:
        text, measure = words.measured(text)
        if OPEN in text:
            raise UndecidedError
        if measure:
            return replace(again(text), measure=measure)
    stripped, letters = without_units(text, letters=units)
    if stripped != text:
        if found := _number(joined(stripped, Commas.JOIN)):
            return replace(found, measure=letters)
        text = stripped
    if "°" in text and "\\" not in text and "sin" not in text and "cos" not in text and "tan" not in text:
        text, letters = text.replace("°", ""), letters or "degrees"
    value, other = readings(text)
    return Form("value", value.canon, value, other=other, measure=letters)


def _residue(text: str, modulus: str, again: Callable[..., Form]) -> Form:
    r"""``7 \pmod{11}`` and ``x \equiv 7 \pmod{11}``: a class of integers."""
    sides = _CONGRUENT.split(text.replace("=", "\\equiv "))
    found: Form = again(sides[-1])
    if found.kind == "value" and found.value is not None and found.value.rational is not None:
        return replace(found, canon=f"{found.canon} mod {modulus.strip()}", modulus=read(modulus).canon)
    if found.kind in ("set", "tuple"):
        return found
    raise UndecidedError


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
        found: Form = again(inner, more=True)
        if found.kind == "set" and found.items:
            return found
        return Form("set", "{" + found.canon + "}", items=(found,))
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
        if text[0] == "(" and text[-1] == ")" and ("=" in inner or "\\pm" in inner or _number(inner.strip())):
            return again(inner)
        return None
    return _sequence([again(part) for part in parts], text[0] + text[-1])


def _plus_minus(text: str, again: Callable[..., Form]) -> Form:
    if len(re.findall(r"\\pm", text)) != 1:
        raise UndecidedError
    plus = again(text.replace("\\pm", "+").replace("\\mp", "-"))
    minus = again(text.replace("\\pm", "-").replace("\\mp", "+"))
    return _unordered([plus, minus])


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
        _sequence([_read(cell, units=False, several=False, depth=depth + 1) for cell in row], "[]")
        for row in rows
    ]
    canon = kind + "[" + ",".join(line.canon for line in lines) + "]"
    return Form("matrix", canon, items=tuple(lines), name=name)


# --- equations and inequalities -----------------------------------------------------------------------------------

NEAR = Fraction(1, 50)
"""What stands beside an approximation sign may differ by so much."""


def _relation(text: str, again: Callable[..., Form]) -> Form:
    """``x = 5`` is 5 with a name; an equation becomes its polynomial up to a factor; an inequality an interval. Sides
    that are different numbers contradict each other."""
    approximate = _APPROX.split(text)
    if len(approximate) > 1:
        return _approximate(approximate, again)
    if _CONGRUENT.search(text):
        text = _CONGRUENT.sub("=", text)
    if match := _MEMBER.match(text):
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
    return _without_points([point], name=sides[0])


def _without_points(points: Sequence[Form], name: str = "") -> Form:
    numbers = [(real(point.value), point) for point in points if point.value is not None]
    if len(numbers) != len(points) or any(number is None for number, _ in numbers):
        raise UndecidedError
    ends = [point for _, point in sorted(numbers, key=lambda pair: pair[0] or 0)]
    low, high = _everything().items
    bounds = [low, *ends, high]
    pieces = [_sequence([a, b], "()") for a, b in itertools.pairwise(bounds)]
    return replace(_unordered(pieces), name=name)


_REALS_BUT = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?\s*(?:\\setminus|\\backslash|-|\\)\s*\\\{(.*)\\\}")


def _is_name(side: str) -> bool:
    return (
        bool(_NAME.fullmatch(side)) and not _number(side) and side not in ("e", "i", "\\pi", "pi", "\\infty")
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
        found: Form = again(sides[-1])
        if name and found.value is not None and name in variables(found.value):
            difference = add(read(name), negate(found.value))  # x = 2x + 1
            return Form("equation", up_to_factor(difference), difference)
        return replace(found, name=found.name or name)
    forms = [again(side) for side in sides]
    values = [found.value for found in forms]
    if all(value is not None for value in values):
        known = [value for value in values if value is not None]
        agree = [same(known[-1], value) for value in known[:-1]]
        if all(agree):
            if any(variables(value) for value in known) and len(set(sides)) < len(sides):
                raise words.RefusedError  # 2x+1 = 2x+1 says nothing
            return forms[-1]
        if any(result is False for result in agree) and not any(variables(value) for value in known):
            raise words.RefusedError
        if len(sides) == 2:
            difference = add(known[0], negate(known[1]))
            return Form("equation", up_to_factor(difference), difference)
        raise UndecidedError
    if len({found.canon for found in forms}) == 1:
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
    a, b = real(first.value), real(last.value)
    if a is None and variables(first.value) and b is not None:
        return last
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
        name, bound, sign = _solved(terms, signs[0])
        return _interval([name, sign, bound], again)
    infinity = atom(INF)
    low = high = None
    if len(terms) == 3 and names == [False, True, False] and signs[0][0] == signs[1][0]:
        if signs[0][0] == ">":
            terms, signs = terms[::-1], [_FLIP[signs[1]], _FLIP[signs[0]]]
        low, high = again(terms[0]), again(terms[2])
        brackets = ("[" if "=" in signs[0] else "(") + ("]" if "=" in signs[1] else ")")
        return replace(_sequence([low, high], brackets), name=terms[1], bounded=True)
    if len(terms) == 2 and names in ([True, False], [False, True]):
        sign = signs[0] if names[0] else _FLIP[signs[0]]
        bound = again(terms[1] if names[0] else terms[0])
        name = terms[0] if names[0] else terms[1]
        closed = "=" in sign
        if sign[0] == ">":
            found = _sequence([bound, Form("value", infinity.canon, infinity)], "[)" if closed else "()")
            return replace(found, name=name, bounded=True)
        lowest = negate(infinity)
        return replace(
            _sequence([Form("value", lowest.canon, lowest), bound], "(]" if closed else "()"),
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
    return name, str(bound), sign if factor > 0 else _FLIP[sign]
