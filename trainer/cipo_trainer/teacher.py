"""A teacher that follows the model: an exponential moving average of its weights (SDPO, arXiv:2601.20802)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Teacher:
    """Moves a reference towards the model after each update, in float32 whatever type it computes in: a twentieth of an
    update is below bfloat16's resolution."""

    def __init__(self, reference: Any, rate: float) -> None:
        """``reference``: a model. ``rate``: the share of the way that it moves, in (0, 1]."""
        self._shown = list(reference.parameters())
        self._rate = rate
        self._exact = [p if p.dtype == torch.float32 else p.detach().float() for p in self._shown]

    @torch.no_grad()
    def follow(self, masters: Sequence[torch.Tensor]) -> None:
        """``masters``: the model's parameters in float32, in the order of the reference's."""
        torch._foreach_lerp_(self._exact, list(masters), self._rate)
        self._show()

    def state(self) -> list[torch.Tensor]:
        """Its weights."""
        return [p.detach().cpu() for p in self._exact]

    @torch.no_grad()
    def load(self, state: Sequence[torch.Tensor]) -> None:
        """Takes in what ``state`` gave."""
        torch._foreach_copy_(self._exact, list(state))
        self._show()

    def _show(self) -> None:
        torch._foreach_copy_(self._shown, self._exact)
