"""The parts of a response that may be programs: between tags, in fences, and bare among lines of prose.

Nothing here compiles, parses or evaluates the text: lines are looked at one by one, in time linear in its length
(patterns are possessive where they repeat).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Lines that may be the program."""

    lines: list[str]
    how: str
    """How it was offered: ``tagged``, ``fenced``, ``fenced_unclosed`` or ``bare``."""
    python: bool = False
    """Marked as Python."""
    closed: bool = True
    """Ends before the text does."""


# --- lines of Python ------------------------------------------------------------------------------------------------

# Repeated groups are not possessive: before Python 3.11.5 such a group gives up what it should keep (gh-106052).
TRIPLE = ('"""', "'''")
"""Quotes of strings that may have several lines."""
_TOKEN = re.compile(r"""\"\"\"|'''|"(?:[^"\\]++|\\.)*"?|'(?:[^'\\]++|\\.)*'?|#.*+|[(\[{]++|[)\]}]++|\\$""")
_STRING_END = {
    quote: re.compile(rf"(?:[^\\{quote[0]}]++|\\.|(?!{quote}){quote[0]})*{quote}") for quote in TRIPLE
}


class Nesting:
    """Whether the next line goes on with a string, a bracket or a backslash of the lines so far."""

    def __init__(self) -> None:
        self.quote = ""
        self.depth = 0
        self.joined = False

    @property
    def open(self) -> bool:
        """Whether a bracket or a string is open."""
        return bool(self.quote) or self.depth > 0 or self.joined

    def feed(self, line: str) -> None:
        """Takes in a line."""
        self.joined = False
        if not self.quote and not _TOKEN.search(line):
            return
        at: int | None = 0
        while at is not None:
            if self.quote:
                end = _STRING_END[self.quote].match(line, at)
                if end is None:
                    return
                self.quote, at = "", end.end()
            at = self._code(line, at)

    def _code(self, line: str, at: int) -> int | None:
        """Reads on outside of strings: to where a string over several lines begins, None at the end of the line."""
        for match in _TOKEN.finditer(line, at):
            token = match.group()
            if token in TRIPLE:
                self.quote = token
                return match.end()
            if token[0] in "([{":
                self.depth += len(token)
            elif token[0] in ")]}":
                self.depth = max(self.depth - len(token), 0)
            elif token == "\\":
                self.joined = True
        return None


def indent_of(line: str) -> int:
    """Spaces and tabs before the first character."""
    return len(line) - len(line.lstrip(" \t"))


def statement_starts(lines: Sequence[str]) -> Iterator[int]:
    """Indices of the lines on which a statement starts: no comments, nothing within brackets or strings."""
    nesting = Nesting()
    for index, line in enumerate(lines):
        code = line.lstrip(" \t")
        if code and code[0] not in "#)]}" and not nesting.open:
            yield index
        nesting.feed(line)


_BRANCH = re.compile(r"(?:else|elif|except|finally)\b")


def statements_of(lines: Sequence[str]) -> list[list[str]]:
    """The lines by top-level statement, each with its decorators and branches."""
    statements: list[list[str]] = []
    tops = {index for index in statement_starts(lines) if lines[index][0] not in " \t"}
    decorated = False
    for index, line in enumerate(lines):
        if not statements or (index in tops and not decorated and not _BRANCH.match(line)):
            statements.append([])
        statements[-1].append(line)
        if index in tops:
            decorated = line[0] == "@"
    return statements


STATEMENT = re.compile(
    r"""[ \t]*+(?:
      (?:async[ \t]++)?(?:def|class)[ \t]++\w++[ \t]*+[(:\[]
    | from[ \t]++[\w.]++[ \t]++import\b
    | import[ \t]++[\w.]++[ \t]*+(?:$|[,;\#]|as\b)
    | (?:async[ \t]++)?(?:if|elif|while|for|with|match|case|except)\b.*[:(\[{\\]
    | (?:else|try|finally|except)[ \t]*+:
    | (?:return|raise|yield|assert|global|nonlocal|del)\b
    | print[ \t]*+\(
    )""",
    re.VERBOSE,
)
_OTHER_CODE = re.compile(
    r"""[ \t]*+(?:[#)\]}]|@\w|[rRbBfFuU]{0,2}(?:\"\"\"|''')|(?:pass|break|continue)[ \t]*+(?:$|[;#])|\[.*\bfor\b)"""
)
_TARGET = re.compile(r"[ \t]*+(?:[^\W\d]|[(\[]|\*\w)")
_TWO_WORDS = re.compile(r"\w[ \t]++\w")
_CALL = re.compile(r"[ \t]*+[^\W\d][\w.]*+[(\[]")
_CALL_ENDS = tuple(")]}([{:,;\\\"'")


def is_code(line: str) -> bool:
    """Whether a line that starts a statement is Python rather than prose."""
    if STATEMENT.match(line) or _OTHER_CODE.match(line):
        return True
    target, equals, _ = line.partition("=")
    if equals and _TARGET.match(line) and not _TWO_WORDS.search(target.partition(":")[0]):
        return True
    return bool(_CALL.match(line)) and (line.rstrip().endswith(_CALL_ENDS) or "#" in line)


# --- blocks ---------------------------------------------------------------------------------------------------------

_PYTHON = frozenset({"python", "python2", "python3", "py", "py2", "py3", "pypy", "pypy3", "cpython", "sage"})
_UNMARKED = frozenset({"", "code", "text", "txt", "plain", "plaintext"})
"""Marks that say nothing of the language."""
_LANGUAGE = re.compile(r"[{. \t]*+([\w+#-]*+)")


@dataclass(frozen=True, slots=True)
class _Fence:
    column: int
    char: str
    length: int
    info: str

    @property
    def language(self) -> str:
        match = _LANGUAGE.match(self.info)
        return match[1].lower() if match else ""

    def closes(self, opening: _Fence) -> bool:
        """As in CommonMark: as long as the opening fence, with nothing after it, at most three columns further in."""
        return (
            self.char == opening.char
            and self.length >= opening.length
            and not self.info
            and self.column <= opening.column + 3
        )

    def reopens(self, opening: _Fence) -> bool:
        """A block that begins before the last one was closed; in Markdown it would be text of that block."""
        return self.char == opening.char and self.length >= opening.length and self.info.isalnum()


def _fence(line: str) -> _Fence | None:
    body = line.lstrip(" \t")
    if not body.startswith(("```", "~~~")):
        return None
    char = body[0]
    info = body.lstrip(char)
    if char == "`" and "`" in info:
        return None
    column = len(line[: len(line) - len(body)].expandtabs(4))
    return _Fence(column, char, len(body) - len(info), info.strip())


def _opening(line: str) -> _Fence | None:
    """The fence that a line outside of blocks opens: a line of its own, or ``… the code: ```python`` at its end."""
    fence = _fence(line)
    if fence is None and "```" in line:
        before, _, info = line.rpartition("```")
        words = before.rstrip("`")
        if info.strip().lower() in _PYTHON and "```" not in words:
            return _Fence(len(words), "`", len(before) - len(words) + 3, info.strip())
    return fence


class _Strings:
    """Which fences in a block are lines of a string over several lines, such as a docstring with an example.

    Such a fence does not end the block if the string ends further down and what follows there is code. Where the string
    never ends, or prose follows, its opening quotes were a slip, or the closing ones are another block's.
    """

    _LOOK_AHEAD = 400
    """Lines within which the string must end."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._last = {
            quote: next((i for i in range(len(lines) - 1, -1, -1) if quote in lines[i]), -1)
            for quote in TRIPLE
        }
        self._nesting: Nesting | None = None
        self._until = -1

    def begin(self, *, python_or_unmarked: bool) -> None:
        """A block begins after this line; in other languages quotes mean other things."""
        self._nesting = Nesting() if python_or_unmarked else None

    def reach_beyond(self, index: int, line: str, *, is_fence: bool) -> bool:
        """Told each line of a block: whether it is a fence, and nevertheless part of a string."""
        nesting = self._nesting
        if nesting is None:
            return False
        if is_fence and index > self._until:
            end = self._end_of_string(nesting.quote, index) if nesting.quote else None
            if end is None:
                return False
            self._until = end
        nesting.feed(line)
        return is_fence

    def _end_of_string(self, quote: str, index: int) -> int | None:
        """The line on which the string around a fence ends, if it is one."""
        if index >= self._last[quote]:
            return None
        rest = Nesting()
        rest.quote = quote
        for at in range(index, min(index + self._LOOK_AHEAD, len(self._lines))):
            line = self._lines[at]
            if quote in line:
                if _opens_docstring(self._lines, at, quote):
                    return None
                rest.feed(line)
                if not rest.quote:
                    return at if self._code_follows(at, quote) else None
        return None

    def _code_follows(self, at: int, quote: str) -> bool:
        """Whether the line on which a string ends, and the next one, are code."""
        tail = self._lines[at].rpartition(quote)[2].lstrip()
        if tail and tail[0].isalnum():
            return False
        following = next((line for line in self._lines[at + 1 : at + 20] if line.strip()), "")
        return not following or _fence(following) is not None or is_code(following)


def _opens_docstring(lines: Sequence[str], at: int, quote: str) -> bool:
    """Whether quotes stand behind the head of a definition: they begin a string rather than to end one."""
    return lines[at].lstrip(" \t").startswith(quote) and at > 0 and lines[at - 1].rstrip().endswith(":")


def fenced_blocks(lines: Sequence[str]) -> list[Block]:
    """Fenced blocks that are marked as Python or not marked, in order."""
    blocks: list[Block] = []
    opening: _Fence | None = None
    content: list[str] = []
    in_strings: set[int] = set()
    """Lines of the content that are fences, and do not count as such."""

    def end(closed: bool) -> None:
        if opening is not None and opening.language in _PYTHON | _UNMARKED:
            blocks.append(_fenced_block(opening, content, closed, in_strings))
        in_strings.clear()

    strings = _Strings(lines)
    for index, line in enumerate(lines):
        fence = _fence(line) if opening else _opening(line)
        if opening is None:
            opening, content = fence, []
            strings.begin(python_or_unmarked=fence is not None and fence.language in _PYTHON | _UNMARKED)
        elif strings.reach_beyond(index, line, is_fence=fence is not None):
            in_strings.add(len(content))
            content.append(line)
        elif fence is not None and fence.closes(opening):
            end(True)
            opening = None
        elif fence is not None and fence.reopens(opening):
            end(False)
            opening, content = fence, []
            strings.begin(python_or_unmarked=fence.language in _PYTHON | _UNMARKED)
        else:
            content.append(line)
    end(False)
    return blocks


def _fenced_block(opening: _Fence, content: list[str], closed: bool, in_strings: set[int]) -> Block:
    """The block; one that no line closes ends at a fence behind its last code, as in ``return x~~~``."""
    if not closed:
        mark = opening.char * opening.length
        for index, line in enumerate(content):
            if line.rstrip().endswith(mark) and index not in in_strings:
                content = [*content[:index], line.rstrip().rstrip(opening.char)]
                closed = True
                break
    python = opening.language in _PYTHON
    return Block(lines=content, how="fenced" if closed else "fenced_unclosed", python=python, closed=closed)


_TAG = re.compile(r"<code>|</code>|<exp>", re.IGNORECASE)


def tagged_blocks(lines: Sequence[str]) -> list[Block]:
    """What stands between ``<code>`` and ``</code>`` (DebugBench's format), as a whole and by the fences in it."""
    text = "\n".join(lines)
    blocks: list[Block] = []
    start: int | None = None

    def end(content: str, closed: bool) -> None:
        lines = content.strip("\n").split("\n")
        blocks.append(Block(lines=lines, how="tagged", closed=closed))
        blocks.extend(replace(block, how="tagged") for block in fenced_blocks(lines))

    for tag in _TAG.finditer(text):
        if tag.group().lower() == "<code>":
            start = tag.end()
        elif start is not None:
            end(text[start : tag.start()], True)
            start = None
    if start is not None:
        end(text[start:], False)
    return blocks


_UNIT = re.compile(r"(?:def|class|import|from|async)\b|@\w")


def bare_blocks(lines: Sequence[str]) -> list[Block]:
    """Runs of code among prose.

    A run goes on while lines are indented deeper than its first, or as deep and code (in an indented run: anything).
    Blank lines and comments belong to it if more code follows. A definition at the margin within a bracket begins a
    new run: the bracket was none, or never closed.
    """
    blocks: list[Block] = []
    run: list[str] = []
    size, base = 0, 0
    nesting = Nesting()
    for line in lines:
        code = line.lstrip(" \t")
        torn = nesting.open and not nesting.quote and _UNIT.match(line)
        if torn or not (run and nesting.open):
            if run and (not code or code[0] == "#"):
                run.append(line)
                continue
            indent = len(line) - len(code)
            goes_on = indent > base or (indent == base and (base > 0 or is_code(line)))
            if torn or not (run and goes_on):
                if run:
                    blocks.append(Block(lines=run[:size], how="bare"))
                run, base, nesting = [], indent, Nesting()
                if not code or not is_code(line):
                    continue
        run.append(line)
        size = len(run)
        nesting.feed(line)
    if run:
        blocks.append(Block(lines=run[:size], how="bare", closed=False))
    return blocks
