"""The one place where messages become the text, and the tokens, that a model sees.

What stands in a message may be hostile: an attempt of an earlier turn, or another model's. Special tokens within a
message, and what a chat template writes between turns, are broken up, so that no text can end its own turn or begin
another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cipo_eval.engines.template import (
    DEFAULT,
    Message,
    Setting,
    between_turns,
    check_whole,
    source,
    templated,
)
from cipo_eval.records import Span, begun, fingerprint

CUT = "\n[… {} characters left out …]\n"
"""Stands for the middle of a carried attempt that was too long."""
_MARKS = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|</?s>|\[/?INST\]")
"""What a model behind a server may read as a token of its own, where no tokenizer here knows which those are."""
_FEWEST = 64
"""Characters of a carried attempt that stay at the least."""


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    setting: Setting = DEFAULT,
    *,
    carried: Sequence[Span] = (),
) -> tuple[str, bool]:
    """The prompt text, and whether the tokenizer must still add its special tokens.

    With a chat template: the template's text up to the assistant's header (the template writes the special tokens),
    or up to the end of an answer that the last message begins.
    A base model without one gets the contents, separated by blank lines. ``carried``: parts of the messages that a
    model said. Raises ``UsageError`` where the template rejects the messages, or leaves out what was asked.
    """
    text, special = _rendered(tokenizer, messages, setting)
    if not special:
        check_whole(text, messages, carried)
    return text, special


class Prompt(NamedTuple):
    """A prompt as an engine takes it."""

    ids: list[int]
    """Token ids."""
    left_out: int = 0
    """Characters of earlier attempts that had to go."""
    text: str = ""
    """What the tokens stand for."""
    begun: bool = False
    """It ends within the answer, which a completion goes on with."""

    @property
    def hash(self) -> str:
        """What it is known by: equal prompts have equal ones."""
        return fingerprint(self.text)


def encode(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    carried: Sequence[Span] = (),
    most: int | None = None,
    setting: Setting = DEFAULT,
) -> Prompt:
    """The rendered prompt. Raises as ``render`` does.

    Where it has more than ``most`` tokens, the parts ``carried`` of the messages lose as much of their middle as it
    takes, down to a few characters; what is around them stays whole.
    """
    whole = _encoded(tokenizer, *render(tokenizer, messages, setting, carried=carried))
    whole = whole._replace(begun=begun(messages) != "")
    if most is None or len(whole.ids) <= most or not carried:
        return whole

    def shorter(keep: int) -> Prompt:
        return _encoded(tokenizer, *_rendered(tokenizer, _cut(messages, carried, keep), setting))

    # characters that each of them keeps: so many fit, so many do not
    low, high = 0, max(span.end - span.start for span in carried)
    best, kept = shorter(_FEWEST), _FEWEST
    while high - low > max(1, high // 64):
        middle = (low + high) // 2
        prompt = shorter(middle)
        if len(prompt.ids) <= most:
            low, best, kept = middle, prompt, max(middle, _FEWEST)
        else:
            high = middle
    lost = sum(max(0, span.end - span.start - kept) for span in carried)
    return best._replace(left_out=lost, begun=whole.begun)


def shorten(text: str, keep: int) -> str:
    """A text without its middle, with a mark in its place: about ``keep`` characters of it stay."""
    keep = max(keep, _FEWEST)
    if len(text) <= keep:
        return text
    head = keep // 2
    return text[:head] + CUT.format(len(text) - keep) + text[len(text) - (keep - head) :]


def shortened(
    messages: Sequence[Message], carried: Sequence[Span], keep: int | None
) -> tuple[list[dict[str, str]], int]:
    """The messages with ``keep`` characters of each carried attempt (None: all), and how many characters went."""
    if keep is None:
        return [dict(message) for message in messages], 0
    kept = max(keep, _FEWEST)
    return _cut(messages, carried, kept), sum(max(0, span.end - span.start - kept) for span in carried)


def wellformed(text: str) -> str:
    """A text that can be encoded: half a surrogate pair, which JSON can hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def neutral(tokenizer: Any, content: str) -> str:
    """Content in which nothing is a special token or a mark of the chat template: a space breaks them up."""
    content, pattern = wellformed(content), _marks(tokenizer)
    while pattern and pattern.search(content):  # again: two that overlap
        content = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", content)
    return content


def harmless(text: str) -> str:
    """As ``neutral``, as far as it goes without a tokenizer: the usual marks."""
    while _MARKS.search(text):
        text = _MARKS.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    return text


def _rendered(tokenizer: Any, messages: Sequence[Message], setting: Setting) -> tuple[str, bool]:
    safe = [{**message, "content": neutral(tokenizer, message["content"])} for message in messages]
    if tokenizer.chat_template:
        return templated(tokenizer, safe, setting), False
    return "\n\n".join(message["content"] for message in safe), True


def _encoded(tokenizer: Any, text: str, special: bool) -> Prompt:
    return Prompt(list(tokenizer(text, add_special_tokens=special)["input_ids"]), text=text)


def _cut(messages: Sequence[Message], carried: Sequence[Span], keep: int) -> list[dict[str, str]]:
    cut = [dict(message) for message in messages]
    for at, start, end in sorted(carried, reverse=True):  # from the end, so that positions stay
        text = cut[at]["content"]
        cut[at]["content"] = text[:start] + shorten(text[start:end], keep) + text[end:]
    return cut


def _marks(tokenizer: Any) -> re.Pattern[str] | None:
    return _marks_of(tokenizer, source(tokenizer))


@lru_cache(maxsize=8)  # to list a tokenizer's added tokens takes a while, and there are many prompts
def _marks_of(tokenizer: Any, template: str) -> re.Pattern[str] | None:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in (*tokenizer.all_special_tokens, *(t for t in added if t.special))}
    special = {token for token in special if len(token) > 1}
    words = special.union(filter(_marking, between_turns(tokenizer)) if template else ())
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _marking(line: str) -> bool:
    """Whether a line looks like a mark (``[/INST]``, ``<|im_start|>user``, ``### Response:``), not like prose, which
    is anybody's."""
    return 2 < len(line) <= 60 and (line[0] in "<[{#|" or line[-1] in ">]}|:")
