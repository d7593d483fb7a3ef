r"""What turns, data and verifiers share about texts: thinking and ``\boxed{…}``. Linear in the length of a text."""

from __future__ import annotations

import re
from collections import deque

_OPEN, _CLOSE = "<think>", "</think>"
_THINK = re.compile(r"</?think>")


def strip_think(text: str) -> str:
    """``text`` without its thinking: closed blocks, an unclosed block to the end of the text, and all that stands
    before a closing tag whose opening was part of the prompt.
    """
    kept: list[str] = []
    at, inside = 0, False
    for tag in _THINK.finditer(text):
        if not inside:
            kept.append(text[at : tag.start()])
        if tag.group() == _CLOSE and not inside:
            kept.clear()  # the opening tag was in the prompt
        inside = tag.group() == _OPEN
        at = tag.end()
    if not inside:
        kept.append(text[at:])
    return "".join(kept)


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


# --- boxes ---------------------------------------------------------------------------------------------------------

_BOX_TOKEN = re.compile(r"\\?(?:boxed|fbox)\s{0,8}\{|\\.|[{}]", re.DOTALL)
_BOX_BARE = re.compile(r"\\boxed\s{1,8}([^\s{}$\\]{1,40})")


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""All closed ``\boxed{…}`` and ``\fbox{…}`` that lie in no other box: (start, end, content), in order."""
    first = min((at for at in (text.find("boxed"), text.find("fbox")) if at >= 0), default=-1)
    if first < 0:
        return []
    found: list[tuple[int, int, str]] = []
    stack: list[tuple[bool, int, int]] = []
    for match in _BOX_TOKEN.finditer(text, max(first - 1, 0)):
        token = match.group()
        if token == "{":
            stack.append((False, 0, 0))
        elif token == "}":
            if stack:
                is_box, start, inner = stack.pop()
                if is_box:
                    while found and found[-1][0] > start:
                        found.pop()  # boxes within this one
                    found.append((start, match.end(), text[inner : match.start()].strip()))
        elif len(token) > 2:
            stack.append((True, match.start(), match.end()))
    return found


def has_open_box(text: str) -> bool:
    r"""Whether the last ``\boxed{`` never closes."""
    at = max(text.rfind("boxed{"), text.rfind("fbox{"))
    found = boxes(text[max(at - 1, 0) :]) if at >= 0 else []
    return at >= 0 and not found


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{…}``, ``\fbox{…}`` or ``\boxed 5``; None where there is none that closes.

    This is how the golds of MATH and Minerva stand in their solutions.
    """
    found = boxes(text)
    bare = last_match(_BOX_BARE, text)
    if bare is not None and (not found or bare.start() >= found[-1][1]):
        return bare[1].rstrip(".,;")
    return found[-1][2] if found else None
