"""Which characters figures can show: fonts that have what the usual one lacks, and names that no font has.

A name in Chinese or with an emoji is drawn with an installed font that has its characters; where there is none, it is
not drawn at all: boxes would look the same for all names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

USUAL = "DejaVu Sans"
_UNFIT = ("last resort", "lastresort", "color", "colour", "blank", "fallback outline")
"""Parts of names of fonts whose glyphs are boxes, or pictures that matplotlib cannot draw."""


def drawable(text: str) -> str:
    """A text without what has no shape of its own: joiners, and marks that choose the look of the character before."""
    kept = (char for char in text if not _shapeless(char))
    return "".join(char if char.isprintable() else "?" for char in kept)


def _shapeless(char: str) -> bool:
    return char in "\u200b\u200c\u200d\u2060\ufeff" or 0xFE00 <= ord(char) <= 0xFE0F


def families(texts: Iterable[str]) -> list[str]:
    """Names of fonts for matplotlib's ``font.family``: the usual one, then those that have what it lacks."""
    names = [USUAL]
    for char in sorted({char for text in texts for char in drawable(text)}):
        family = _family_with(char)
        if family and family not in names:
            names.append(family)
    return names


def lacking(text: str) -> str:
    """The characters of a text that no installed font has."""
    return "".join(dict.fromkeys(char for char in drawable(text) if _family_with(char) is None))


def not_drawable(names: Iterable[str]) -> Iterator[str]:
    """What to tell of each name that no installed font can show."""
    for name in dict.fromkeys(names):
        if chars := lacking(name):
            yield f"no installed font has {chars} of {name}: figures show a number in its place"


@cache
def _family_with(char: str) -> str | None:
    """The first family, the usual one before all others, that has a character."""
    if char.isascii() or char.isspace() or ord(char) in _characters(font_manager.findfont(USUAL)):
        return USUAL
    _read_new_fonts()
    entries = [entry for entry in font_manager.fontManager.ttflist if _fit(entry)]
    preferred = sorted(entries, key=lambda e: ("sans" not in e.name.lower(), e.name, e.fname))
    for entry in preferred:
        # What matplotlib draws is the file that it finds by the family's name.
        if ord(char) in _characters(entry.fname) and ord(char) in _characters(_file_of(entry.name)):
            return str(entry.name)
    return None


@cache
def _read_new_fonts() -> None:
    """Fonts that were installed after matplotlib wrote its list of them."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(Exception):  # whatever is wrong with somebody's font file, it is not needed
                font_manager.fontManager.addfont(path)


def _fit(entry: font_manager.FontEntry) -> bool:
    upright = entry.style == "normal" and entry.weight in (400, "normal", "regular", "book", "medium", 500)
    return upright and not any(part in entry.name.lower() for part in _UNFIT)


@cache
def _file_of(family: str) -> str:
    return str(font_manager.findfont(family))


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
