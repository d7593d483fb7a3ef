"""The ``lm-eval:NAME`` engine: any model class of lm-evaluation-harness, for what no other engine here runs.

A bridge, as slow or fast as the class behind it. It takes what is there, hands over chunk by chunk what comes back,
and then takes what followed: one turn after another. n samples of a prompt are n requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from cipo_eval.engines.chat import harmless, wellformed
from cipo_eval.engines.checkpoint import model_fingerprint
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.options import EngineContext, LMEvalOptions, model_arguments
from cipo_eval.engines.prompting import Prompting, no_room
from cipo_eval.engines.retries import Again
from cipo_eval.engines.server_replies import finish_reason
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import MissingError, UsageError, nearest
from cipo_eval.records import Completion, Failure, FinishReason, Request, derive_seed

CHUNK = 256
"""Samples of one call of the model: what is lost at most where it breaks off."""
_OWN_SEEDS = frozenset({"vllm", "sglang"})
"""Classes that take a seed with each request, besides those of servers."""

_Place = tuple[Request, int, int]
"""Request, sample index, seed."""


class LMEvalEngine:
    """Raises ``UsageError``/``MissingError`` for a class that lm-eval does not have, does not start or breaks off. A
    sample for which it has no text, as far as it says so, is asked for once more and then a ``Failure``."""

    options = LMEvalOptions

    @classmethod
    def make(cls, model: str, options: LMEvalOptions, context: EngineContext) -> LMEvalEngine:
        kind = context.engine.partition(":")[2]
        return cls(kind, model, model_arguments(options.model_args), clock=context.clock)

    def __init__(
        self, kind: str, model: str, arguments: Mapping[str, Any], *, clock: datetime = FIXED_CLOCK
    ) -> None:
        """``kind``: lm-eval's name of the class; ``arguments``: those of its ``--model_args``; ``clock``: the time that
        a chat template is told which writes the date."""
        from importlib import metadata

        from lm_eval.api.registry import get_model
        from lm_eval.models import MODEL_MAPPING
        from lm_eval.models.api_models import TemplateAPI

        self.name = f"lm-eval:{kind}"
        self.kind, self.model_name, self.arguments = kind, model, dict(arguments)
        self._version = metadata.version("lm_eval")
        try:
            cls = get_model(kind)
        except ValueError as error:
            raise UsageError(f"lm-eval has no model class {kind}: {nearest(kind, MODEL_MAPPING)}") from error
        except ImportError as error:
            raise MissingError(f"lm-eval's {kind} needs a package that is not here: {error}") from error
        try:
            self.lm: Any = cls.create_from_arg_obj({"pretrained": model, **arguments})
        except TypeError as error:
            raise UsageError(f"lm-eval's {kind} does not take these --model-args: {error}") from error
        except (Exception, SystemExit) as error:
            raise MissingError(f"lm-eval's {kind} does not start: {_said(error)}") from error
        tokenizer = getattr(self.lm, "tokenizer", None)
        self._seeds_each = isinstance(self.lm, TemplateAPI) or kind in _OWN_SEEDS
        self._knows_ends = isinstance(self.lm, TemplateAPI)
        if self._knows_ends:
            self.lm.parse_generations = partial(_with_ends, self.lm.parse_generations)
        self.texts: Prompting | None = None
        if hasattr(tokenizer, "apply_chat_template"):
            context = getattr(self.lm, "max_length", None)
            self.texts = Prompting(
                tokenizer, context=context if isinstance(context, int) else None, clock=clock
            )

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "model": self.model_name,
            "fingerprint": model_fingerprint(self.model_name, {}),
            "arguments": {name: str(value) for name, value in sorted(self.arguments.items())},
            "seeds": "by sample" if self._seeds_each else "by call",
            "lm_eval": self._version,
            **(self.texts.describe() if self.texts else {}),
        }

    def close(self) -> None:
        self.lm = None

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            places: list[_Place] = [
                (request, sample, seed)
                for request in taken
                for sample, seed in zip(request.samples, request.seeds, strict=True)
            ]
            for at in range(0, len(places), CHUNK):
                yield from self._chunk(places[at : at + CHUNK])

    def _chunk(self, places: Sequence[_Place]) -> Iterator[tuple[Request, int, Completion | Failure]]:
        from lm_eval.api.instance import Instance

        asked: list[tuple[_Place, Any]] = []
        instances: list[Instance] = []
        for request, sample, seed in places:
            context, room, empty = self._prompt(request)
            if room <= 0:
                yield request, sample, empty
                continue
            asked.append(((request, sample, seed), empty))
            instances.append(
                Instance(
                    request_type="generate_until",
                    doc={},
                    arguments=(context, self._settings(request, room, seed)),
                    idx=len(instances),
                    metadata=(request.problem.task, request.problem.index, 1),
                    # once more: lm-eval 0.4 takes these out of its metadata, 0.5 wants them
                    task_name=request.problem.task,
                    doc_id=request.problem.index,
                )
            )
        if not instances:
            return
        if not self._seeds_each:
            from transformers import set_seed

            set_seed(derive_seed("lm-eval", *(seed for (_, _, seed), _ in asked)) % 2**32)
        for ((request, sample, _), empty), text in zip(asked, self._texts(instances), strict=True):
            yield request, sample, self._completion(text, empty)

    def _texts(self, instances: Sequence[Any]) -> list[str | None]:
        """The class's texts; None where it has none, twice."""
        texts = self._ask(instances)
        if without := [at for at, text in enumerate(texts) if text is None]:
            for at, text in zip(without, self._ask([instances[at] for at in without]), strict=True):
                texts[at] = text
        return texts

    def _ask(self, instances: Sequence[Any]) -> list[str | None]:
        from lm_eval.models import api_models

        # what stands in place of no answer; 0.5 has an empty text there, and no name for it
        placeholder = getattr(api_models, "LMEVAL_MODEL_NONE_ANSWER_PLACEHOLDER", "")
        try:
            texts = self.lm.generate_until(list(instances), disable_tqdm=True)
        except (Exception, SystemExit) as error:
            raise MissingError(
                f"lm-eval's {self.kind} broke off ({_said(error)}); what is judged is kept"
            ) from error
        return [
            None if text is None or (self._knows_ends and text == placeholder and type(text) is str) else text
            for text in texts
        ]

    def _completion(self, text: str | None, empty: Completion) -> Completion | Failure:
        if text is None:
            return Failure(why=f"lm-eval's {self.kind} has no text for it (2 tries)")
        return Completion(
            text=wellformed(str(text)),
            finish_reason=getattr(text, "finish_reason", None),  # most of its classes do not say
            prompt_tokens=empty.prompt_tokens,
            left_out=empty.left_out,
            prompt_hash=empty.prompt_hash,
        )

    def _prompt(self, request: Request) -> tuple[Any, int, Completion]:
        """What the class is given, the room for new tokens, and what is known before anything is said."""
        most = request.sampling.max_tokens
        if self.texts is not None:
            prompt = self.texts.prompt(request)
            return prompt.text, self.texts.room(prompt, most), no_room(prompt)
        carrying = {span.message for span in request.carried}
        messages = [
            {**m, "content": harmless(m["content"]) if i in carrying else m["content"]}
            for i, m in enumerate(request.messages)
        ]
        unknown = Completion(text="", finish_reason=FinishReason.CONTEXT)
        if "chat" in self.kind:
            return self.lm.apply_chat_template(messages), most, unknown
        return "\n\n".join(m["content"] for m in messages), most, unknown

    def _settings(self, request: Request, room: int, seed: int) -> dict[str, Any]:
        """Generation arguments, as a task of lm-eval would give them."""
        sampling = request.sampling
        settings: dict[str, Any] = {
            "until": list(sampling.stop),
            "max_gen_toks": room,
            "do_sample": sampling.temperature > 0,
            "temperature": sampling.temperature,
        }
        local = hasattr(getattr(self.lm, "model", None), "generation_config")
        if local:  # else the checkpoint's recommendation is mixed in
            settings["repetition_penalty"] = 1.0
        if self._seeds_each:
            settings["seed"] = seed % 2**31
        if sampling.temperature == 0:
            return settings
        settings["top_p"] = sampling.top_p
        if local or sampling.top_k:  # transformers' default is 50, servers may not know it
            settings["top_k"] = sampling.top_k
        if sampling.min_p:
            settings["min_p"] = sampling.min_p
        return settings


class _Text(str):
    """A server's text that knows why it ended."""

    finish_reason: FinishReason


def _with_ends(parse: Callable[..., list[str | None]], outputs: Any, **more: Any) -> list[str | None]:
    """The texts that a class of lm-eval reads from a server's reply, each with the reason that it ended; None, which
    the class itself turns into a text of its own, where that is not the end of an answer."""
    texts = parse(outputs=outputs, **more)
    replies = outputs if isinstance(outputs, list) else [outputs]
    if not all(isinstance(reply, dict) and "choices" in reply for reply in replies):
        return texts  # another protocol
    try:
        choices = [c for reply in replies for c in sorted(reply["choices"], key=lambda c: c["index"])]
        return [_ended(text, choice) for text, choice in zip(texts, choices, strict=True)]
    except (KeyError, TypeError, ValueError):  # what the class makes of these is no answer
        return [None] * len(texts)


def _ended(text: str | None, choice: Any) -> str | None:
    try:
        ended = _Text(text or "")
        ended.finish_reason = finish_reason(choice)
    except Again:
        return None
    return ended


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
