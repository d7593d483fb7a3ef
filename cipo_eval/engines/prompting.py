"""Between texts and tokens: what engines share that hold a checkpoint's tokenizer.

Requests become prompts that fit, tokens become completions; stop strings, and thoughts that may only be so long.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from cipo_eval.engines import template
from cipo_eval.engines.chat import Prompt, encode
from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.conversation import Chat
from cipo_eval.engines.options import CheckpointOptions, EngineContext
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion, FinishReason, Request, fingerprint
from cipo_eval.texts import KEEP, STRIP, open_thoughts, think_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """How conversations are put to a model, and what is asked of models that think before they answer."""

    chat: Chat = field(default_factory=Chat)
    """What the chat template is told, and which one it is."""
    budget: int | None = None
    """Tokens after which thoughts are ended; None: no limit of their own."""
    tags: str = STRIP
    """Between which thoughts stand (``cipo_eval.texts.think_tags``)."""

    @classmethod
    def asked(cls, options: CheckpointOptions, context: EngineContext) -> Thinking:
        """What the options of an engine ask for."""
        return cls(chat=options.chat, budget=options.thinking_budget, tags=context.think)


class Prompting:
    """Speaks for one tokenizer.

    Raises ``UsageError`` where its chat template does not know what is asked, or cannot say what a user said.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        context: int | None,
        thinking: Thinking = Thinking(),
        ends: Iterable[int] = (),
        clock: datetime = template.FIXED_CLOCK,
    ) -> None:
        """``ends``: ids of tokens that end a sample, besides the one that the template ends a turn with. ``clock``: the
        time that the template is told."""
        tokenizer = tokenizer_for(tokenizer, thinking.chat)
        self.tokenizer, self.context, self.thinking, self.clock = tokenizer, context, thinking, clock
        template.check(tokenizer, self._setting)
        end = template.turn_end(tokenizer, self._setting)
        self.ends = frozenset(ends) | ({end} if end is not None else set())

    @property
    def _setting(self) -> template.Setting:
        return setting_of(self.thinking.chat, self.clock)

    def describe(self) -> dict[str, Any]:
        """What of an engine's identity is the business of texts."""
        written = self.tokenizer.chat_template
        facts: dict[str, Any] = {"chat_template": fingerprint(written) if written else None}
        if self.ends:
            facts["end_tokens"] = [self.tokenizer.convert_ids_to_tokens(end) for end in sorted(self.ends)]
        if template.dated(self.tokenizer):
            facts["clock"] = self.clock.isoformat(timespec="seconds")
        if self.thinking.chat.enable_thinking is not None:
            facts["enable_thinking"] = self.thinking.chat.enable_thinking
        if self.thinking.chat.kwargs:
            facts["chat_template_kwargs"] = self.thinking.chat.kwargs
        if self.thinking.budget is not None:
            facts["thinking_budget"] = self.thinking.budget
            facts |= {} if self.thinking.tags in (STRIP, KEEP) else {"think_tags": self.thinking.tags}
        return facts

    def prompt(self, request: Request) -> Prompt:
        """Where its tokens leave less room than wanted, carried attempts lose their middle, and nothing else."""
        wanted = min(request.sampling.max_tokens, (self.context or 0) // 4)
        return encode(
            self.tokenizer,
            request.messages,
            carried=request.carried,
            most=self.context - wanted if self.context else None,
            setting=self._setting,
        )

    def room(self, prompt: Prompt, max_tokens: int) -> int:
        """New tokens that fit; 0 where there is no prompt to go on from."""
        if not prompt.ids:
            return 0
        return max(0, min(max_tokens, self.context - len(prompt.ids))) if self.context else max_tokens

    def thoughts(self, room: int) -> int:
        """New tokens before thoughts must be looked at: all that there is room for, without a budget."""
        return room if self.thinking.budget is None else min(room, self.thinking.budget)

    def closing(self, prompt: Prompt, tokens: Sequence[int]) -> list[int]:
        """What ends the thoughts that have begun, in the prompt or in what was said, and have no end; else nothing."""
        tags = open_thoughts(prompt.text, self.tokenizer.decode(tokens), self.thinking.tags)
        return (
            [] if tags is None else list(self.tokenizer(tags.closing, add_special_tokens=False)["input_ids"])
        )

    def cut(self, stop: Sequence[str]) -> Stops | None:
        """Where samples end for their stop strings."""
        return Stops(self.tokenizer, stop, self.spoken) if stop else None

    def spoken(self, tokens: Sequence[int]) -> str:
        """The text of tokens without special ones, except those that mark thoughts (``[THINK]``, ``<|channel|>``):
        without them nobody could tell the thoughts from the answer."""
        if not self._marks.intersection(tokens):
            return str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return str(self.tokenizer.decode([t for t in tokens if t in self._marks or t not in self._special]))

    @cached_property
    def _special(self) -> dict[int, str]:
        """Special tokens, by id."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return {number: token.content for number, token in added.items() if token.special}

    @cached_property
    def _marks(self) -> frozenset[int]:
        """Ids of special tokens of which the tags of thoughts consist, where the tokenizer has a tag's beginning."""
        marks: set[int] = set()
        for tags in think_tags(STRIP if self.thinking.tags == KEEP else self.thinking.tags):
            if any(word in tags.start for word in self._special.values()):
                marks |= {n for n, word in self._special.items() if word in tags.start + tags.end}
        return frozenset(marks)

    def completion(
        self,
        prompt: Prompt,
        tokens: Sequence[int],
        reason: FinishReason,
        *,
        text: str | None = None,
        logprobs: Sequence[float] | None = None,
        seconds: float | None = None,
    ) -> Completion:
        """``text``: what a stop string left of it."""
        if text is None:  # an end token need not be a special one
            spoken = tokens[:-1] if tokens and tokens[-1] in self.ends else tokens
            text = self.spoken(spoken)
        if prompt.begun and text:
            text = self._gap(prompt, tokens) + text
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(prompt.ids),
            completion_tokens=len(tokens),
            seconds=seconds,
            token_ids=tuple(tokens),
            logprobs=None if logprobs is None else tuple(logprobs),
            left_out=prompt.left_out,
            prompt_hash=prompt.hash,
        )

    def _gap(self, prompt: Prompt, tokens: Sequence[int]) -> str:
        """White space between an answer that was begun and what follows, which some tokenizers write for a token only
        where another one stands before it."""
        before, first = self.spoken(prompt.ids[-1:]), self.spoken(tokens[:1])
        both = self.spoken([*prompt.ids[-1:], *tokens[:1]])
        gap = both[len(before) : len(both) - len(first)] if both.startswith(before) else ""
        return gap if gap.isspace() and both.endswith(first) else ""


def tokenizer_for(tokenizer: Any, chat: Chat) -> Any:
    """The tokenizer with the chat template that is asked for: itself, or a copy.

    Raises ``UsageError`` for a file that cannot be read, and for variables that the template does not know.
    """
    if (text := chat.text()) is not None:
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = text
    written = template.source(tokenizer)
    if chat.enable_thinking is not None and "enable_thinking" not in written:
        raise UsageError(
            "--enable-thinking: the model's chat template has no such switch (no enable_thinking)"
        )
    if unknown := sorted(name for name in chat.kwargs if name not in written):
        raise UsageError(f"--chat-template-kwargs: the model's chat template has no {', '.join(unknown)}")
    return tokenizer


def setting_of(chat: Chat, clock: datetime = template.FIXED_CLOCK) -> template.Setting:
    """What a template is told besides messages."""
    return template.Setting(variables=json.dumps(chat.variables(), sort_keys=True), clock=clock)


def preview(
    model: str, options: CheckpointOptions, context: EngineContext, requests: Sequence[Request]
) -> str:
    """How a checkpoint sees the first prompts, in a line; its weights are not loaded. Raises ``UsageError`` or
    ``MissingError`` for one that could not be used."""
    checkpoint = Checkpoint(model, options.revision, options.trust_remote_code)
    lengths = [length for length in (checkpoint.context, options.max_model_len) if length]
    prompting = Prompting(
        checkpoint.tokenizer,
        context=min(lengths, default=None),
        thinking=Thinking.asked(options, context),
        clock=context.clock,
    )
    template_kind = "a chat template" if checkpoint.tokenizer.chat_template else "no chat template"
    tokens = [len(prompting.prompt(request).ids) for request in requests]
    limit = f", context {prompting.context}" if prompting.context else ""
    return (
        f"{model} ({checkpoint.config.model_type}{limit}, {template_kind}, "
        f"first prompt of {max(tokens, default=0)} tokens)"
    )


def no_room(prompt: Prompt) -> Completion:
    """The completion of a prompt that leaves no room for a token."""
    return Completion(
        text="",
        finish_reason=FinishReason.CONTEXT,
        prompt_tokens=len(prompt.ids),
        left_out=prompt.left_out,
        prompt_hash=prompt.hash,
    )


class Stops:
    """Where a sample is to end for its stop strings, which may be, or hold, special tokens: those are in the text that
    is searched, and not in the text that stays."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], spoken: Callable[[Sequence[int]], str]) -> None:
        """``spoken``: the text of tokens, without those that nobody sees."""
        self._tokenizer, self._stops, self._spoken = tokenizer, stops, spoken
        # the end of a text that may hold the whole of one that has just been completed: a token has a character or
        # more, or is a part of one (at most four)
        self._tail = 4 * max(map(len, stops)) + 8

    def __call__(self, tokens: Sequence[int]) -> tuple[int, str] | None:
        """How many tokens stay, and the text before the first stop string; None while there is none."""
        tail = self._tokenizer.decode(tokens[-self._tail :])
        return self.first(tokens) if any(stop in tail for stop in self._stops) else None

    def first(self, tokens: Sequence[int]) -> tuple[int, str] | None:
        """As a call, with stop strings anywhere in the tokens."""
        text = self._tokenizer.decode(tokens)
        cut = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if cut is None:
            return None
        kept = _tokens_covering(self._tokenizer, tokens, text[:cut])
        return kept, self._stripped(tokens[:kept], cut)

    def _stripped(self, tokens: Sequence[int], cut: int) -> str:
        """The text of tokens without special ones, up to where ``cut`` is in the text with them: in the last token."""
        decode, last = self._tokenizer.decode, tokens[-1:]
        text = self._spoken(tokens)
        if decode(last) and not self._spoken(last):  # a special one
            return text
        return text[: len(text) - (len(decode(tokens)) - cut)]


def _tokens_covering(tokenizer: Any, tokens: Sequence[int], text: str) -> int:
    """The smallest number of leading tokens whose text begins with this one: half a character does not."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if tokenizer.decode(tokens[:middle]).startswith(text):
            high = middle
        else:
            low = middle + 1
    return low
