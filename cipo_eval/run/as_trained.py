"""A checkpoint of a training is asked as its training asked it, unless a run says otherwise."""

from __future__ import annotations

from collections.abc import Callable

from cipo_eval.engines import conversation, registry
from cipo_eval.run.request import RunRequest

_OPTIONS = {"enable_thinking": "enable_thinking", "kwargs": "chat_template_kwargs"}
"""Options of engines by the fields of ``Chat``; the template itself is in the checkpoint's tokenizer."""


def as_trained(request: RunRequest, warn: Callable[[str], None]) -> RunRequest:
    """The request, with what the model's training remembers of its chat in place of what the request leaves open.

    ``warn`` hears where the request says something else. Raises ``UsageError`` for a damaged record.
    """
    section = request.engine
    chat = conversation.trained(section.model)
    if chat is None:
        return request
    inner = str(section.options.get("inner", "hf")) if section.engine == "ray" else section.engine
    known = registry.options_model(inner).model_fields
    options, decoding, others = dict(section.options), request.decoding, []
    for field, option in _OPTIONS.items():
        if option not in known:
            continue
        trained = getattr(chat, field)
        if options.get(option) in (None, {}):
            options |= {option: trained} if trained not in (None, {}) else {}
        elif options[option] != trained:
            others.append(f"{option} {trained if trained not in (None, {}) else 'not set'}")
    if decoding.system_prompt is None:
        decoding = decoding.model_copy(update={"system_prompt": chat.system})
    elif decoding.system_prompt != (chat.system or ""):
        others.append("another system prompt" if chat.system else "no system prompt")
    if others:
        warn(f"{section.model} was trained with {' and '.join(others)}: it is asked otherwise here")
    engine = section.model_copy(update={"options": options})
    return request.model_copy(update={"engine": engine, "decoding": decoding})
