"""What servers of OpenAI's protocol answer with, and what each of it means: the table of ``docs/engines.md``.

A reply is hostile input: nothing of it is believed that was not looked at. A completion is one text that ended by
itself (``stop``), at its token limit (``length``), or was withheld by the server (``content_filter``). All else is no
answer of the model's and raises ``Again``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cipo_eval.engines.chat import wellformed
from cipo_eval.engines.retries import Again
from cipo_eval.records import FinishReason

ENDS = {
    FinishReason.STOP: "stop eos eos_token stop_token stop_sequence stop_string end_turn complete completed",
    FinishReason.LENGTH: "length max_tokens max_length max_new_tokens max_completion_tokens max_output_tokens "
    "model_length model_context_window_exceeded token_limit",
    FinishReason.CONTENT_FILTER: "content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "refusal sensitive",
}
"""Our finish reasons, each with the words that servers have for it (in any case). Every other one (``error``,
``abort``, ``tool_calls``, ``function_call``, null, …) is no answer."""
_MEANING = {word: ours for ours, words in ENDS.items() for word in words.split()}
_WITHHELD = re.compile(
    r"content_?filter|content_policy|data_inspection_failed|content management policy|prompt_blocked",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context.{0,10}(length|size|window)|maximum context|max_model_len|max_total_tokens"
    r"|(prompt|input|inputs).{0,40}too (long|large)|too many (input )?tokens|max_new_tokens.{0,4} must be <=",
    re.IGNORECASE | re.DOTALL,
)
_CUT_OFF = re.compile(r"could not finish the message because max_tokens", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]{1,40}")
_MOST_PROMPT_TOKENS = 10**8
"""No context is longer."""
_MOST_BUILD = 60
"""Characters of the name of a build."""
_SPARE_TOKENS = 64
"""That a server may count beyond what was asked for or is written: end tokens and the like."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One completion of a server's."""

    text: str
    finish_reason: FinishReason
    """``STOP``, ``LENGTH`` or ``CONTENT_FILTER``."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    build: str = ""
    """What the reply names as its ``system_fingerprint``."""


class ErrorInside(Exception):  # noqa: N818  the engine decides
    """A reply of status 200 that holds an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def withheld(text: str) -> bool:
    """Whether an error says that the server's filter did not let the prompt or its completion pass."""
    return bool(_WITHHELD.search(text))


def too_long(text: str) -> bool:
    """Whether a refusal says that prompt and completion do not fit the model's context."""
    return bool(_TOO_LONG.search(text))


def cut_off(text: str) -> bool:
    """Whether an error says that the model came to the token limit before it had said anything (it thought)."""
    return bool(_CUT_OFF.search(text))


def error_name(text: str) -> str:
    """The name that a server's error has (``insufficient_quota``), where it has one."""
    try:
        error = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    error = error.get("error", error) if isinstance(error, dict) else error
    names = [error.get(key) for key in ("code", "type", "status")] if isinstance(error, dict) else []
    return next((name for name in names if isinstance(name, str) and _WORD.fullmatch(name)), "")


def printable_line(text: str) -> str:
    """One printable line of a text that somebody else wrote, at most 300 characters."""
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()


def json_object(content: bytes) -> dict[str, Any]:
    """Raises ``Again`` for what is not a JSON object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Again("the reply is not JSON", content[:200].decode("utf-8", "replace")) from error
    if not isinstance(value, dict):
        raise Again("the reply is not a JSON object")
    return value


def read_completions(reply: Mapping[str, Any], most: int, n: int = 1) -> list[Ended | None]:
    """The completions of a reply, which was asked for ``n`` of at most ``most`` tokens each, by their index; None for
    one of several that is no answer. A server that knows no ``n`` gives one, the first. Raises ``Again`` for any other
    number, or where the only one is no answer, and ``ErrorInside``."""
    choices = _choices(reply)
    if len(choices) == 1:
        return [_ended(choices[0], reply, most, alone=True)]
    if n == 1:  # which of them is the sample? a server that sorts them would bias it
        raise Again("the reply holds several completions where one was asked for", in_form=True)
    by_index = {index: c for c in choices if type(index := c.get("index")) is int}
    if len(choices) != n or by_index.keys() != set(range(n)):
        raise Again("the reply holds another number of completions than was asked for", in_form=True)
    ended: list[Ended | None] = []
    for index in range(n):
        try:
            ended.append(_ended(by_index[index], reply, most, alone=False))
        except Again:
            ended.append(None)
    return ended


def _choices(reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    _look_for_error(reply)
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
        raise Again("the reply holds no completion")
    return choices


def _ended(choice: Mapping[str, Any], reply: Mapping[str, Any], most: int, *, alone: bool) -> Ended:
    """One choice of a reply. ``alone``: the only one, so that what the reply counts as generated is its own."""
    reason = finish_reason(choice)
    text = wellformed(_text(choice, reason))
    used = reply.get("usage")
    used = used if isinstance(used, dict) else {}
    generated = used.get("completion_tokens") if alone else None
    completion_tokens = _count(generated, max(most, len(text.encode())) + _SPARE_TOKENS)
    build = reply.get("system_fingerprint")
    return Ended(
        text=text,
        finish_reason=reason,
        prompt_tokens=_count(used.get("prompt_tokens"), _MOST_PROMPT_TOKENS) or None,
        completion_tokens=None if text and not completion_tokens else completion_tokens,
        build=printable_line(build)[:_MOST_BUILD] if isinstance(build, str) else "",
    )


def finish_reason(choice: Mapping[str, Any]) -> FinishReason:
    """Ours for a choice's. Raises ``Again`` for one that is not the end of an answer."""
    word = choice.get("finish_reason")
    message = choice.get("message")
    if isinstance(message, dict) and (message.get("tool_calls") or message.get("function_call")):
        word = "tool_calls"  # some servers call it a stop
    reason = _MEANING.get(word.lower()) if isinstance(word, str) else None
    if reason is None:
        known = isinstance(word, str) and _WORD.fullmatch(word)
        name = str(word).lower() if known else "missing" if word is None else "unknown"
        raise Again(f"finish reason {name}", in_form=True)
    return reason


def _look_for_error(reply: Mapping[str, Any]) -> None:
    error = reply.get("error") or (reply if reply.get("object") == "error" else None)
    if not error:
        return
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    status = code if type(code) is int and 400 <= code < 600 else 500
    raise ErrorInside(status, json.dumps(error))


def _text(choice: Mapping[str, Any], reason: FinishReason) -> str:
    """What the model wrote, with the thoughts that the server took out of it as a ``<think>`` block: an open one where
    they are all there is before the limit. Raises ``Again`` where it is not a text."""
    message = choice.get("message")
    if not isinstance(message, dict):
        if isinstance(choice.get("text"), str):
            return str(choice["text"])
        if reason is FinishReason.CONTENT_FILTER:
            return ""
        raise Again("the reply holds no text", in_form=True)
    content, thoughts = _parts(message.get("content"))
    field = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(field, str):
        thoughts = field + thoughts
    if not content and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    filtered = reason is FinishReason.CONTENT_FILTER
    if not (content or thoughts or "content" in message or message.get("role") or filtered):
        raise Again("the reply holds no text", in_form=True)
    if not thoughts:
        return content
    if not content and reason is FinishReason.LENGTH:
        return f"<think>\n{thoughts}"
    return f"<think>\n{thoughts}\n</think>\n\n{content}"


def _parts(content: Any) -> tuple[str, str]:
    """Text and thoughts of a message's content: null, a text, or a list of parts. Raises ``Again`` for other things."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise Again("the content is not a text", in_form=True)
    text, thoughts = "", ""
    for part in content:
        if isinstance(part, str):
            text += part
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind in ("thinking", "reasoning"):
            thoughts += _words(
                next((part[k] for k in ("thinking", "reasoning", "text", "summary") if part.get(k)), "")
            )
        elif kind in ("text", "output_text", "refusal"):
            text += _words(part.get("refusal" if kind == "refusal" else "text"))
        elif kind not in ("redacted_thinking", "reference"):
            raise Again("the content has a part that is not a text", in_form=True)
    return text, thoughts


def _words(value: Any) -> str:
    """A text, or a list of texts and of parts that have one."""
    pieces = value if isinstance(value, list) else [value]
    parts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    texts = [piece for piece in parts if isinstance(piece, str)]
    if len(texts) < len(parts):
        raise Again("the content has a part that is not a text", in_form=True)
    return "".join(texts)


def _count(value: Any, most: int) -> int | None:
    """A number of tokens, if it can be one."""
    return value if type(value) is int and 0 <= value <= most else None
