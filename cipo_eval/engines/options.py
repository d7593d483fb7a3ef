"""What can be asked of each engine: one options model an engine, cheap to import.

An option is declared once, as a field here: its docstring is the flag's help, its default the flag's default, its
validation what the flag refuses (``registry`` finds the model by the engine's name, ``cli.engine`` makes the flags).
Besides, an options model says what can be told of a model before anything heavy is imported. An engine's own module
imports this one, never the other way round.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from cipo_eval.engines.conversation import Chat, Variables
from cipo_eval.engines.keys import check_key_variable
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import MissingError, UsageError, nearest, require
from cipo_eval.records import Problem
from cipo_eval.settings import Flag
from cipo_eval.texts import STRIP

_SECRET = re.compile(r"key|secret|password|auth|header|^(hf_)?token$", re.IGNORECASE)
"""Names of arguments that look like keys."""
SERVER_EXAMPLE = "such as http://127.0.0.1:8000/v1"
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")
_DTYPES = ("auto", "bfloat16", "float16", "float32")
_GPU_DEVICES = ("nvidia[0-9]*", "nvidiactl", "nvhost-gpu", "nvmap", "dxg", "kfd")
"""Devices (under ``/dev``) of which a machine with CUDA or ROCm has one."""


class Endpoint(StrEnum):
    """What a server is asked through."""

    chat = "chat"
    completions = "completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What an engine is told besides its model and its options."""

    engine: str = ""
    """The engine as it was asked for (``lm-eval:hf``)."""
    problems: Sequence[Problem] = ()
    """All problems that will be asked; a replayed file is matched with them."""
    clock: datetime = FIXED_CLOCK
    """The time that chat templates are told which write the date."""
    think: str = STRIP
    """Between which tags thoughts stand (``cipo_eval.texts.think_tags``)."""
    say: Callable[[str], None] = lambda _: None
    """Hears a line that people should read at once (an engine that waits for machines)."""


class EngineOptions(BaseModel):
    """Options of an engine; this one has none. Frozen, without unknown keys, documented by docstrings.

    A validator raises ``UsageError`` with the message that the user sees.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    def look(self, model: str) -> None:
        """Checks what can be told of a model before anything heavy is imported. Raises ``UsageError`` or
        ``MissingError``."""

    def identity(self, model: str) -> dict[str, Any]:
        """What the engine's ``describe`` will say, as far as it can be told before the model is loaded."""
        return {"model": model}

    def recommended(self, model: str) -> dict[str, Any] | None:
        """Sampling parameters that the model recommends; None: an engine without such a thing.
        Raises ``UsageError`` for a model that recommends none."""
        del model
        return None


def refuse_secrets(names: Sequence[str], flag: str) -> None:
    """Raises ``UsageError`` for names of arguments that look like keys, without their values."""
    if secret := sorted(name for name in names if _SECRET.search(name) and not name.endswith("_env")):
        raise UsageError(
            f"{flag} {', '.join(secret)}: the command is stored with the run; keys go into the environment"
        )


def model_arguments(value: str | None) -> dict[str, Any]:
    """Arguments by name of KEY=VALUE,…, as lm-eval reads them. Raises ``UsageError`` for a part without a value."""
    from lm_eval.utils import simple_parse_args_string

    parts = [part for part in (value or "").split(",") if part]
    if wrong := [part for part in parts if not part.partition("=")[1]]:
        raise UsageError(f"--model-args {', '.join(wrong)}: write KEY=VALUE,KEY=VALUE")
    return dict(simple_parse_args_string(value))


def _check_model_args(value: str | None) -> str | None:
    refuse_secrets([part.partition("=")[0].strip() for part in (value or "").split(",")], "--model-args")
    return value


class ThinkingOptions(EngineOptions):
    """Options of engines that render chat templates."""

    enable_thinking: bool | None = None
    """enable_thinking of the chat template (default: as the checkpoint was trained here, or the template's)."""
    chat_template_kwargs: Variables = Field(default_factory=dict)
    """Further variables of the chat template, {"reasoning_effort": "low"}."""

    @property
    def chat(self) -> Chat:
        """What the options say of how conversations are put to the model."""
        return Chat(enable_thinking=self.enable_thinking, kwargs=self.chat_template_kwargs)


class CheckpointOptions(ThinkingOptions):
    """Options of engines that load a checkpoint."""

    revision: str | None = None
    """Revision of a hub model."""
    dtype: str = "auto"
    """auto, bfloat16, float16, float32."""
    trust_remote_code: bool = False
    """Run code that a model ships."""
    max_model_len: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and completion (default: the checkpoint's)."""
    chat_template: str | None = None
    """File of a chat template (Jinja2) in place of the checkpoint's."""
    thinking_budget: int | None = Field(default=None, ge=1)
    """Tokens after which thoughts are closed for the model."""

    @property
    def chat(self) -> Chat:
        """What the options say of how conversations are put to the model."""
        return super().chat.model_copy(update={"template": self.chat_template})

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        if value not in _DTYPES:
            raise UsageError(f"unknown --dtype {value}: {nearest(value, _DTYPES)}")
        return value

    def look(self, model: str) -> None:
        from cipo_eval.engines.checkpoint import look

        look(model, self.revision)

    def identity(self, model: str) -> dict[str, Any]:
        if not (Path(model) / "config.json").is_file():
            return {"model": model}
        from cipo_eval.engines.checkpoint import model_fingerprint

        return {"model": model, "fingerprint": model_fingerprint(model, {})}

    def recommended(self, model: str) -> dict[str, Any]:
        from cipo_eval.engines.checkpoint import Checkpoint

        recommendation = Checkpoint(model, self.revision, self.trust_remote_code).recommended
        if not recommendation:
            raise UsageError(f"--preset checkpoint: {model} recommends no sampling (generation_config.json)")
        return recommendation


class HFOptions(CheckpointOptions):
    """Options of ``hf``."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all samples under way (default: from free memory)."""

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise UsageError(f"unknown --device {value}: auto, cpu, cuda, cuda:1 …")
        return value

    def look(self, model: str) -> None:
        require("hf", "--engine hf")
        if self.device.startswith("cuda") and not _has_gpu():
            raise MissingError(f"--device {self.device}: no GPU can be seen here; --device cpu does without")
        super().look(model)


class VLLMOptions(CheckpointOptions):
    """Options of ``vllm``."""

    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one model."""
    data_parallel: int = Field(default=1, ge=1)
    """Copies of the model."""
    model_args: str | None = None
    """Further arguments of vLLM's, KEY=VALUE,…"""

    _no_secrets = field_validator("model_args")(_check_model_args)

    def look(self, model: str) -> None:
        require("vllm", "--engine vllm")
        super().look(model)


class LMEvalOptions(EngineOptions):
    """Options of ``lm-eval:NAME``."""

    model_args: str | None = None
    """The model class's arguments, KEY=VALUE,…"""

    _no_secrets = field_validator("model_args")(_check_model_args)

    def look(self, model: str) -> None:
        del model
        require("lm-eval", "--engine lm-eval")


def _entries(value: Any) -> Any:
    """One entry or several, without blanks around them and slashes at their ends, and each once."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        return value
    return tuple(dict.fromkeys(entry.strip().rstrip("/") for entry in entries))


class OpenAIOptions(ThinkingOptions):
    """Options of ``openai``: how to talk to a server."""

    base_url: Annotated[tuple[str, ...], BeforeValidator(_entries), Flag(repeatable=True)] = ()
    """A server's address up to and with /v1, such as http://127.0.0.1:8000/v1; may be repeated, for several servers of
    one model. @FILE: one address a line, read again when it changes. A name with several addresses: as many servers."""
    endpoint: Endpoint = Endpoint.chat
    """chat, or completions for base models."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key; the key itself is never stored."""
    concurrency: int = Field(default=32, ge=1)
    """Requests under way at most."""
    request_timeout: float = Field(default=600.0, ge=0.1)
    """Seconds that one request may take."""
    samples_per_request: int = Field(default=1, ge=1)
    """Samples of a prompt in one request (n), where the server can; above 1 it draws their seeds."""
    retries: int = Field(default=8, ge=0)
    """Further tries of a sample, where the server is busy, broken, silent or gives no completion."""

    @model_validator(mode="after")
    def _usable(self) -> OpenAIOptions:
        check_key_variable(self.api_key_env)
        if not self.base_url:
            raise UsageError(f"--engine openai needs --base-url, {SERVER_EXAMPLE}")
        for entry in self.base_url:
            if not entry.startswith("@"):
                check_url(entry, "--base-url", self.api_key_env)
        if self.chat.variables() and self.endpoint is Endpoint.completions:
            raise UsageError(
                "--enable-thinking and --chat-template-kwargs are for chat templates: --endpoint completions has none"
            )
        return self

    def look(self, model: str) -> None:
        del model
        for entry in self.base_url:
            if entry.startswith("@") and not Path(entry[1:]).is_file():
                raise UsageError(f"--base-url {entry}: there is no file {entry[1:]}")


class ReplayOptions(EngineOptions):
    """``replay`` has no options."""

    def look(self, model: str) -> None:
        if not Path(model).exists():
            raise UsageError(f"{model} does not exist: --engine replay needs a file or a run directory")


class RayOptions(EngineOptions):
    """Options of ``ray``; those of the inner engine stand beside them (``registry.options``)."""

    inner: str = "hf"
    """The engine that each replica is: hf, vllm, openai, lm-eval:NAME, or your own package.module:Class."""
    replicas: int = Field(default=1, ge=1)
    """Replicas that are wanted; they come and go with the cluster's nodes."""
    cpus_per_replica: float = Field(default=1.0, ge=0)
    """Cores that Ray keeps for each replica."""
    gpus_per_replica: float | None = Field(default=None, ge=0)
    """GPUs that Ray keeps for each replica (default: those that vllm shares one model over; of others none)."""
    address: str = "auto"
    """The cluster: auto (where this machine is a part of it), HOST:PORT, or local (this machine alone)."""
    verify_on_workers: bool = False
    """Judge on the cluster's nodes, programs in the sandbox of each, and not on this machine."""
    wait_for_nodes: float = Field(default=3600.0, ge=0)
    """Seconds without any replica after which the run ends, with everything kept."""
    replica_samples: int | None = Field(default=None, ge=1)
    """Samples that a replica is given ahead (default: twice as many as its engine works at)."""
    replica_silence: float = Field(default=120.0, ge=1)
    """Seconds without a word after which a replica is lost."""
    replica_stall: float = Field(default=3600.0, ge=1)
    """Seconds without a token or a sample after which a replica that has work is lost."""
    _inner_options: EngineOptions = PrivateAttr(default_factory=EngineOptions)

    @field_validator("inner")
    @classmethod
    def _can_be_inner(cls, value: str) -> str:
        if value in ("ray", "replay"):
            raise UsageError(f"--inner {value}: replicas generate; choose hf, vllm, openai, or your own")
        return value

    def holding(self, options: EngineOptions) -> RayOptions:
        """These, with options of the inner engine."""
        self._inner_options = options
        return self

    @property
    def inner_options(self) -> EngineOptions:
        """Options of the inner engine."""
        return self._inner_options

    @property
    def gpus(self) -> float:
        """GPUs of each replica."""
        if self.gpus_per_replica is not None:
            return self.gpus_per_replica
        inner = self._inner_options
        return float(inner.tensor_parallel * inner.data_parallel) if isinstance(inner, VLLMOptions) else 0.0

    @property
    def needs(self) -> dict[str, float]:
        """What a replica takes of a node, by Ray's names."""
        return {"CPU": self.cpus_per_replica, "GPU": self.gpus}

    def look(self, model: str) -> None:
        require("ray", "--engine ray")
        inner = self._inner_options
        if isinstance(inner, CheckpointOptions):  # GPUs and vLLM are wanted on the nodes, not here
            CheckpointOptions.look(inner, model)
        else:
            inner.look(model)

    def identity(self, model: str) -> dict[str, Any]:
        return self._inner_options.identity(model)

    def recommended(self, model: str) -> dict[str, Any] | None:
        return self._inner_options.recommended(model)


def check_url(url: str, where: str, variable: str) -> str:
    """The address without a slash at its end. Raises ``UsageError``, which begins with ``where`` and repeats nothing of
    the address, for one that is none or that holds a key; ``variable``: where the key belongs."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, a port that is none
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise UsageError(f"{where} must be the address of a server, {SERVER_EXAMPLE}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"{where} must hold no name, key or query: it is stored with the run. The key goes into {variable}"
        )
    return url.rstrip("/")


def _has_gpu() -> bool:
    """Whether there is a device that CUDA or ROCm could use, and it is not hidden: a look, torch has the last word."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return any(any(Path("/dev").glob(name)) for name in _GPU_DEVICES)
