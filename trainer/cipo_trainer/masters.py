"""AdamW on float32 masters, whatever type the model computes in.

A model in bfloat16 is both what trains and what generates; its float32 masters, gradients and optimizer state live
here. At a learning rate of 1e-6 an update is below bfloat16's resolution nearly everywhere: without masters it would be
lost. A model in float32 is its own master.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cipo_eval.errors import require
from cipo_trainer.config import Optimizer

Kept = list[torch.Tensor | None]
"""Gradients at some moment, by parameter."""


class Masters:
    """Owns what the optimizer works on: parameters of a model that require gradients, as float32."""

    def __init__(self, model: Any, config: Optimizer) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._names, self._shown = [name for name, _ in named], [p for _, p in named]
        self._apart = any(p.dtype in (torch.bfloat16, torch.float16) for p in self._shown)
        self.parameters = [p.detach().float().clone() for p in self._shown] if self._apart else self._shown
        if self._apart:
            for shown, master in zip(self._shown, self.parameters, strict=True):
                shown.register_post_accumulate_grad_hook(_AddToMaster(master))
        matrices = [p for p in self.parameters if p.ndim >= 2]
        rest = [p for p in self.parameters if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimizer = _adamw([group for group in groups if group["params"]], config)

    @property
    def gradients(self) -> list[torch.Tensor]:
        """Gradients of the parameters that have one, float32."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def not_finite(self) -> str:
        """The first weight, or else the first gradient, that has NaN or an infinity in it; empty: there is none."""
        for what, tensors in (
            ("weight", self.parameters),
            ("gradient of", [p.grad for p in self.parameters]),
        ):
            bad = [
                name
                for name, tensor in zip(self._names, tensors, strict=True)
                if tensor is not None and not _finite(tensor)
            ]
            if bad:
                return f"{what} {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else "")
        return ""

    def kept(self, *, on_device: bool = False) -> Kept:
        """Copies of the gradients, in the host's memory unless told otherwise; None for a parameter without one."""
        if on_device:
            return [None if p.grad is None else p.grad.clone() for p in self.parameters]
        return [None if p.grad is None else p.grad.to("cpu", copy=True) for p in self.parameters]

    def grown(self, before: Kept | None, after: Kept | None) -> torch.Tensor:
        """Norm of what the gradients grew by between two moments, tensor by tensor: no copy of them all on their own
        device. None: ``before`` there were none, ``after`` is now."""
        now = [p.grad for p in self.parameters] if after is None else after
        then = [None] * len(now) if before is None else before
        parts = [
            torch.linalg.vector_norm(last if first is None else last - first.to(last.device))
            for first, last in zip(then, now, strict=True)
            if last is not None
        ]
        return torch.linalg.vector_norm(torch.stack(parts)) if parts else torch.zeros(())

    def clear(self) -> None:
        """Forgets all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, lr: float, scale: float) -> None:
        """One update of AdamW at the learning rate ``lr``, with the gradients times ``scale``."""
        if scale != 1.0:
            torch._foreach_mul_(self.gradients, scale)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):  # as torchao has it
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self.optimizer.step()
        self.show()

    @torch.no_grad()
    def show(self) -> None:
        """Copies the masters' values into the model, in its own type."""
        if self._apart:
            torch._foreach_copy_(self._shown, self.parameters)

    @property
    def ordered(self) -> list[torch.Tensor]:
        """The parameters in the optimizer's order."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state(self, *, with_masters: bool | None = None) -> dict[str, Any]:
        """Tensors of the optimizer, and the masters where they are not the model's own weights."""
        tensors: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self._apart:
            tensors["masters"] = [p.cpu() for p in self.parameters]
        elif with_masters:
            tensors["masters"] = [p.detach() for p in self.parameters]
        return tensors

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Takes in what ``state`` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self._apart or "masters" in state:
            for mine, saved in zip(self.parameters, state["masters"], strict=True):
                mine.copy_(saved)
            self.show()


def _finite(tensor: torch.Tensor) -> bool:
    """Of a tensor that is in parts, this process's."""
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return bool(torch.isfinite(part).all())


def _adamw(groups: list[dict[str, Any]], config: Optimizer) -> torch.optim.Optimizer:
    if config.moments == "8bit":
        require("eight-bit", "optimizer.moments=8bit")
        from torchao.optim import AdamW8bit

        eight_bit: torch.optim.Optimizer = AdamW8bit(groups, lr=config.lr, betas=config.betas)
        return eight_bit
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


class _AddToMaster:
    """Adds a parameter's gradient to its master's, as soon as it is complete."""

    def __init__(self, master: torch.Tensor) -> None:
        self._master = master

    def __call__(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        if self._master.grad is None:
            self._master.grad = parameter.grad.float()
        else:
            self._master.grad.add_(parameter.grad)
        parameter.grad = None


def norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm of all gradients together, a scalar on their device."""
    if not gradients:
        return torch.zeros(())
    total: torch.Tensor = torch.nn.utils.get_total_norm(gradients)
    return total
