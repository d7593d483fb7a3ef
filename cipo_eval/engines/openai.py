"""The ``openai`` engine: any server that speaks OpenAI's protocol (vLLM, SGLang, TGI, llama.cpp, hosted ones), or
several of them that serve one model.

One HTTP request per sample, each with its own seed: a sample depends on its seed only, as far as the server keeps that
promise, and not on which of several servers drew it. A finished sample is handed out at once, so that little is lost
where a run breaks off. There is no tokenizer here, lengths are the server's business: where it says that a prompt is
too long, less is asked for.

What a server sends is not trusted (``connections``). What counts as an answer is ``server_replies``' business, what
servers do not take that of ``adaptations``, which of them is asked that of ``fleet``, and how often a sample is tried
that of ``retries``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cipo_eval.engines.chat import harmless, shortened, wellformed
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.fleet import Fleet, Member, Refused, Visits, named_status
from cipo_eval.engines.keys import read_key
from cipo_eval.engines.options import Endpoint, EngineContext, OpenAIOptions
from cipo_eval.engines.pump import Pump
from cipo_eval.engines.retries import Again, Retries
from cipo_eval.engines.server_replies import (
    Ended,
    ErrorInside,
    cut_off,
    json_object,
    read_completions,
    too_long,
    withheld,
)
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion, Failure, FinishReason, Request, begun, fingerprint

FAILED_IN_A_ROW = 8
"""Prompts without an answer, and none answered between them: then the server is asked whether it answers at all."""
_LEAST_NEW = 16
"""New tokens below which a prompt counts as one that does not fit."""
_DEFAULTS = {
    "vllm": {"repetition_penalty": 1.0},
    "sglang": {"repetition_penalty": 1.0},
    "llamacpp": {"repeat_penalty": 1.0},
}
"""Servers by their ``owned_by`` that fill in sampling parameters of their own for what a request leaves open."""
_CONTINUING = ("vllm", "sglang")
"""Servers by their ``owned_by`` that go on with an assistant's message where a request says so. Others leave out what
they do not know without a word, and begin another message."""
_PLAIN = ({"role": "user", "content": "Hello"},)
"""What is asked to see whether a server answers at all."""
_BEGUN = {"role": "assistant", "content": "Hello"}
"""Behind it, where the request that failed was to go on with an answer."""


class _TooLong(Exception):  # noqa: N818  answered by asking for less
    """The server says that prompt and completion do not fit its context."""


class OpenAIEngine:
    """Completions from one server or several. Raises ``UsageError`` for a model that one does not have or a request
    that is refused, ``MissingError`` where none can be reached, one wants a key, or all have stopped to answer. A
    sample that it alone is not given is a ``Failure``."""

    name = "openai"
    options = OpenAIOptions

    @classmethod
    def make(cls, model: str, options: OpenAIOptions, context: EngineContext) -> OpenAIEngine:  # noqa: ARG003
        return cls(model, options)

    @classmethod
    def preview(
        cls,
        model: str,
        options: OpenAIOptions,
        context: EngineContext,  # noqa: ARG003
        requests: Sequence[Request],  # noqa: ARG003
    ) -> str:
        engine = cls(model, options)
        try:
            return "; ".join((f"{model} is there ({engine.fleet})", *engine.notes()))
        finally:
            engine.close()

    def __init__(self, model: str, server: OpenAIOptions) -> None:
        self.model_name, self.server = model, server
        self._retries = Retries(server.retries)
        self._answered = False
        self._failed_in_a_row: set[str] = set()
        self._asking_whether_it_answers = asyncio.Lock()
        self._latest: Request | None = None
        self._together = server.samples_per_request
        self._closed = False
        self.fleet = Fleet(model, server, read_key(server.api_key_env), self._retries)
        self._pump = Pump(server.concurrency)
        try:
            self._pump.call(self.fleet.open(self._ask_plain))
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """What is known of the model: its name and where it is served; a server does not show its weights."""
        entries = self.server.base_url
        facts: dict[str, Any] = {
            "engine": self.name,
            "model": self.model_name,
            "fingerprint": fingerprint({"served as": self.model_name}),
            "server": entries[0] if len(entries) == 1 else list(entries),
            "endpoint": self.server.endpoint.value,
        }
        if self.server.enable_thinking is not None:
            facts["enable_thinking"] = self.server.enable_thinking
        if self.server.chat_template_kwargs:
            facts["chat_template_kwargs"] = self.server.chat_template_kwargs
        if self.server.samples_per_request > 1:  # other seeds, other samples
            facts["samples_per_request"] = self.server.samples_per_request
        return facts

    def refuses_begun(self) -> str:
        """Why it does not go on with an answer that is begun; empty: it does."""
        if self.server.endpoint is Endpoint.completions:
            return ""
        others = sorted((self.fleet.owners or {"unknown"}) - {*_CONTINUING})
        return _not_continuing(others[0]) if others else ""

    def notes(self) -> list[str]:
        """What of the requests servers did not take, and what became of servers, a line each."""
        return self.fleet.notes()

    @property
    def under_way(self) -> int:
        return self._pump.under_way

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pump.close(self.fleet.close())

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        return self._pump.run(as_feed(requests), self._complete, lambda: self._together)

    # --- on the loop -----------------------------------------------------------------------------------------

    async def _complete(self, request: Request) -> list[Completion | Failure]:
        """The samples of a request, each after as many tries as it takes and is given."""
        self._latest = request
        completions = await self._tried(request)
        if isinstance(completions, Failure):
            return [completions] * len(request.samples)
        if len(completions) < len(request.samples):  # a server that knows no n
            self._together = 1
            completions += [None] * (len(request.samples) - len(completions))
        results: list[Completion | Failure] = []
        for completion, sample, seed in zip(completions, request.samples, request.seeds, strict=True):
            if completion is not None:
                results.append(completion)
            else:
                results += await self._complete(replace(request, samples=(sample,), seeds=(seed,)))
        return results

    async def _tried(self, request: Request) -> list[Completion | None] | Failure:
        """One request for all samples, after as many tries as it takes; None: no answer for this one."""
        started = time.monotonic()
        try:
            completions = await self._sample(request)
        except Again as error:
            if error.unreachable and self.fleet.heard < started:
                raise self.fleet.gone(f"gives no answer after {self._retries.tries} ({error})") from error
            return await self._failure(request, f"{error.why} ({self._retries.tries})", error)
        except Refused as refusal:
            why = f"the server refuses the request (status {named_status(refusal.status, refusal.said)})"
            return await self._failure(request, why, refusal)
        self._answered = True
        self._failed_in_a_row.clear()
        return completions

    async def _failure(self, request: Request, why: str, error: Again | Refused) -> Failure:
        """A sample that failed. Raises where it seems to be the server that failed, or the kind of request."""
        if isinstance(error, Again) and error.in_form:
            self._failed_in_a_row.clear()
        else:
            self._failed_in_a_row.add(fingerprint(request.messages))
        refusal = error if isinstance(error, Refused) else None
        async with self._asking_whether_it_answers:
            of_the_kind = refusal and (refusal.about or not self._answered)
            if of_the_kind or len(self._failed_in_a_row) >= FAILED_IN_A_ROW:
                await self._ask_whether_it_answers(request, refusal)
        return Failure(why=why)

    async def _ask_whether_it_answers(self, request: Request, refusal: Refused | None) -> None:
        """Raises where no server has an answer to a plain prompt either, sampled as the request that failed."""
        visits = Visits()

        async def ask() -> None:
            async with self.fleet.visit(visits) as member:
                await self._ask_plain(member, request)

        try:
            await self._retries.run(ask, further=1, elsewhere=lambda: self.fleet.elsewhere(visits))
        except Refused as again:
            raise again.about or self.fleet.refusal(refusal or again) from again
        except Again as error:
            raise self.fleet.gone(
                f"gives no answer: to the last {len(self._failed_in_a_row)} prompts, nor to a plain one "
                f"({self.fleet.shown(str(error))})"
            ) from error
        self._answered = True
        self._failed_in_a_row.clear()

    async def _ask_plain(self, member: Member, request: Request | None = None) -> None:
        """A plain prompt, sampled and begun as a request is (by default the latest one; before the first one nothing is
        asked). Raises ``Again`` or ``Refused`` where it has no answer."""
        request = request or self._latest
        if request is None:
            return
        most = min(request.sampling.max_tokens, _LEAST_NEW)
        asked = (*_PLAIN, _BEGUN) if request.begun else _PLAIN
        plain = replace(request, messages=asked, carried=(), samples=(0,), seeds=(0,))
        with contextlib.suppress(_TooLong):
            await self._ask(member, plain, plain.messages, most)

    async def _sample(self, request: Request) -> list[Completion | None]:
        started = time.perf_counter()
        left_out = 0
        sample = request.samples[0]
        visits = Visits((request.problem.task, request.problem.id, sample))
        for most, keep in _ladder(request):
            messages, left_out = shortened(request.messages, request.carried, keep)

            async def ask(
                messages: Sequence[Mapping[str, str]] = messages, most: int = most
            ) -> list[Ended | None]:
                async with self.fleet.visit(visits) as member:
                    return await self._ask(member, request, messages, most)

            try:
                endings = await self._retries.run(ask, elsewhere=lambda: self.fleet.elsewhere(visits))
            except _TooLong:
                continue
            seconds = (time.perf_counter() - started) / len(endings)
            return [None if ended is None else _completion(ended, seconds, left_out) for ended in endings]
        nothing = Completion(text="", finish_reason=FinishReason.CONTEXT, left_out=left_out)
        return [nothing] * len(request.samples)

    def _asked(
        self, owner: str, request: Request, messages: Sequence[Mapping[str, str]], most: int
    ) -> tuple[str, dict[str, Any]]:
        """Path and body of a request for samples of at most ``most`` tokens each; ``owner``: who serves the model."""
        sampling = request.sampling
        carrying = {span.message for span in request.carried}
        texts = [wellformed(m["content"]) for m in messages]
        if begun(messages):
            carrying.add(len(messages) - 1)
        texts = [harmless(text) if i in carrying else text for i, text in enumerate(texts)]
        body: dict[str, Any] = {
            "model": self.model_name,
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seeds[0] % 2**31,  # more digits are not portable
            "stream": False,
        }
        extra = _DEFAULTS.get(owner)
        if extra is not None or sampling.top_k:
            body["top_k"] = sampling.top_k or (0 if owner == "llamacpp" else -1)
        if extra is not None or sampling.min_p:
            body["min_p"] = sampling.min_p
        body |= extra or {}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if len(request.samples) > 1:
            body["n"] = len(request.samples)
        if self.server.endpoint is Endpoint.completions:
            return "completions", {**body, "prompt": "\n\n".join(texts)}
        if told := self.server.chat.variables():
            body["chat_template_kwargs"] = told
        if begun(messages):
            if owner not in _CONTINUING:
                raise UsageError(_not_continuing(owner or "unknown"))
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        chat = [{"role": m["role"], "content": text} for m, text in zip(messages, texts, strict=True)]
        return "chat/completions", {**body, "messages": chat}

    async def _ask(
        self, member: Member, request: Request, messages: Sequence[Mapping[str, str]], most: int
    ) -> list[Ended | None]:
        """Completions for a request with these messages, or for what the server takes of it."""
        path, asked = self._asked(member.owner, request, messages, most)
        body = member.adaptations.applied(asked)
        while True:
            try:
                ended = await self._answer(member, path, body, most)
            except Refused as refusal:
                text = refusal.said
                if withheld(text) or cut_off(text):
                    reason = FinishReason.CONTENT_FILTER if withheld(text) else FinishReason.LENGTH
                    return [Ended("", reason)] * len(request.samples)
                if too_long(text):
                    raise _TooLong from refusal
                try:
                    other = member.adaptations.after_refusal(body, self.fleet.unkeyed(text))
                except UsageError as error:
                    refusal.about = error
                    raise refusal from error
                if other is None:
                    raise
                body = other
                continue
            member.adaptations.answered(body, asked)
            return ended

    async def _answer(
        self, member: Member, path: str, body: Mapping[str, Any], most: int
    ) -> list[Ended | None]:
        try:
            reply = json_object(await self.fleet.receive(member, path, json.dumps(body).encode()))
            ended = read_completions(reply, most, body.get("n", 1))
        except ErrorInside as error:
            self.fleet.check_status(member, error.status, error.text, inside=True)
        member.saw(next((e.build for e in ended if e), ""))
        return ended


def _not_continuing(owner: str) -> str:
    """Why a server of chats is not asked to go on with a message."""
    return (
        f"the server ({owner}) is not known to go on with an assistant's message in chats: it would begin another one. "
        f"Servers that do: {', '.join(_CONTINUING)}; or use --endpoint completions, --engine vllm or --engine hf"
    )


def _completion(ended: Ended, seconds: float, left_out: int) -> Completion:
    return Completion(
        text=ended.text,
        finish_reason=ended.finish_reason,
        prompt_tokens=ended.prompt_tokens,
        completion_tokens=ended.completion_tokens,
        seconds=seconds,
        left_out=left_out,
    )


def _ladder(request: Request) -> Iterator[tuple[int, int | None]]:
    """What to ask for in turn, until it fits: most new tokens, and characters that carried attempts keep (None: all).

    As the ``hf`` engine does it: a completion gets what is left, but attempts lose their middle before it has less than
    a quarter of what it may have; then the completion gets less still.
    """
    most = request.sampling.max_tokens
    quarter = max(min(most, _LEAST_NEW), most // 4)
    yield most, None
    while most > quarter:
        most = max(most // 2, quarter)
        yield most, None
    keep: int | None = max((span.end - span.start for span in request.carried), default=None)
    while keep is not None and keep > 64:
        keep = max(keep // 2, 64)
        yield most, keep
    while most > _LEAST_NEW:
        most = max(most // 2, _LEAST_NEW)
        yield most, keep
