"""Engines by name: the flags that belong to them, and the one place where they are made."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli.options import ENGINE
from cipo_eval.engines.keys import check_key_variable
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import MissingError, UsageError, nearest

if TYPE_CHECKING:
    from cipo_eval.engines.engine import Engine
    from cipo_eval.engines.openai import Server
    from cipo_eval.engines.texts import Thinking
    from cipo_eval.records import Problem

NAMES = ("hf", "vllm", "openai", "lm-eval", "replay")
"""Engines that can be asked for; of ``lm-eval`` with the name of one of its model classes: ``lm-eval:NAME``."""

_SECRET = re.compile(r"key|secret|password|auth|header|^(hf_)?token$", re.IGNORECASE)
"""Names of arguments that look like keys."""
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")
_DTYPES = ("auto", "bfloat16", "float16", "float32")
_GPUS = ("nvidia[0-9]*", "nvidiactl", "nvhost-gpu", "nvmap", "dxg", "kfd")
"""Devices (under ``/dev``) of which a machine with CUDA or ROCm has one."""


class Endpoint(StrEnum):
    """What a server is asked through."""

    chat = "chat"
    completions = "completions"


EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where completions come from: hf, vllm, openai, lm-eval:NAME, replay.",
        rich_help_panel=ENGINE,
    ),
]
Revision = Annotated[str | None, typer.Option(help="Revision of a hub model.", rich_help_panel=ENGINE)]
Device = Annotated[str, typer.Option(help="hf: auto, cpu, cuda, cuda:1 …", rich_help_panel=ENGINE)]
Dtype = Annotated[
    str, typer.Option(help="hf, vllm: auto, bfloat16, float16, float32.", rich_help_panel=ENGINE)
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="hf: tokens of all samples under way (default: from free memory).",
        rich_help_panel=ENGINE,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="hf, vllm: run code that a model ships.", rich_help_panel=ENGINE
    ),
]
MaxModelLen = Annotated[
    int | None,
    typer.Option(
        "--max-model-len",
        min=2,
        help="hf, vllm: most tokens of prompt and completion (default: the checkpoint's).",
        rich_help_panel=ENGINE,
    ),
]
Parallel = Annotated[
    int,
    typer.Option("--tensor-parallel", min=1, help="vllm: GPUs that share one model.", rich_help_panel=ENGINE),
]
Replicas = Annotated[
    int,
    typer.Option("--data-parallel", min=1, help="vllm: copies of the model.", rich_help_panel=ENGINE),
]
ModelArgs = Annotated[
    str | None,
    typer.Option(
        "--model-args",
        help="lm-eval:NAME: its model's arguments; vllm: further ones of vLLM's. KEY=VALUE,…",
        rich_help_panel=ENGINE,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="openai: the server's address, such as http://127.0.0.1:8000/v1.",
        rich_help_panel=ENGINE,
    ),
]
EndpointFlag = Annotated[
    Endpoint,
    typer.Option("--endpoint", help="openai: chat, or completions for base models.", rich_help_panel=ENGINE),
]
KeyVariable = Annotated[
    str,
    typer.Option(
        "--api-key-env",
        help="openai: environment variable with the key; the key itself is never stored.",
        rich_help_panel=ENGINE,
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, help="openai: requests under way.", rich_help_panel=ENGINE)
]
RequestTimeout = Annotated[
    float,
    typer.Option("--request-timeout", min=0.1, help="openai: seconds per request.", rich_help_panel=ENGINE),
]
Retries = Annotated[
    int, typer.Option("--retries", min=0, help="openai: further tries of a request.", rich_help_panel=ENGINE)
]
EnableThinking = Annotated[
    bool | None,
    typer.Option(
        "--enable-thinking/--no-enable-thinking",
        help="hf, vllm, openai: enable_thinking of the chat template (default: the template's).",
        rich_help_panel=ENGINE,
    ),
]
ThinkingBudget = Annotated[
    int | None,
    typer.Option(
        "--thinking-budget",
        min=1,
        help="hf, vllm: tokens after which thoughts are closed for the model.",
        rich_help_panel=ENGINE,
    ),
]

_OWNERS = {
    "revision": "hf vllm",
    "device": "hf",
    "dtype": "hf vllm",
    "batch_tokens": "hf",
    "trust_remote_code": "hf vllm",
    "max_model_len": "hf vllm",
    "tensor_parallel": "vllm",
    "data_parallel": "vllm",
    "model_args": "lm-eval vllm",
    "base_url": "openai",
    "endpoint": "openai",
    "api_key_env": "openai",
    "concurrency": "openai",
    "request_timeout": "openai",
    "retries": "openai",
    "enable_thinking": "hf vllm openai",
    "thinking_budget": "hf vllm",
    "think": "hf vllm openai lm-eval replay",
}
"""Engines that a flag is for: given with another one it would have no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """The flags of engines with their defaults, each named as on the command line."""

    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    max_model_len: int | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    model_args: str | None = None
    base_url: str | None = None
    endpoint: Endpoint = Endpoint.chat
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 32
    request_timeout: float = 600.0
    retries: int = 8
    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    think: str = "strip"
    """The tags of thoughts (``texts.think_tags``)."""

    def check(self, engine: str) -> None:
        """Raises ``UsageError`` for an unknown engine, and for flags that it does not have."""
        name, _, kind = engine.partition(":")
        if name not in NAMES:
            raise UsageError(f"unknown --engine {engine}: {nearest(name, NAMES)}")
        if bool(kind) != (name == "lm-eval"):
            raise UsageError(
                f"--engine {engine}: write lm-eval:NAME with the name of one of lm-eval's model classes, "
                "and other engines by their names alone"
            )
        foreign = [
            f"--{f.name.replace('_', '-')} (of {', '.join(_OWNERS[f.name].split())})"
            for f in fields(self)
            if getattr(self, f.name) != f.default and name not in _OWNERS[f.name].split()
        ]
        if foreign:
            raise UsageError(f"--engine {engine} has no {', '.join(foreign)}")
        if name == "openai":
            check_key_variable(self.api_key_env)
        given = [part.partition("=")[0].strip() for part in (self.model_args or "").split(",")]
        if secret := sorted(argument for argument in given if _SECRET.search(argument)):
            raise UsageError(
                f"--model-args {', '.join(secret)}: the command is stored with the run; keys go into the environment"
            )

    def look(self, engine: str, model: str) -> None:
        """What can be told of engine and model before anything heavy is imported. Raises ``UsageError`` or
        ``MissingError``."""
        self.check(engine)
        name = engine.partition(":")[0]
        if self.dtype not in _DTYPES:
            raise UsageError(f"unknown --dtype {self.dtype}: {nearest(self.dtype, _DTYPES)}")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"unknown --device {self.device}: auto, cpu, cuda, cuda:1 …")
        if self.device.startswith("cuda") and not _has_gpu():
            raise MissingError(f"--device {self.device}: no GPU can be seen here; --device cpu does without")
        if name == "vllm" and importlib.util.find_spec("vllm") is None:
            raise MissingError("--engine vllm: vLLM is not installed here: pip install 'cipo-eval[vllm]'")
        if name == "openai":
            self._server()
        elif name == "replay" and not Path(model).exists():
            raise UsageError(f"{model} does not exist: --engine replay needs a file or a run directory")
        elif name in ("hf", "vllm"):
            from cipo_eval.engines.checkpoint import look

            look(model, self.revision)

    def known(self, engine: str, model: str) -> dict[str, Any]:
        """What ``describe`` will say of a model, as far as it is known before it is loaded."""
        found: dict[str, Any] = {"model": model}
        if engine in ("hf", "vllm") and (Path(model) / "config.json").is_file():
            from cipo_eval.engines.checkpoint import model_fingerprint

            found["fingerprint"] = model_fingerprint(model, {})
        return found

    def recommended(self, engine: str, model: str) -> dict[str, Any]:
        """Sampling that a checkpoint recommends. Raises ``UsageError`` where there is no such thing."""
        from cipo_eval.engines.checkpoint import Checkpoint

        if engine not in ("hf", "vllm"):
            raise UsageError(f"--preset checkpoint needs a checkpoint: --engine {engine} has none here")
        found = Checkpoint(model, self.revision, self.trust_remote_code).recommended
        if not found:
            raise UsageError(f"--preset checkpoint: {model} recommends no sampling (generation_config.json)")
        return found

    def make(
        self, engine: str, model: str, problems: Sequence[Problem], *, clock: datetime = FIXED_CLOCK
    ) -> Engine:
        """The engine; ``problems``: what a replayed file is matched with; ``clock``: the time that chat templates are
        told. Raises ``UsageError``, ``MissingError``."""
        self.check(engine)
        name, _, kind = engine.partition(":")
        if name == "openai":
            return self._openai(model)
        if name == "replay":
            from cipo_eval.engines.replay import ReplayEngine

            return ReplayEngine(Path(model), problems)
        if name == "lm-eval":
            from cipo_eval.engines.lm_eval import LMEvalEngine

            return LMEvalEngine(kind, model, self._model_args(), clock=clock)
        if name == "vllm":
            return self._vllm(model, clock)
        from cipo_eval.engines.hf import HFEngine

        return HFEngine(
            model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
            max_model_len=self.max_model_len,
            thinking=self._thinking(),
            clock=clock,
        )

    def _thinking(self) -> Thinking:
        from cipo_eval.engines.texts import Thinking

        return Thinking(enabled=self.enable_thinking, budget=self.thinking_budget, tags=self.think)

    def _model_args(self) -> dict[str, Any]:
        from lm_eval.utils import simple_parse_args_string

        parts = [part for part in (self.model_args or "").split(",") if part]
        if wrong := [part for part in parts if not part.partition("=")[1]]:
            raise UsageError(f"--model-args {', '.join(wrong)}: write KEY=VALUE,KEY=VALUE")
        return dict(simple_parse_args_string(self.model_args))

    def _vllm(self, model: str, clock: datetime) -> Engine:
        from cipo_eval.engines.vllm import VLLMEngine

        sizes = {"tensor_parallel_size": self.tensor_parallel, "data_parallel_size": self.data_parallel}
        given: dict[str, Any] = {name: size for name, size in sizes.items() if size > 1}
        if self.max_model_len is not None:
            given["max_model_len"] = self.max_model_len
        return VLLMEngine(
            model,
            revision=self.revision,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            thinking=self._thinking(),
            clock=clock,
            arguments={**given, **self._model_args()},
        )

    def _openai(self, model: str) -> Engine:
        from cipo_eval.engines.openai import OpenAIEngine

        return OpenAIEngine(model, self._server())

    def _server(self) -> Server:
        from cipo_eval.engines.openai import Server

        if self.base_url is None:
            raise UsageError("--engine openai needs --base-url, such as http://127.0.0.1:8000/v1")
        if self.enable_thinking is not None and self.endpoint is Endpoint.completions:
            raise UsageError("--enable-thinking is for chat templates: --endpoint completions has none")
        return Server(
            url=self.base_url,
            endpoint=self.endpoint.value,
            key_variable=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.request_timeout,
            retries=self.retries,
            thinking=self.enable_thinking,
        )


def frozen_clock(folder: Path) -> datetime:
    """The time of a run directory's first call, which chat templates that write the date are told in all later ones;
    in a new directory, now. Raises ``UsageError`` for a ``run.json`` that cannot be read."""
    from cipo_eval.storage.store import read_info

    if (folder / "run.json").is_file():
        info = read_info(folder)
        with suppress(AttributeError, KeyError, TypeError, ValueError):  # of no use: the engine will differ
            return datetime.fromisoformat(info["engine"].get("clock") or info["created"])
    return datetime.now(UTC).replace(microsecond=0)


def _has_gpu() -> bool:
    """Whether there is a device that CUDA or ROCm could use, and it is not hidden: a look, torch has the last word."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return any(any(Path("/dev").glob(name)) for name in _GPUS)
