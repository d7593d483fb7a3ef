"""A checkpoint's chat template: what it makes of messages, which marks it sets, and how it ends a turn.

A template is a program that came with the weights, and templates differ: some take a message's content as a list of
parts, and leave a plain text out without a word; some write today's date. Here it is found out what a template takes,
and its clock stands still, so that equal messages are equal prompts on every day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import Span, begun

FIXED_CLOCK = datetime(2026, 1, 1, tzinfo=UTC)
"""What a template that asks for the time is told where nobody says otherwise (in training): the same every day."""

_CLOCK = "cipo_eval_clock"
# A macro of the template's own, since transformers hands no functions through. trim_blocks, which transformers sets,
# drops the line break at its end, so that the template after it is what it was.
_STRFTIME_NOW = (
    "{% macro strftime_now(format) %}{% set said = namespace(text=format) %}{% for code, value in "
    + _CLOCK
    + ".items() %}{% set said.text = said.text | replace(code, value) %}{% endfor %}{{ said.text }}{% endmacro %}\n"
)
_CODES = "aAbBcdeDfFgGhHIjklmMnpPrRsSTuUVwWxXyYzZC"
_PERCENT = "\ue002"
_SWITCHES = re.compile(r"/no_think|/think|/system_override")
"""Words that templates take out of messages, as switches of theirs (SmolLM3, Nemotron)."""

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a template is told besides messages."""

    variables: str = "{}"
    """JSON of the variables that it is told, such as ``enable_thinking``."""
    clock: datetime = FIXED_CLOCK
    """What ``strftime_now`` of the template goes by."""


DEFAULT = Setting()


def source(tokenizer: Any) -> str:
    """The template that prompts are made with; empty where the tokenizer has none.

    Raises ``UsageError`` for several of which none is the default.
    """
    if not tokenizer.chat_template:
        return ""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise UsageError(f"the model's chat template: {_said(error)}") from error


def dated(tokenizer: Any) -> bool:
    """Whether what the template writes depends on the time."""
    return "strftime_now" in source(tokenizer)


def templated(tokenizer: Any, messages: Sequence[Message], setting: Setting = DEFAULT) -> str:
    """The text of messages, up to the assistant's header; where the last message is the assistant's, up to the end of
    that, as transformers' ``continue_final_message`` has it. Raises ``UsageError`` where the template rejects them, or
    leaves the text of one out."""
    roles = tuple(message["role"] for message in messages)
    parts = takes_parts(tokenizer, roles, setting)
    if not begun(messages):
        return _rendered(tokenizer, messages, setting, parts=parts)
    # a mark in its place: what a template does with such a text (it takes thoughts out) must not depend on the text
    mark = _marked(roles)[-1]["content"]
    last = {**messages[-1], "content": mark}
    text = _rendered(tokenizer, [*messages[:-1], last], setting, parts=parts, reply=False)
    return text[: text.rindex(mark)] + messages[-1]["content"]


def takes_parts(tokenizer: Any, roles: tuple[str, ...], setting: Setting = DEFAULT) -> bool:
    """Whether contents must be lists of parts: a plain text is left out, or is an error.

    Raises ``UsageError`` where the template takes neither for messages of these roles.
    """
    return _takes_parts(tokenizer, source(tokenizer), roles, setting)


def check_whole(text: str, messages: Sequence[Message], carried: Sequence[Span] = ()) -> None:
    """Checks that a rendered text holds the texts of messages: raises ``UsageError`` where one is not there.

    Templates may trim a text; what they do with an assistant's (they drop its thoughts) is their business, and so is
    what a model said (``carried``): no attempt can make the prompt an error.
    """
    bare = ""
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            continue
        for piece in _around(message["content"], [span for span in carried if span.message == at]):
            if piece.strip() in text:
                continue
            bare = bare or _bare(text)
            if _bare(piece) not in bare:
                raise _left_out([message["role"]])


def check(tokenizer: Any, setting: Setting = DEFAULT) -> None:
    """Checks that a template renders a user's message, with a system message before it or without. Raises
    ``UsageError``."""
    if source(tokenizer):
        _first(tokenizer, (("user",), ("system", "user")), setting)


def between_turns(tokenizer: Any, setting: Setting = DEFAULT) -> list[str]:
    """What the template writes before, between and after turns, line by line; nothing if it takes no messages."""
    talk = ("user", "assistant", "user")
    try:
        roles = _first(tokenizer, (talk, ("system", *talk), ("user",), ("system", "user")), setting)
    except UsageError:
        return []
    turns = _marked(roles)
    pieces = re.split("|".join(turn["content"] for turn in turns), templated(tokenizer, turns, setting))
    return [line.strip() for piece in pieces for line in piece.splitlines()]


def turn_end(tokenizer: Any, setting: Setting = DEFAULT) -> int | None:
    """Id of the token that the template writes behind an assistant's last text; None where that is no token of its
    own. Fine-tuned models end their turns with it, whatever ``eos_token`` and ``generation_config.json`` say."""
    if not source(tokenizer):
        return None
    talk = ("user", "assistant")
    try:
        roles = _first(tokenizer, (talk, ("system", *talk)), setting)
        turns, parts = _marked(roles), takes_parts(tokenizer, roles, setting)
        text = _rendered(tokenizer, turns, setting, parts=parts, reply=False)
    except UsageError:  # a template for one turn
        return None
    after = text.partition(turns[-1]["content"])[2].lstrip()
    added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    end = max((token for token in added if token and after.startswith(token)), key=len, default=None)
    return None if end is None else added[end]


def _first(tokenizer: Any, conversations: Sequence[tuple[str, ...]], setting: Setting) -> tuple[str, ...]:
    """The roles of the first conversation that the template takes. Raises the ``UsageError`` of the first for none."""
    errors = []
    for roles in conversations:
        try:
            takes_parts(tokenizer, roles, setting)
        except UsageError as error:
            errors.append(error)
        else:
            return roles
    raise errors[0]


def _rendered(
    tokenizer: Any, messages: Sequence[Message], setting: Setting, *, parts: bool, reply: bool = True
) -> str:
    template = source(tokenizer)
    variables: dict[str, Any] = json.loads(setting.variables)
    if "strftime_now" in template:
        template = _STRFTIME_NOW + template
        variables[_CLOCK] = _codes(setting.clock)
    given = [
        {**message, "content": [_part(message["content"])] if parts else message["content"]}
        for message in messages
    ]
    try:
        text = tokenizer.apply_chat_template(
            given, chat_template=template, tokenize=False, add_generation_prompt=reply, **variables
        )
    except Exception as error:  # a program from elsewhere: whatever it does
        roles = [message["role"] for message in messages]
        hint = "; some take no --system-prompt" if "system" in roles else ""
        raise UsageError(
            f"the model's chat template rejects the messages ({', '.join(roles)}): {_said(error)}{hint}"
        ) from error
    return str(text)


@lru_cache(maxsize=64)  # by the roles of a conversation: a few for each tokenizer
def _takes_parts(tokenizer: Any, template: str, roles: tuple[str, ...], setting: Setting) -> bool:  # noqa: ARG001
    turns, errors = _marked(roles), []
    for parts in (False, True):
        try:
            text = _rendered(tokenizer, turns, setting, parts=parts)
        except UsageError as error:
            errors.append(error)
            continue
        lost = [turn["role"] for turn in turns if turn["content"] not in text]
        if not lost:
            return parts
        errors.append(_left_out(lost))
    raise errors[0]


def _part(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def _marked(roles: Sequence[str]) -> list[dict[str, str]]:
    """Messages whose contents are found again; not in a list that is printed as it is, where these characters are
    escaped."""
    return [{"role": role, "content": f"\ue000text {i}\ue001"} for i, role in enumerate(roles)]


def _left_out(roles: Sequence[str]) -> UsageError:
    named = " and ".join(dict.fromkeys(roles))
    hint = "; some take no --system-prompt" if "system" in roles else ""
    return UsageError(
        f"the model's chat template leaves out, or changes, the text of {named} messages, "
        f"whether it is given as a text or as a list of parts{hint}"
    )


def _around(content: str, spans: Sequence[Span]) -> list[str]:
    """What of a content is not within spans."""
    edges = [0, *(edge for span in sorted(spans) for edge in (span.start, span.end)), len(content)]
    return [
        content[start:end].encode("utf-8", "replace").decode("utf-8")
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _bare(text: str) -> str:
    """Without white space, which also breaks up marks in messages, and without switches."""
    return _SWITCHES.sub("", "".join(text.split()))


@lru_cache(maxsize=4)
def _codes(clock: datetime) -> dict[str, str]:
    """What each code of ``strftime`` stands for; a doubled percent sign is one that is no code."""
    codes = {"%%": _PERCENT}
    for letter in _CODES:
        for code in (f"%-{letter}", f"%{letter}"):
            codes[code] = clock.strftime(code)
    return {**codes, _PERCENT: "%"}


def _said(error: Exception) -> str:
    """One line of an error, with its type where the text alone says little."""
    from jinja2 import TemplateError

    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
    return first if isinstance(error, TemplateError) and first else f"{type(error).__name__}: {first}"
