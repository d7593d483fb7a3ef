"""Statements of problems, made comparable: two copies of one problem rarely agree in every character.

Nothing here decides what a problem means; a key is only for finding the same statement again.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_SPACES = re.compile(r"\s+")
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_MARKUP = re.compile(
    r"<br\s*/?>|\\begin\{(?:equation|align|center|gather)\*?\}|\\end\{(?:equation|align|center|gather)\*?\}"
    r"|\\(?:displaystyle|left|right|limits|quad|qquad|mathrm|textrm|text|operatorname|mathbf|textbf|emph|textit)"
    r"(?![A-Za-z])|\\[,;:!\s\[\]()&\\]"
)
_COMMANDS = re.compile(r"\\([dt])frac|\\(leq|geq|neq|dots|cdots|ldots)(?![A-Za-z])")
_SHORT = {"leq": "le", "geq": "ge", "neq": "ne", "dots": "dots", "cdots": "dots", "ldots": "dots"}
_DROPPED = re.compile(r"[\s${}~*_\"'`.,:;?!&\u200b\ufeff]+")
_WORD = re.compile(r"[^\W\d_]{3,}|\d+")
_NEAR, _WITHIN = 0.75, 0.9
_MANY = 15
"""Words below which a text within another one is no evidence."""
_WINDOW = 48
"""Characters of a key by which a statement is looked for in a longer text; shorter statements are not."""


def plain(text: str) -> str:
    """The text with its white space made one."""
    return _SPACES.sub(" ", text).strip()


def key(text: str) -> str:
    """What is left of a statement without spacing, punctuation, mathematics' delimiters and drawings; letters' case,
    digits, signs and commands stay."""
    text = unicodedata.normalize("NFKC", _DRAWING.sub(" ", text))
    text = text.replace("^\\circ", "°").replace("^{\\circ}", "°").replace("−", "-").replace("–", "-")
    text = text.replace("\\%", "%").replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    text = _MARKUP.sub(" ", text)
    text = _COMMANDS.sub(lambda match: "\\frac" if match[1] else "\\" + _SHORT[match[2]], text)
    return _DROPPED.sub("", text)


def likeness(first: str, second: str) -> float:
    """The share of the shorter text's words and numbers that the other one has too, 0 to 1."""
    one, other = words(first), words(second)
    fewer = min(one.total(), other.total())
    return (one & other).total() / fewer if fewer else 1.0


def is_near(first: str, second: str) -> bool:
    """Whether two texts are nearly the same: in what they have in common of both, or, one of them being longer by a
    table or a remark, of the shorter one."""
    one, other = words(first), words(second)
    common, sizes = (one & other).total(), (one.total(), other.total())
    return 2 * common >= _NEAR * max(sum(sizes), 1) or (
        min(sizes) >= _MANY and common >= _WITHIN * min(sizes)
    )


def words(text: str) -> Counter[str]:
    """The words of three letters and more, and the numbers, of a statement without its drawings."""
    return Counter(_WORD.findall(_DRAWING.sub(" ", text).casefold()))


class Contained:
    """Finds statements, by their keys, within longer texts: between instructions before and after."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._starts: dict[str, list[str]] = {}
        for statement in keys:
            if len(statement) >= _WINDOW:
                self._starts.setdefault(statement[:_WINDOW], []).append(statement)

    def find(self, text: str) -> Sequence[str]:
        """The keys within ``text``, which is a key itself, without those that lie within a longer one."""
        places: list[tuple[int, int, str]] = []
        for at in range(len(text) - _WINDOW + 1):
            for statement in self._starts.get(text[at : at + _WINDOW], ()):
                if text.startswith(statement, at):
                    places.append((at, at + len(statement), statement))
        outer = [
            (start, end, statement)
            for start, end, statement in places
            if not any(s <= start and end <= e and e - s > end - start for s, e, _ in places)
        ]
        return list(dict.fromkeys(statement for _, _, statement in outer))


def answer_key(text: str) -> str:
    """Equal for answers that are written alike or are the same number; empty where there is none."""
    bare = re.sub(r"[\s$]", "", text)
    number = as_number(bare)
    return bare if number is None else repr(number)


def as_number(text: str) -> float | None:
    """The finite number that a text is, None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
