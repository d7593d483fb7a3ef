"""Answers in words: yes and no, choices with their text, times, dates, numbers in words, "no solution"."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import atom, constant
from cipo_eval.verifiers.math.forms import Form, everything
from cipo_eval.verifiers.math.latex import CLOSE, OPEN
from cipo_eval.verifiers.math.wordnumber import in_words
from cipo_eval.verifiers.math.words import RefusedError

_ARTICLES = re.compile(r"\b(?:the|a|an|there (?:is|are)|it is|this is|exists?|of|on|at|in)\b\s*|[.,!()]")
_CHOICE_WORDS = re.compile(rf"(?:\(([A-H])\)\s*[.:]?|([A-H])[.):])\s*(?={OPEN})")
_OPTION = re.compile(r"(?:option|choice|answer)\s*\(?([A-H])\)?", re.IGNORECASE)
_DENIED = re.compile(
    r"\s*(?:is|are|was|does|do|can|cannot|isn't|doesn't|would|should|must|may|seems)\b.*\b"
    r"(?:not|never|no|impossible|wrong|incorrect|false|exist|excluded|cannot|isn't|doesn't|rejected|invalid)\b"
    r"|\s*(?:fails?|failed|rejected|excluded|eliminated)\b",
    re.IGNORECASE | re.DOTALL,
)
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s?m\.?", re.IGNORECASE)
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


def phrase(cleaned: str, bare: str) -> Form | None:
    """A verdict with its reason, a date, a time of day, or a choice with its text; None for anything else. ``bare`` is
    the cleaned answer without the marks of its words."""
    if match := _ASSENT.match(bare):
        return Form("words", match[1].lower())
    if match := _DATE.fullmatch(bare.lower()):
        month, day = match[1] or match[4], match[2] or match[3]
        return Form("words", f"date {_MONTHS[month]} {int(day)} {match[5] or ''}".strip())
    if match := _TIME.fullmatch(bare):
        return Form("time", f"{int(match[1])}:{match[2] or '00'} {match[3].lower()}m")
    if match := _OPTION.fullmatch(bare):
        return Form("value", match[1], atom(match[1]), choice=match[1])
    if match := _CHOICE_WORDS.match(cleaned):
        rest = cleaned[match.end() :].replace(OPEN, " ").replace(CLOSE, " ")
        if _DENIED.match(rest):
            raise RefusedError
        if not re.search(r"\(?[A-H]\)|\b(?:or|and)\s+[A-H]\b", rest):
            return replace(said_in_words(rest), choice=match[1] or match[2])
    return None


def said_in_words(text: str) -> Form:
    """What is nothing but words: a number, all real numbers, no solution, or the words themselves without articles,
    case and plural endings."""
    whole = in_words(text)
    number = _fraction_in_words(text) if whole is None else whole
    if number is not None:
        return Form("value", str(number), constant(number))
    bare = _ARTICLES.sub(" ", text.lower().replace("-", " "))
    singular = " ".join(word[:-1] if len(word) > 4 and word[-1] == "s" else word for word in bare.split())
    if singular in _EVERYTHING:
        return everything()
    return Form("set", "{}") if singular in ("no solution", "empty set") else Form("words", singular)


_PARTS_NAMES = "half third quarter fourth fifth sixth seventh eighth ninth tenth"
_PARTS = dict(zip(_PARTS_NAMES.split(), (2, 3, 4, 4, 5, 6, 7, 8, 9, 10), strict=True)) | {"halve": 2}


def _fraction_in_words(text: str) -> Fraction | None:
    """Two-thirds, three quarters, one half."""
    counted, _, part = text.lower().strip().replace("-", " ").rpartition(" ")
    size, count = _PARTS.get(part.removesuffix("s")), in_words(counted)
    return Fraction(count, size) if size and count is not None else None


def math_word(text: str) -> bool:
    """Whether letters are variables or functions rather than a word."""
    letters = text.replace(" ", "")
    return (
        len(letters) <= 3
        and not text.isupper()
        and " " not in text
        and letters.lower() not in ("yes", "no", "odd", "all")
    ) or letters in _MATH_WORDS


PLAIN_WORDS = re.compile(r"[A-Za-z]{2,20}'?(?:[ -][A-Za-z']{1,20}){0,30}\.?")
"""A text of words and nothing else."""
_MATH_WORDS = frozenset({"pi", "sqrt", "sin", "cos", "tan", "ln", "log", "e", "i", "inf", "infinity"})
