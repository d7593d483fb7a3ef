"""The ``openai`` engine: any server that speaks OpenAI's protocol (vLLM, SGLang, TGI, llama.cpp, hosted ones).

One HTTP request per sample, each with its own seed: a sample depends on its seed only, as far as the server keeps that
promise. A finished sample is handed out at once, so that little is lost where a run breaks off. There is no tokenizer
here, lengths are the server's business: where it says that a prompt is too long, less is asked for.

What a server sends is not trusted: replies have a size limit, redirects are not followed (they would carry the key
elsewhere), and of error texts one printable line is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from cipo_eval.engines.chat import harmless, shortened, wellformed
from cipo_eval.engines.pump import Pump
from cipo_eval.errors import MissingError, UsageError, nearest
from cipo_eval.feed import Feed, as_feed
from cipo_eval.records import Completion, Request, fingerprint

MOST_BYTES = 64 << 20
"""Of one reply."""
LONGEST_WAIT = 120.0
"""Seconds between two tries, whatever the server asks for."""
_LEAST_NEW = 16
"""New tokens below which a prompt counts as one that does not fit."""
_TOO_LONG = re.compile(
    r"context.{0,10}(length|size|window)|maximum context|max_model_len|max_total_tokens"
    r"|(prompt|input|inputs).{0,40}too (long|large)|too many (input )?tokens",
    re.IGNORECASE | re.DOTALL,
)
_REASONS = {"stop": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length"}
_DEFAULTS = {
    "vllm": {"repetition_penalty": 1.0},
    "sglang": {"repetition_penalty": 1.0},
    "llamacpp": {"repeat_penalty": 1.0},
}
"""Servers by their ``owned_by`` that fill in sampling parameters of their own for what a request leaves open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to talk to a server."""

    url: str
    """Up to and with ``/v1``."""
    endpoint: str = "chat"
    """``chat`` or ``completions``."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key. The key itself is neither stored nor printed."""
    concurrency: int = 32
    """Requests under way at most."""
    timeout: float = 600.0
    """Seconds that one request may take."""
    retries: int = 8
    """Further tries of a request, where the server is busy, broken or silent."""
    thinking: bool | None = None
    """``enable_thinking`` of the chat template; None: the template's default."""

    def __post_init__(self) -> None:
        _check(self)


class _Again(Exception):  # noqa: N818  not an error yet
    """Worth another try, after so many seconds if the server said so."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class _TooLong(Exception):  # noqa: N818  answered by asking for less
    """The server says that prompt and completion do not fit its context."""


class OpenAIEngine:
    """Completions from a server. Raises ``UsageError`` for a model that it does not have or a request that it refuses,
    ``MissingError`` where it cannot be reached, wants a key, or gives up."""

    name = "openai"

    def __init__(self, model: str, server: Server) -> None:
        from huggingface_hub import utils

        httpx: Any = utils.httpx  # type: ignore[attr-defined]  # there for callers, under either name of the package
        self.model_name, self.server = model, server
        self._httpx = httpx
        self._key = os.environ.get(server.key_variable, "").strip()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=server.concurrency)
        self._client = httpx.AsyncClient(headers=headers, timeout=server.timeout, limits=limits)
        self._limit_name = "max_tokens"
        self._not_before = 0.0
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
            "server": self.server.url.rstrip("/"),
            "endpoint": self.server.endpoint,
        }
        return found if self.server.thinking is None else {**found, "enable_thinking": self.server.thinking}

    @property
    def under_way(self) -> int:
        return self._pump.under_way

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pump.call(self._client.aclose())
            self._pump.close()

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        return self._pump.run(as_feed(requests), self._complete)

    async def _find_model(self) -> str:
        """Who serves it. Servers without a list of models are believed."""
        try:
            listed = await self._send("models", None, tries=2)
        except UsageError:
            return ""
        data = listed.get("data")
        models = [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []
        by_name = {str(m.get("id")): m for m in models}
        if by_name and self.model_name not in by_name:
            raise UsageError(
                f"the server has no model {_line(self.model_name)}: {_line(nearest(self.model_name, by_name))}"
            )
        return str(by_name.get(self.model_name, {}).get("owned_by", ""))

    async def _complete(self, request: Request, seed: int) -> Completion:
        started = time.perf_counter()
        left_out = 0
        for most, keep in _ladder(request):
            messages, left_out = shortened(request.messages, request.carried, keep)
            try:
                reply = await self._send(*self._asked(request, messages, seed, most))
            except _TooLong:
                continue
            return self._completion(reply, time.perf_counter() - started, left_out)
        return Completion(text="", finish_reason="context", left_out=left_out)

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
            self._limit_name: most,
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
        if self.server.endpoint == "completions":
            return "completions", {**body, "prompt": "\n\n".join(texts)}
        if self.server.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": self.server.thinking}
        said = [{"role": m["role"], "content": text} for m, text in zip(messages, texts, strict=True)]
        return "chat/completions", {**body, "messages": said}

    def _completion(self, reply: Mapping[str, Any], seconds: float, left_out: int) -> Completion:
        choice = reply["choices"][0]
        used = reply.get("usage")
        used = used if isinstance(used, dict) else {}
        return Completion(
            text=wellformed(_text(choice) or ""),
            finish_reason=_REASONS.get(str(choice.get("finish_reason"))),
            prompt_tokens=_count(used.get("prompt_tokens")),
            completion_tokens=_count(used.get("completion_tokens")),
            seconds=seconds,
            left_out=left_out,
        )

    async def _send(
        self, path: str, body: Mapping[str, Any] | None, tries: int | None = None
    ) -> dict[str, Any]:
        """The reply's JSON object, after as many tries as it takes and the server is given."""
        last = (tries if tries is not None else self.server.retries + 1) - 1
        for attempt in range(last + 1):
            if (pause := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await self._try(path, body)
            except _Again as error:
                if attempt == last:
                    raise MissingError(
                        f"{self.server.url} gives no answer after {last + 1} tries ({self._shown(str(error))}); "
                        "what is judged is kept, and the same command goes on from there"
                    ) from error
                wait = min(60.0, 0.5 * 2**attempt) * random.uniform(0.5, 1)
                if error.after is not None:  # meant for all that is sent
                    wait = min(max(error.after, 0.0), LONGEST_WAIT)
                    self._not_before = max(self._not_before, time.monotonic() + wait)
                await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _try(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        url = f"{self.server.url.rstrip('/')}/{path}"
        try:
            async with asyncio.timeout(self.server.timeout):
                how: dict[str, Any] = {"json": body} if body is not None else {}
                async with self._client.stream("POST" if body is not None else "GET", url, **how) as response:
                    content = await _read(response)
        except (self._httpx.HTTPError, TimeoutError) as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        status = response.status_code
        if status == 200:
            return _reply(content, completion=body is not None)
        text = content.decode("utf-8", "replace")
        if status in (401, 403):
            raise MissingError(
                f"{self.server.url} wants a key that it accepts ({status}: {self._shown(text)}): "
                f"export {self.server.key_variable}=…"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            raise _Again(f"{status}: {text}", _seconds(response.headers.get("Retry-After")))
        if body is not None and status in (400, 413, 422):
            if self._limit_name == "max_tokens" and "max_completion_tokens" in text:
                self._limit_name = "max_completion_tokens"  # newer models of OpenAI's know this one only
            if "max_tokens" in body and self._limit_name != "max_tokens":
                return await self._try(path, {self._limit_name: body["max_tokens"], **_without(body)})
            if _TOO_LONG.search(text):
                raise _TooLong
        raise UsageError(f"{self.server.url} refuses the request ({status}: {self._shown(text)})")

    def _shown(self, text: str) -> str:
        """A server's words, without the key, should it repeat it."""
        return _line(text.replace(self._key, "…") if self._key else text)


def _check(server: Server) -> None:
    parts = urlsplit(server.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("--base-url must be the address of a server, such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "--base-url must hold no name, key or query: it is stored with the run. "
            f"The key goes into {server.key_variable}"
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


async def _read(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MOST_BYTES:
            raise UsageError(f"the server's reply has more than {MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _reply(content: bytes, *, completion: bool) -> dict[str, Any]:
    """The JSON object; of a completion, one that has a text."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Again(f"the reply is not JSON ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise _Again("the reply is not a JSON object")
    if completion:
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict) or _text(choice) is None:
            raise _Again("the reply holds no completion")
    return found


def _text(choice: Mapping[str, Any]) -> str | None:
    """What the model wrote, thoughts that the server took out of it included; None where it is not a text."""
    if "text" in choice:
        return choice["text"] if isinstance(choice["text"], str) else None
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    content, thoughts = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(content, str | None):
        return None
    if isinstance(thoughts, str):
        return f"<think>\n{thoughts}\n</think>\n\n{content or ''}"
    return content or ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None


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


def _without(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "max_tokens"}


def _line(text: str) -> str:
    """One printable line of a text that somebody else wrote."""
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()
