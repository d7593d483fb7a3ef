"""The section ``rollout`` of a configuration: how attempts are drawn, and what generates."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cipo_trainer.sections import Section

OTHERS = ("vllm", "vllm_server")
"""Engines with weights and arithmetic of their own."""


class Rollout(Section):
    """How attempts are drawn from the policy."""

    problems: int = Field(default=32, ge=1)
    """Problems of one step's base batch (B)."""
    samples: int = Field(default=8, ge=1)
    """Attempts at each problem (G)."""
    max_tokens: int = Field(default=1024, ge=1)
    """Most new tokens of an attempt, and of a correction."""
    engine: Literal["hf", "vllm", "vllm_server"] = "hf"
    """What generates. vllm holds its own copy of the weights on the same device, reloaded in place each step;
    vllm_server are servers on other devices, which are sent the weights each step (docs/several-processes.md)."""
    servers: list[str] = []
    """vllm_server: their addresses, such as http://node2:8000."""
    weights_dir: Path | None = None
    """vllm_server: folder in which weights are handed over, which servers see under the same path; by default one in
    ``output``."""
    server_timeout: float = Field(default=3600.0, gt=0)
    """vllm_server: seconds that an attempt, or taking over weights, may take, waits in the server's queue included."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """hf: tokens of all samples under way; by default from the memory that is free."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt with completion; by default what the model takes."""
    engine_args: dict[str, Any] = {}
    """vllm: arguments of its AsyncEngineArgs, such as gpu_memory_utilization."""
    sleep: bool = True
    """vllm on a GPU: gives its memory back while the model trains."""
    dynamic: int = Field(default=0, ge=0)
    """Dynamic sampling (DAPO): so many further batches are drawn for problems whose group has variance."""

    @model_validator(mode="after")
    def _fits(self) -> Rollout:
        if (self.engine == "vllm_server") != bool(self.servers):
            raise ValueError("engine: vllm_server and servers go together")
        return self
