"""Commas between digits: thousands (``2,220``) or a list (``45,135``)?

Models and data sets write both. Three digits behind a comma are thousands unless they stand in brackets (points,
intervals, sets), or the whole answer is a list of angles that make up a half or a full turn; a group with a leading
zero is never an element of a list. ``compare`` tries the other reading of an answer where the gold speaks for it.
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import pairwise


class Commas(Enum):
    """How digits with commas are read."""

    AUTO = "auto"
    """As the rules above say."""
    JOIN = "join"
    """All are thousands."""
    SPLIT = "split"
    """All separate the items of a list."""


_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d])(?!,\d)")

_LAKHS = re.compile(r"(?<![\d.,])[1-9]\d?(?:,\d{2})+,\d{3}(?![\d])(?!,\d)")
"""Groups of two digits and a last one of three, as in India."""
_OTHERS = re.compile(r"(?<![\w.,'])[1-9]\d{0,2}(?:_\d{3}|'\d{3})+(?![\w'])")


def joined(text: str, commas: Commas) -> str:
    """``text`` with the commas of its thousands taken out."""
    if "_" in text or "'" in text:
        text = _OTHERS.sub(lambda match: re.sub("[_']", "", match[0]), text)
    if "," not in text:
        return text
    text = _LAKHS.sub(lambda match: match[0].replace(",", ""), text)
    spaced = ", " in text
    whole = _GROUPS.fullmatch(text.strip())

    def one(match: re.Match[str]) -> str:
        groups = match[0].split(",")
        if any(group[0] == "0" for group in groups[1:]):
            return match[0].replace(",", "")
        if commas is Commas.SPLIT:
            return match[0]
        if commas is Commas.AUTO and (
            _angles(groups) if whole else not spaced and _bracketed(text, match.start())
        ):
            return match[0]
        return match[0].replace(",", "")

    return _GROUPS.sub(one, text)


def ambiguous(text: str) -> bool:
    """Whether ``text`` holds digits with commas that may be a list as well as thousands."""
    return any(all(group[0] != "0" for group in match[0].split(",")[1:]) for match in _GROUPS.finditer(text))


def _bracketed(text: str, at: int) -> bool:
    depth = 0
    for char in text[:at]:
        depth += (char in "([") - (char in ")]")
    braces = text[:at].count("\\{") - text[:at].count("\\}")
    return depth > 0 or braces > 0


def _angles(groups: list[str]) -> bool:
    """Supplementary angles, or angles that are evenly spread over a turn."""
    numbers = [int(group) for group in groups]
    if len(numbers) == 2:
        return sum(numbers) == 180
    steps = {b - a for a, b in pairwise(numbers)}
    return len(steps) == 1 and numbers[-1] < 360 and steps.pop() > 0 and len(numbers) > 2
