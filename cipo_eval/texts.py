r"""What turns, data and verifiers share about texts: thinking and ``\boxed{…}``. Linear in the length of a text."""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

# --- thinking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkTags:
    """How a family of models marks its thoughts."""

    start: str
    end: str
    """What stands between thoughts and answer."""
    special: bool = False
    """No text contains them by chance: they count wherever they stand. Other words in brackets begin thoughts only at
    the beginning of a text or of a line."""
    any_case: bool = False

    @property
    def closing(self) -> str:
        """What is put into a model's mouth where its thoughts are too long."""
        return self.end if self is _HARMONY else f"\n{self.end}\n\n"


def _word(name: str) -> ThinkTags:
    return ThinkTags(start=f"<{name}>", end=f"</{name}>", any_case=True)


_HARMONY = ThinkTags(
    start="<|channel|>analysis<|message|>",
    end="<|end|><|start|>assistant<|channel|>final<|message|>",
    special=True,
)
THINK_TAGS = (
    ThinkTags(start="<think>", end="</think>", special=True),  # DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax, Phi-4
    ThinkTags(start="[THINK]", end="[/THINK]"),  # Magistral
    _HARMONY,  # gpt-oss: every channel but `final`
    *map(
        _word, ("thinking", "thought", "thoughts", "reasoning", "inner_thoughts", "scratchpad")
    ),  # EXAONE Deep, …
    ThinkTags(start="<seed:think>", end="</seed:think>", special=True),  # Seed-OSS
    ThinkTags(start="<longcat_think>", end="</longcat_think>", special=True),
    ThinkTags(start="<|START_THINKING|>", end="<|END_THINKING|>", special=True),  # Command A
    ThinkTags(start="<|begin_of_thought|>", end="<|end_of_thought|>", special=True),  # Sky-T1, OpenThinker
    ThinkTags(start="<|inner_prefix|>", end="<|inner_suffix|>", special=True),  # Apertus
    ThinkTags(start="◁think▷", end="◁/think▷", special=True),  # Kimi
    ThinkTags(start="<|channel>", end="<channel|>", special=True),  # Gemma 4
    ThinkTags(start="<unused94>", end="<unused95>", special=True),  # MedGemma
)
"""All marks of thoughts that are known: for extraction, for what later turns see, and for the thinking budget."""
STRIP, KEEP = "strip", "keep"
"""Values of ``think``; the third kind of value is a pair of tags, ``START END``."""
_HARMONY_HEADER = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?P<channel>[^<]{1,80})(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
)
_HARMONY_END = r"<\|(?:end|return|call)\|>"
_HARMONY_BARE = re.compile(r"\s*+analysis(?=[A-Z])"), "assistantfinal"
"""gpt-oss where somebody has dropped the special tokens: ``analysisWe have …assistantfinalThe answer …``."""
_TAG = r"[<\[◁][^<>\[\]◁▷\s]{1,24}[>\]▷]"
_TAG_BEGINS = "<[◁"
_FENCE = r"`{3,}|~{3,}"
_BLANK = re.compile(r"(?:\s++|<\|[a-z_]{1,20}\|>(?:assistant\b)?|<s>)*")
_QUOTES = frozenset("\"'`")
_NEAR = 400
"""Characters of control tokens and white space that may stand before the beginning of a text."""
_PASSES = 4
"""Times that a text is looked through for tags that came together; after that, all tags that are left are dropped."""


class _Tags:
    """A table of tags, ready to look for."""

    def __init__(self, table: Sequence[ThinkTags]) -> None:
        self.of = {
            word: (tags, word == tags.start) for tags in reversed(table) for word in (tags.start, tags.end)
        }
        self.of_lower = {word: entry for word, entry in self.of.items() if entry[0].any_case}
        own = [re.escape(word) for word in self.of if word not in _known_words()]
        harmony = [f"(?P<header>{_HARMONY_HEADER.pattern})", f"(?P<ended>{_HARMONY_END})"]
        parts = [*own, *(harmony if _HARMONY in table else ()), _TAG]
        first = "".join({re.escape(word[0]) for word in self.of} | {"<"})
        self._begin = tuple(
            {case for word in self.of for case in (word[0].lower(), word[0].upper())} | {*_TAG_BEGINS}
        )
        self._candidates = re.compile("|".join((*own, _TAG)))
        self._hints = {*self.of, *(("<|channel|>",) if _HARMONY in table else ())}
        self.tokens = re.compile(f"(?=[{first}`~])(?:{'|'.join(parts)}|(?P<fence>{_FENCE}))")

    def meaning(self, token: re.Match[str]) -> tuple[ThinkTags, bool] | None:
        """The tags that a token belongs to, and whether it begins thoughts; None for other tokens."""
        if token.lastgroup == "header":
            return _HARMONY, not token["channel"].strip().startswith("final")
        word = token.group()
        return self.of.get(word) or self.of_lower.get(word.lower())

    def _may_be_tag(self, word: str) -> bool:
        return word in self._hints or word.lower() in self.of_lower

    def stripped(self, text: str) -> str:
        """The text without thoughts; what it has given stays as it is."""
        for _ in range(_PASSES):
            text = _without_bare_harmony(text)
            if not any(first in text for first in self._begin):
                return text
            if not any(map(self._may_be_tag, self._candidates.findall(text))):
                return text
            before, text = text, _Pass(self, text).run()
            if text == before:
                return text
        text = self.tokens.sub(lambda token: " " if self.meaning(token) else token.group(), text)
        return "" if _HARMONY_BARE[0].match(text) else text


def _known_words() -> set[str]:
    """Of tags that the general pattern of tags finds."""
    return {word for tags in THINK_TAGS for word in (tags.start, tags.end)}


class _Pass:
    """One pass through a text: what is kept so far, and where in it we are."""

    def __init__(self, tags: _Tags, text: str) -> None:
        self._tags, self._text = tags, text
        self._kept: list[str] = []
        self._at = 0
        self._blank = True  # nothing but control tokens is kept so far
        self._inside: ThinkTags | None = None
        self._fence = ""
        self._harmony = False
        self._passed: set[str] = set()
        """Whose beginning was passed over: their end is not the end of thoughts that began in the prompt."""

    def run(self) -> str:
        for token in self._tags.tokens.finditer(self._text):
            if token.lastgroup == "fence":
                self._meet_fence(token)
            elif token.lastgroup == "ended":
                self._end_message(token)
            elif meaning := self._tags.meaning(token):
                (self._open if meaning[1] else self._close)(meaning[0], token)
        if not self._kept and self._at == 0 and self._inside is None:
            return self._text
        if self._inside is None:
            self._kept.append(self._text[self._at :])
        return "".join(self._kept)

    def _open(self, tags: ThinkTags, token: re.Match[str]) -> None:
        if self._inside is not None:
            return
        if self._quote(token.start() - 1, -1) or not self._may_stand(tags, token):
            self._passed.add(tags.start)
            return
        self._enter(tags, token.start())

    def _close(self, tags: ThinkTags, token: re.Match[str]) -> None:
        before, after = self._quote(token.start() - 1, -1), self._quote(token.end(), 1)
        if self._inside is not None:
            if tags is self._inside and not (before and before == after):
                self._inside, self._at = None, token.end()
            return
        if after or not self._began_in_prompt(tags, token):
            return
        self._harmony |= tags is _HARMONY
        self._kept.clear()
        self._at, self._fence, self._blank = token.end(), "", True
        self._passed.clear()

    def _began_in_prompt(self, tags: ThinkTags, token: re.Match[str]) -> bool:
        """Whether an end without a beginning is one of thoughts."""
        if self._fence:
            return (
                tags.special and tags.start not in self._passed and not self._line_after(token.end()).strip()
            )
        if tags.special:
            return True
        before = self._line_before(token.start())[-1:]
        ends_words = not before or before.isspace() or before.isalnum() or before in ".?!)]$*:,;。"
        return ends_words and tags.start not in self._passed

    def _end_message(self, token: re.Match[str]) -> None:
        """In the format of gpt-oss a message ends; what follows is thought until its header says otherwise."""
        if self._harmony and self._inside is None:
            self._enter(_HARMONY, token.start())

    def _enter(self, tags: ThinkTags, start: int) -> None:
        piece = self._text[self._at : start]
        self._blank = self._blank and len(piece) <= _NEAR and _BLANK.fullmatch(piece) is not None
        self._kept.append(piece)
        self._harmony |= tags is _HARMONY
        self._inside = tags

    def _meet_fence(self, token: re.Match[str]) -> None:
        """Tags in a block of code are part of the code."""
        if self._inside is not None or self._line_before(token.start()).strip(" \t"):
            return
        mark = token.group()
        if not self._fence:
            self._fence = mark
        elif mark[0] == self._fence[0] and len(mark) >= len(self._fence):
            rest = self._line_after(token.end()).strip()
            if not rest or rest.startswith("<"):
                self._fence = ""

    def _may_stand(self, tags: ThinkTags, token: re.Match[str]) -> bool:
        """Whether thoughts may begin here."""
        line = self._line_before(token.start())
        if self._fence:
            return tags.special and not line.strip(" \t") and not self._line_after(token.end()).strip()
        if tags.special or not line.strip():
            return True
        piece = self._text[self._at : min(token.start(), self._at + _NEAR + 1)]
        return self._blank and len(piece) <= _NEAR and _BLANK.fullmatch(piece) is not None

    def _line_before(self, at: int) -> str:
        """Up to 40 characters that are kept before a place, on its line."""
        start = max(self._at, at - 40)
        line = self._text[start:at]
        if start == self._at and self._kept:
            line = self._kept[-1][-40:] + line
        return line.rpartition("\n")[2]

    def _line_after(self, at: int) -> str:
        return self._text[at : at + 40].partition("\n")[0]

    def _quote(self, at: int, step: int) -> str:
        """The quotation mark at a place, if it is a single one: three of them are a fence."""
        mark = self._text[at] if 0 <= at < len(self._text) else ""
        beyond = at + step
        doubled = 0 <= beyond < len(self._text) and self._text[beyond] == mark
        return mark if mark in _QUOTES and not doubled else ""


def _without_bare_harmony(text: str) -> str:
    if not _HARMONY_BARE[0].match(text):
        return text
    return text.rpartition(_HARMONY_BARE[1])[2] if _HARMONY_BARE[1] in text else ""


@functools.lru_cache(maxsize=16)
def _tags(think: str) -> _Tags:
    return _Tags(think_tags(think))


def think_tags(think: str) -> tuple[ThinkTags, ...]:
    """The tags that a value of ``think`` means: ``strip`` all that are known; a pair itself, and the ``<think>`` in
    which thoughts from servers are kept. Raises ``ValueError`` for what is neither, nor ``keep``."""
    if think == KEEP:
        return ()
    if think == STRIP:
        return THINK_TAGS
    pair = think.split()
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ValueError("strip, keep, or the two tags between which thoughts stand: '<plan> </plan>'")
    return (ThinkTags(start=pair[0], end=pair[1], special=True), THINK_TAGS[0])


def strip_think(text: str, think: str = STRIP) -> str:
    """``text`` without its thoughts: closed blocks, an unclosed block to the end of the text, and all that stands
    before a closing tag whose opening was part of the prompt. ``think``: see ``think_tags``.

    Tags in quotes and in fenced code are what a text is about, not what it thinks.
    """
    return text if think == KEEP else _tags(think).stripped(text)


def open_thoughts(prompt: str, said: str, think: str = STRIP) -> ThinkTags | None:
    """The tags of thoughts that have begun, at the end of the prompt or the beginning of what was said, and have no
    end; None where there are none."""
    prompt, said = prompt[-_NEAR:].rstrip(), said.lstrip()
    for tags in think_tags(STRIP if think == KEEP else think):
        if prompt.endswith(tags.start) or said.startswith(tags.start):
            ended = any(header["channel"].strip() == "final" for header in _HARMONY_HEADER.finditer(said))
            return None if (ended if tags is _HARMONY else tags.end in said) else tags
    return None


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


# --- where an answer ends ------------------------------------------------------------------------------------------

_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_of_text|endofmask|file_sep|repo_name|fim_\w{1,9}"
    r"|end|return|user|assistant|eom_id|endofprompt)\|>|<(?:start|end)_of_turn>"
)
_ROLE = re.compile(r"(?:assistant|model)\b[ \t]*+(?:<\|end_header_id\|>)?\s*+")
_NAMES_A_ROLE = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>")
# The words under which prompts put a question. Those that talk to somebody are never a heading of an answer.
_QUESTION = (
    r"(?=[ \t#*>\[huiqnaspe问题用])[ \t]{0,3}(?P<mark>#{1,6}[ \t]*|\*{1,2}|>[ \t]*)?(?:"
    r"(?P<turn>Human|User|Instructions?|Q)"
    r"|(?P<heading>(?:(?:Next|New|Another)[ \t])?(?:(?:Sub-?)?Problem|Question|Exercise))"
    r"|(?P<example>Example)|(?P<chinese>问题|题目|用户)|(?P<inst>\[INST\]))"
    r"(?:[ \t]?(?P<number>\d{1,4}))?\*{0,2}[ \t]*(?P<end>[:：]|\.(?=[ \t])|\)(?=[ \t])|$|(?<=\]))"
)
_FIRST_LINE = re.compile(_QUESTION, re.MULTILINE | re.IGNORECASE)
_NEXT_LINE = re.compile("\\n" + _QUESTION, re.MULTILINE | re.IGNORECASE)


def own_turn(text: str) -> str:
    """What a model said in its own turn: up to the control token that ends it, without those that begin it."""
    at = 0
    while token := _CONTROL.match(text, at):
        role = _ROLE.match(text, token.end())
        if role is None and token.group() in _NAMES_A_ROLE:
            return ""  # another turn
        at = role.end() if role else token.end()
    ends = _CONTROL.search(text, at)
    return text[at : ends.start() if ends else None]


def next_questions(text: str) -> Iterator[re.Match[str]]:
    """The end of a line behind which, at the margin, another question may begin: a prompt's word for one
    (``Problem:``, ``Q:``, ``Human:``, ``### Instruction``). Base models run on like that once they have answered. Parts
    that an answer counts from 0 or 1 on are its own."""
    counted: set[str] = set()
    for question in chain(filter(None, (_FIRST_LINE.match(text),)), _next_lines(text)):
        word = (
            question["turn"] or question["heading"] or question["example"] or question["chinese"] or ""
        ).lower()
        number = question["number"]
        if not question["end"] and not question["inst"] and not (question["mark"] or "").strip():
            continue  # a word alone on its line
        if number in ("0", "1"):
            counted.add(word)
        if word in counted or (question["example"] and not number):
            continue
        yield question


def _next_lines(text: str) -> Iterator[re.Match[str]]:
    """``_NEXT_LINE.finditer``, which looks at every character, where only ends of lines can match."""
    at = text.find("\n")
    while at >= 0:
        question = _NEXT_LINE.match(text, at)
        if question:
            yield question
        at = text.find("\n", question.end() if question else at + 1)


# --- boxes ---------------------------------------------------------------------------------------------------------

_BOX_OPEN = re.compile(r"\\?(?:boxed|fbox)\s{0,8}\{")
_BOX_BARE = re.compile(r"\\boxed\s{1,8}([^\s{}$\\]{1,40})")
_BRACE = re.compile("[{}]")
_CHUNK = 1024
"""Characters that are counted at once."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""All closed ``\boxed{…}`` and ``\fbox{…}`` that lie in no other box: (start, end, content), in order."""
    begin = text.find("box")
    if begin < 0:
        return []
    if begin and text[begin - 1] == "f":
        begin -= 1
    while begin and text[begin - 1] == "\\":  # of a run of backslashes two and two belong together
        begin -= 1
    masked = text[begin:]
    if "\\" in masked:
        masked = masked.replace("\\\\", "\0\0").replace("\\{", "\0\0").replace("\\}", "\0\0")
    places: list[tuple[int, int, int]] = []
    at = 0
    while opening := _next_opening(masked, at):
        end = _closing_brace(masked, opening.end())
        if end is None:
            places += _boxes_after_an_open_one(masked, opening.end())
            break
        places.append((opening.start(), opening.end(), end))
        at = end + 1
    return [
        (begin + start, begin + end + 1, text[begin + inner : begin + end].strip())
        for start, inner, end in places
    ]


def _next_opening(masked: str, at: int) -> re.Match[str] | None:
    """The next box that opens. Most of a text holds none: that is left to the search for a word."""
    word = masked.find("box", at)
    return _BOX_OPEN.search(masked, max(word - 2, at)) if word >= 0 else None


def _closing_brace(masked: str, at: int) -> int | None:
    """Where the brace closes that is open at a place; None where it does not. What cannot hold it is only counted."""
    first = masked.find("}", at)
    if masked.find("{", at, first) < 0:  # also where no brace closes any more
        return first if first >= 0 else None
    depth = 1
    while at < len(masked):
        end = at + _CHUNK
        closing = masked.count("}", at, end)
        if closing < depth:
            depth += masked.count("{", at, end) - closing
            at = end
            continue
        for brace in _BRACE.finditer(masked, at, end):
            depth += 1 if brace.group() == "{" else -1
            if not depth:
                return brace.start()
        at = end
    return None


def _boxes_after_an_open_one(masked: str, at: int) -> list[tuple[int, int, int]]:
    """(start, start of the content, its end) of the boxes behind one that never closes. Depths are computed once, for
    all braces: of many boxes that do not close none is looked through."""
    import numpy as np

    codes = np.frombuffer(masked[at:].encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    depth = np.cumsum((codes == ord("{")).astype(np.int32) - (codes == ord("}")).astype(np.int32))
    lowest = np.minimum.accumulate(depth[::-1])[::-1]
    closes = lowest < depth
    places: list[tuple[int, int, int]] = []
    place = at
    while opening := _next_opening(masked, place):
        place = opening.end()
        if closes[place - 1 - at] and (end := _closing_brace(masked, place)) is not None:
            places.append((opening.start(), opening.end(), end))
            place = end + 1
    return places


def has_open_box(text: str) -> bool:
    r"""Whether the last ``\boxed{`` never closes."""
    at = max(text.rfind("boxed{"), text.rfind("fbox{"))
    return at >= 0 and not boxes(text[max(at - 1, 0) :])


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{…}``, ``\fbox{…}`` or ``\boxed 5``; None where there is none that closes.

    This is how the golds of MATH and Minerva stand in their solutions.
    """
    closed = boxes(text)
    bare = last_match(_BOX_BARE, text)
    if bare is not None and (not closed or bare.start() >= closed[-1][1]):
        return bare[1].rstrip(".,;")
    return closed[-1][2] if closed else None
