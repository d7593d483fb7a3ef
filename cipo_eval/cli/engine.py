"""Engines by name: the flags that belong to them, and the one place where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli.options import ENGINE
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.records import Engine, Problem


class EngineName(StrEnum):
    """Engines that can be asked for by name."""

    hf = "hf"
    openai = "openai"
    replay = "replay"


class Endpoint(StrEnum):
    """What a server is asked through."""

    chat = "chat"
    completions = "completions"


BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="--engine openai: the server's address, such as http://127.0.0.1:8000/v1.",
        rich_help_panel=ENGINE,
    ),
]
EndpointFlag = Annotated[
    Endpoint,
    typer.Option(
        "--endpoint", help="--engine openai: chat, or completions for base models.", rich_help_panel=ENGINE
    ),
]
KeyVariable = Annotated[
    str,
    typer.Option(
        "--api-key-env",
        help="--engine openai: environment variable with the key; the key itself is never stored.",
        rich_help_panel=ENGINE,
    ),
]
Concurrency = Annotated[
    int,
    typer.Option("--concurrency", min=1, help="--engine openai: requests under way.", rich_help_panel=ENGINE),
]
RequestTimeout = Annotated[
    float,
    typer.Option(
        "--request-timeout", min=0.1, help="--engine openai: seconds per request.", rich_help_panel=ENGINE
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        "--retries", min=0, help="--engine openai: further tries of a request.", rich_help_panel=ENGINE
    ),
]
Thinking = Annotated[
    bool | None,
    typer.Option(
        "--enable-thinking/--no-enable-thinking",
        help="--engine openai: enable_thinking of the chat template (default: the template's).",
        rich_help_panel=ENGINE,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """The flags of engines, each named as on the command line."""

    model: str
    revision: str | None
    device: str
    dtype: str
    batch_tokens: int | None
    trust_remote_code: bool
    base_url: str | None
    endpoint: Endpoint
    api_key_env: str
    concurrency: int
    request_timeout: float
    retries: int
    enable_thinking: bool | None

    def make(self, name: EngineName, problems: Sequence[Problem]) -> Engine:
        """The engine; ``problems``: what a replayed file is matched with. Raises ``UsageError``, ``MissingError``."""
        if name is EngineName.openai:
            return self._openai()
        if self.base_url is not None or self.enable_thinking is not None:
            raise UsageError("--base-url and --enable-thinking belong together with --engine openai")
        if name is EngineName.replay:
            from cipo_eval.engines.replay import ReplayEngine

            return ReplayEngine(Path(self.model), problems)
        from cipo_eval.engines.hf import HFEngine

        return HFEngine(
            self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
        )

    def _openai(self) -> Engine:
        from cipo_eval.engines.openai import OpenAIEngine, Server

        if self.base_url is None:
            raise UsageError("--engine openai needs --base-url, such as http://127.0.0.1:8000/v1")
        if self.enable_thinking is not None and self.endpoint is Endpoint.completions:
            raise UsageError("--enable-thinking is for chat templates: --endpoint completions has none")
        server = Server(
            url=self.base_url,
            endpoint=self.endpoint.value,
            key_variable=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.request_timeout,
            retries=self.retries,
            thinking=self.enable_thinking,
        )
        return OpenAIEngine(self.model, server)
