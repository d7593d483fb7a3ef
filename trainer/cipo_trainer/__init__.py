"""Training for self-correction: SFT, GRPO and its kin, and CIPO (arXiv:2605.14539), judged by the harness's verifiers.

``train(load("cipo", ["output=runs/cipo", "steps=10"]))`` does what ``cipo-eval train cipo output=runs/cipo steps=10``
does; ``loop`` is where to read on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cipo_trainer.config import Config
    from cipo_trainer.presets import build, load
    from cipo_trainer.training import Outcome, train

__all__ = ["Config", "Outcome", "build", "load", "train"]
_PLACES = {
    "Config": "config",
    "build": "presets",
    "load": "presets",
    "Outcome": "training",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for only now: worlds and readers of this package are used where nothing is trained."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
