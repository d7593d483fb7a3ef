"""Models whose scores are not numbers: found cheaply while generating, explained only then.

The log-probability of what was drawn is finite exactly if the scores that it was drawn from hold no NaN and no positive
infinity, so a look at one number per token is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from cipo_eval.engines.core.row import Row


class NotFinite(Exception):  # noqa: N818  it is an engine's to say it as an error
    """A sample's scores are not finite. ``tag``: that of its request; the message says where it begins."""

    def __init__(self, tag: Any, where: str) -> None:
        super().__init__(where)
        self.tag = tag


def check_finite(model: Any, rows: Sequence[Row], logprobs: torch.Tensor) -> None:
    """Checks what rows have just been given: log-probabilities of shape (rows, tokens), of which the first
    ``Row.taken`` count. Raises ``NotFinite``."""
    if bool(logprobs.isfinite().all()):
        return
    for row, finite in zip(rows, logprobs.isfinite(), strict=True):
        if not bool(finite[: row.taken].all()):
            raise NotFinite(row.request.tag, explained(model, [*row.request.prompt, *row.tokens]))


def explained(model: Any, tokens: Sequence[int]) -> str:
    """Which weights are not finite, or else which module's output is the first that is not, for these tokens."""
    for name, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            return f"its weights hold {_kind(value)}, first in {name}: the checkpoint is broken"
    first = _first(model, tokens)
    if first is None:
        return "its weights and, computed again, its layers are finite"
    name, kind = first
    dtype = str(model.dtype).removeprefix("torch.")
    wider = ": try --dtype bfloat16" if model.dtype == torch.float16 else ""
    return f"the output of {name} is the first that holds {kind}, in {dtype}{wider}"


def _first(model: Any, tokens: Sequence[int]) -> tuple[str, str] | None:
    """The name of the first module whose output is not finite, and what it holds."""
    seen: list[tuple[str, str]] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            values = output if isinstance(output, tuple) else (output,)
            for value in values:
                if not seen and isinstance(value, torch.Tensor) and not bool(value.isfinite().all()):
                    seen.append((name, _kind(value)))

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        # the reason may be lack of memory: then nobody knows
        with torch.inference_mode(), suppress(RuntimeError):
            model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0] if seen else None


def _kind(value: torch.Tensor) -> str:
    return "NaN" if bool(value.isnan().any()) else "infinite values"
