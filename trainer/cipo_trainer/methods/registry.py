"""The method of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cipo_eval.engines.conversation import Chat
from cipo_trainer.config import Config
from cipo_trainer.methods.distill import Distilled
from cipo_trainer.methods.hints import Hinted
from cipo_trainer.methods.multi_turn import Revisions
from cipo_trainer.methods.refine import Refined
from cipo_trainer.methods.step import StepMethod
from cipo_trainer.methods.trials import Segmented
from cipo_trainer.methods.verify import Judged

METHODS: dict[str, Callable[[Any, Chat], StepMethod]] = {
    "multi_turn": Revisions,
    "hints": Hinted,
    "distill": Distilled,
    "verify": Judged,
    "refine": Refined,
    "trials": Segmented,
}
"""By kind."""


def method_of(config: Config) -> StepMethod | None:
    """What follows the base batch, if it is not CIPO's corrections. Raises ``UsageError`` for templates that cannot be
    filled in."""
    return METHODS[config.method.kind](config.method, config.chat) if config.method else None
