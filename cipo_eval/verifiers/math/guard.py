r"""Refuses answers that would cost symbolic mathematics forever, by looking at their text only.

A model can write ``9^{9^{9^9}}`` in a few characters. Such answers are wrong in every benchmark that this project
knows (golds are compared as text before the guard is asked), so they are refused without evaluation. What slips
through meets the worker pool's time and memory limits.
"""

from __future__ import annotations

import re

MAX_LENGTH = 1000
"""Characters of an answer that symbolic mathematics is asked about."""
MAX_DEPTH = 30
"""Nested brackets; parsers recurse."""
MAX_DIGITS = 400
MAX_EXPONENT = 9999
MAX_FACTORIAL = 3000

_BRACKETS = re.compile(r"[{}()\[\]]")
_DIGIT_RUN = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_EXPONENT = re.compile(r"(?:\^|\*\*)[\s{(+-]*(\d+)|[eE][+-]?(\d{4,})")
# A tower: an exponent that itself holds a power of numbers (2^{2^{n}} and e^{-x^2} are common and harmless).
_TOWER = re.compile(r"(?:\^|\*\*)[\s{(+-]*\d+[\s)}]*(?:\^|\*\*)[\s{(+-]*\d")
_FACTORIAL = re.compile(r"(\d+)\s*[)}\]]*\s*!")
_FACTORIAL_OF_POWER = re.compile(r"\^\s*\{?\s*\d+\s*\}?[\s)}\]]*!|!\s*[)}\]]+\s*!|!\s*!")
_BINOMIAL = re.compile(r"\\[dt]?binom[\s{]*(\d{7,})|\{\s*(\d{7,})\s*\\choose")


def too_heavy(text: str) -> bool:
    """Whether evaluating ``text`` might take seconds or gigabytes: length, nesting, huge digits, powers,
    factorials."""
    if len(text) > MAX_LENGTH or _DIGIT_RUN.search(text) or _too_deep(text):
        return True
    if any(int(match[1] or match[2]) > MAX_EXPONENT for match in _EXPONENT.finditer(text)):
        return True
    if "^" in text or "**" in text:
        towers = len(_TOWER.findall(text))
        if towers and (text.count("^") + text.count("**") > 2 or _tower_value(text) > MAX_EXPONENT):
            return True
    if "!" in text and (
        _FACTORIAL_OF_POWER.search(text)
        or any(int(match[1]) > MAX_FACTORIAL for match in _FACTORIAL.finditer(text))
    ):
        return True
    return bool(_BINOMIAL.search(text))


def _too_deep(text: str) -> bool:
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += 1 if match.group() in "{([" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _tower_value(text: str) -> int:
    """Largest b**c among the exponents of the form ``a^{b^c}``, capped well above the limit."""
    largest = 0
    for match in re.finditer(r"(?:\^|\*\*)[\s{(+-]*(\d+)[\s)}]*(?:\^|\*\*)[\s{(+-]*(\d+)", text):
        base, exponent = int(match[1]), int(match[2])
        if base > 1 and exponent > 64:
            return MAX_EXPONENT + 1
        largest = max(largest, base**exponent)
    return largest
