"""The ``openai`` engine: any server that speaks OpenAI's protocol (vLLM, SGLang, TGI, llama.cpp, hosted ones).

One HTTP request per sample, each with its own seed: a sample depends on its seed only, as far as the server keeps that
promise. A finished sample is handed out at once, so that little is lost where a run breaks off. There is no tokenizer
here, lengths are the server's business: where it says that a prompt is too long, less is asked for.

What a server sends is not trusted: replies have a size limit, redirects are not followed (they would carry the key
elsewhere), and of error texts one printable line is shown. What counts as an answer is ``server_replies``' business,
what servers do not take that of ``adaptations``, and how often a sample is tried that of ``retries``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from cipo_eval.engines.adaptations import Adaptations
from cipo_eval.engines.chat import harmless, shortened, wellformed
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.keys import read_key
from cipo_eval.engines.options import Endpoint, EngineContext, OpenAIOptions
from cipo_eval.engines.pump import Pump
from cipo_eval.engines.retries import Again, Retries
from cipo_eval.engines.server_replies import (
    Ended,
    ErrorInside,
    cut_off,
    error_name,
    json_object,
    printable_line,
    read_completion,
    too_long,
    withheld,
)
from cipo_eval.errors import CipoError, MissingError, UsageError, nearest
from cipo_eval.records import Completion, Failure, FinishReason, Request, fingerprint

MOST_BYTES = 64 << 20
"""Of one reply."""
FAILED_IN_A_ROW = 8
"""Prompts without an answer, and none answered between them: then the server is asked whether it answers at all."""
_CONNECT_SECONDS = 30.0
_LEAST_NEW = 16
"""New tokens below which a prompt counts as one that does not fit."""
_DEFAULTS = {
    "vllm": {"repetition_penalty": 1.0},
    "sglang": {"repetition_penalty": 1.0},
    "llamacpp": {"repeat_penalty": 1.0},
}
"""Servers by their ``owned_by`` that fill in sampling parameters of their own for what a request leaves open."""


class _Refused(Exception):  # noqa: N818  may be answered with another request
    """The server does not take the request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.said = status, text
        self.about: UsageError | None = None
        """What seems wrong, where it names a parameter that cannot be left out (or repeats a prompt that does)."""


class _TooLong(Exception):  # noqa: N818  answered by asking for less
    """The server says that prompt and completion do not fit its context."""


class OpenAIEngine:
    """Completions from a server. Raises ``UsageError`` for a model that it does not have or a request that it refuses,
    ``MissingError`` where it cannot be reached, wants a key, or has stopped to answer. A sample that it alone is not
    given is a ``Failure``."""

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
        cls(model, options).close()
        return f"{model} is there ({options.url})"

    def __init__(self, model: str, server: OpenAIOptions) -> None:
        from huggingface_hub import utils

        httpx: Any = utils.httpx  # type: ignore[attr-defined]  # there for callers, under either name of the package
        self.model_name, self.server = model, server
        self._httpx = httpx
        self._key = read_key(server.api_key_env)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=server.concurrency)
        timeout = httpx.Timeout(server.request_timeout, connect=min(server.request_timeout, _CONNECT_SECONDS))
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits)
        self._retries = Retries(server.retries)
        self._adaptations = Adaptations()
        self._heard = float("-inf")
        self._answered = False
        self._failed_in_a_row: set[str] = set()
        self._asking_whether_it_answers = asyncio.Lock()
        self._closed = False
        self._pump = Pump(server.concurrency)
        try:
            self._owner = self._pump.call(self._find_model())
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """What is known of the model: its name and where it is served; a server does not show its weights."""
        found: dict[str, Any] = {
            "engine": self.name,
            "model": self.model_name,
            "fingerprint": fingerprint({"served as": self.model_name}),
            "server": self.server.url,
            "endpoint": self.server.endpoint.value,
        }
        return (
            found
            if self.server.enable_thinking is None
            else {**found, "enable_thinking": self.server.enable_thinking}
        )

    def notes(self) -> list[str]:
        """What of the requests the server did not take, a line each; known once it has answered."""
        return self._adaptations.notes()

    @property
    def under_way(self) -> int:
        return self._pump.under_way

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pump.close(self._client.aclose())

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        return self._pump.run(as_feed(requests), self._complete)

    # --- on the loop -----------------------------------------------------------------------------------------

    async def _find_model(self) -> str:
        """Who serves it. Servers without a list of models are believed."""
        try:
            listed = await self._retries.run(self._list, further=1)
        except Again as error:
            raise self._gone(f"gives no answer after 2 tries ({self._shown(str(error))})") from error
        except _Refused as refusal:
            if refusal.status == 403:
                raise self._refusal(refusal) from refusal
            return ""
        data = listed.get("data")
        models = [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []
        by_name = {str(m.get("id")): m for m in models}
        if by_name and self.model_name not in by_name:
            raise UsageError(
                f"the server has no model {printable_line(self.model_name)}: "
                f"{printable_line(nearest(self.model_name, by_name))}"
            )
        return str(by_name.get(self.model_name, {}).get("owned_by", ""))

    async def _list(self) -> dict[str, Any]:
        return json_object(await self._receive("models", None))

    async def _complete(self, request: Request, seed: int) -> Completion | Failure:
        """One sample, after as many tries as it takes and the server is given."""
        started = time.monotonic()
        try:
            found = await self._sample(request, seed)
        except Again as error:
            if error.unreachable and self._heard < started:
                raise self._gone(f"gives no answer after {self._retries.tries} ({error})") from error
            return await self._failure(request, f"{error.why} ({self._retries.tries})", error)
        except _Refused as refusal:
            why = f"the server refuses the request (status {_named(refusal.status, refusal.said)})"
            return await self._failure(request, why, refusal)
        self._answered = True
        self._failed_in_a_row.clear()
        return found

    async def _failure(self, request: Request, why: str, error: Again | _Refused) -> Failure:
        """A sample that failed. Raises where it seems to be the server that failed, or the kind of request."""
        if isinstance(error, Again) and error.in_form:
            self._failed_in_a_row.clear()
        else:
            self._failed_in_a_row.add(fingerprint(request.messages))
        refusal = error if isinstance(error, _Refused) else None
        async with self._asking_whether_it_answers:
            of_the_kind = refusal and (refusal.about or not self._answered)
            if of_the_kind or len(self._failed_in_a_row) >= FAILED_IN_A_ROW:
                await self._ask_whether_it_answers(request, refusal)
        return Failure(why=why)

    async def _ask_whether_it_answers(self, request: Request, refusal: _Refused | None) -> None:
        """Raises where the server has no answer to a plain prompt either, sampled as the request that failed."""
        most = min(request.sampling.max_tokens, _LEAST_NEW)
        path, body = self._asked(
            replace(request, carried=()), [{"role": "user", "content": "Hello"}], 0, most
        )
        try:
            await self._retries.run(lambda: self._ask(path, body), further=1)
        except _TooLong:
            pass
        except _Refused as again:
            raise again.about or self._refusal(refusal or again) from again
        except Again as error:
            raise self._gone(
                f"gives no answer: to the last {len(self._failed_in_a_row)} prompts, nor to a plain one "
                f"({self._shown(str(error))})"
            ) from error
        self._answered = True
        self._failed_in_a_row.clear()

    async def _sample(self, request: Request, seed: int) -> Completion:
        started = time.perf_counter()
        left_out = 0
        for most, keep in _ladder(request):
            messages, left_out = shortened(request.messages, request.carried, keep)
            path, body = self._asked(request, messages, seed, most)
            try:
                ended = await self._retries.run(lambda path=path, body=body: self._ask(path, body))  # type: ignore[misc]
            except _TooLong:
                continue
            return Completion(
                text=ended.text,
                finish_reason=ended.finish_reason,
                prompt_tokens=ended.prompt_tokens,
                completion_tokens=ended.completion_tokens,
                seconds=time.perf_counter() - started,
                left_out=left_out,
            )
        return Completion(text="", finish_reason=FinishReason.CONTEXT, left_out=left_out)

    def _asked(
        self, request: Request, messages: Sequence[Mapping[str, str]], seed: int, most: int
    ) -> tuple[str, dict[str, Any]]:
        """Path and body of a request for one sample of at most ``most`` tokens."""
        sampling = request.sampling
        carrying = {span.message for span in request.carried}
        texts = [wellformed(m["content"]) for m in messages]
        texts = [harmless(text) if i in carrying else text for i, text in enumerate(texts)]
        body: dict[str, Any] = {
            "model": self.model_name,
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % 2**31,  # more digits are not portable
            "stream": False,
        }
        extra = _DEFAULTS.get(self._owner)
        if extra is not None or sampling.top_k:
            body["top_k"] = sampling.top_k or (0 if self._owner == "llamacpp" else -1)
        if extra is not None or sampling.min_p:
            body["min_p"] = sampling.min_p
        body |= extra or {}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.server.endpoint is Endpoint.completions:
            return "completions", {**body, "prompt": "\n\n".join(texts)}
        if self.server.enable_thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": self.server.enable_thinking}
        said = [{"role": m["role"], "content": text} for m, text in zip(messages, texts, strict=True)]
        return "chat/completions", {**body, "messages": said}

    async def _ask(self, path: str, asked: Mapping[str, Any]) -> Ended:
        """A completion for this body, or for what the server takes of it."""
        body = self._adaptations.applied(asked)
        while True:
            try:
                ended = await self._answer(path, body, asked["max_tokens"])
            except _Refused as refusal:
                text = refusal.said
                if withheld(text) or cut_off(text):
                    return Ended("", FinishReason.CONTENT_FILTER if withheld(text) else FinishReason.LENGTH)
                if too_long(text):
                    raise _TooLong from refusal
                try:
                    other = self._adaptations.after_refusal(body, self._unkeyed(text))
                except UsageError as error:
                    refusal.about = error
                    raise refusal from error
                if other is None:
                    raise
                body = other
                continue
            self._adaptations.answered(body, asked)
            return ended

    async def _answer(self, path: str, body: Mapping[str, Any], most: int) -> Ended:
        try:
            return read_completion(json_object(await self._receive(path, body)), most)
        except ErrorInside as error:
            self._check_status(error.status, error.text, inside=True)
            raise AssertionError("unreachable") from error

    async def _receive(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        """The content of a reply of status 200."""
        url = f"{self.server.url.rstrip('/')}/{path}"
        how: dict[str, Any] = {"json": body} if body is not None else {}
        try:
            async with (
                asyncio.timeout(self.server.request_timeout),
                self._client.stream("POST" if body is not None else "GET", url, **how) as response,
            ):
                self._heard = time.monotonic()
                content = await _read(response)
        except (self._httpx.ConnectError, self._httpx.ConnectTimeout) as error:
            raise Again("the server cannot be reached", self._shown(str(error)), unreachable=True) from error
        except (self._httpx.TimeoutException, TimeoutError) as error:
            raise Again(f"no answer within {self.server.request_timeout:g} seconds") from error
        except self._httpx.HTTPError as error:
            raise Again("the connection broke", f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            text = content.decode("utf-8", "replace")
            self._check_status(response.status_code, text, _seconds(response.headers.get("Retry-After")))
        return content

    def _check_status(
        self, status: int, text: str, after: float | None = None, *, inside: bool = False
    ) -> NoReturn:
        """Raises what an error means: another try, a refusal, or a key that is missing."""
        if status == 401:
            raise self._wants_a_key(status, text)
        if (status in (408, 409, 425, 429) or status >= 500) and not withheld(text):
            named = _named(status, text)
            why = f"an error in place of a completion ({named})" if inside else f"status {named}"
            raise Again(why, text, after=after)
        raise _Refused(status, text)

    # --- what is said ----------------------------------------------------------------------------------------

    def _gone(self, what: str) -> MissingError:
        return MissingError(
            f"{self.server.url} {what}; what is judged is kept, and the same command goes on from there"
        )

    def _wants_a_key(self, status: int, text: str) -> MissingError:
        return MissingError(
            f"{self.server.url} wants a key that it accepts ({status}: {self._shown(text)}): "
            f"export {self.server.api_key_env}=…"
        )

    def _refusal(self, refused: _Refused) -> CipoError:
        if refused.status == 403:
            return self._wants_a_key(refused.status, refused.said)
        return UsageError(
            f"{self.server.url} refuses the request ({refused.status}: {self._shown(refused.said)})"
        )

    def _unkeyed(self, text: str) -> str:
        """A server's words without the key, should it repeat it."""
        return text.replace(self._key, "…") if self._key else text

    def _shown(self, text: str) -> str:
        """One line of a server's words."""
        return printable_line(self._unkeyed(text))


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


async def _read(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MOST_BYTES:
            raise Again(f"a reply of more than {MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _named(status: int, text: str) -> str:
    """A status with the error's own name, which is the same for all errors of the kind."""
    return f"{status} {error_name(text)}".strip()


def _seconds(value: str | None) -> float | None:
    """``Retry-After``: seconds or a date."""
    if not value:
        return None
    try:
        return (
            float(value)
            if value.strip().isdigit()
            else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
