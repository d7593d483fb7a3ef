"""Fewer and larger kernels on a GPU; everywhere else what is here does nothing.

What transformers computes in many small kernels, each of which reads and writes all of its input, is one here. Numbers
are the same up to rounding.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

_PLAIN_NORMS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Families whose RMSNorm is weight times normalised input (Gemma's is not)."""


class Fused:
    """A function that is compiled for tensors on a GPU. Where that fails (no compiler), it is run as it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None
        self._failed = False

    def __call__(self, first: torch.Tensor, *rest: Any, **more: Any) -> Any:
        if not first.is_cuda or self._failed:
            return self._function(first, *rest, **more)
        from torch._dynamo.exc import TorchDynamoException

        if self._compiled is None:
            self._compiled = torch.compile(self._function, dynamic=True)
        try:
            return self._compiled(first, *rest, **more)
        # no other error: some end a recomputation early, or say that memory is out
        except TorchDynamoException as error:
            self._failed = True
            warnings.warn(f"torch.compile fails, going on without ({type(error).__name__})", stacklevel=2)
            return self._function(first, *rest, **more)


def fuse_norms(model: Any) -> None:
    """Has a model on a GPU normalise in one kernel each. It rounds once where transformers rounds twice."""
    if model.device.type != "cuda" or model.config.get_text_config().model_type not in _PLAIN_NORMS:
        return
    for module in model.modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.__class__ = _fused_norm(kind)  # type: ignore[arg-type]  # a class is hashable


@functools.cache
def _fused_norm(kind: Any) -> Any:
    """A subclass, not a method of each module: one that is compiled would be compiled for every module anew."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        return torch.nn.functional.rms_norm(hidden, weight.shape, weight, self.variance_epsilon)

    return type(f"Fused{kind.__name__}", (kind,), {"forward": forward})
