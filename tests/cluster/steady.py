"""An engine whose samples take a while, and say their seed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cipo_eval.engines.engine import OneByOneEngine
from cipo_eval.engines.options import EngineOptions
from cipo_eval.records import Completion, FinishReason, Request


class SteadyOptions(EngineOptions):
    """What can be asked of it."""

    seconds: float = 0.0
    """That a sample takes."""
    hang: Path | None = None
    """Whoever finds nothing there puts a file there, and comes to no end."""


class Steady(OneByOneEngine[SteadyOptions]):
    """Answers by seed."""

    name, options = "steady", SteadyOptions

    def describe(self) -> dict[str, Any]:
        """How long it takes changes nothing."""
        return {"engine": self.name, "model": self.model, "fingerprint": "steady"}

    def complete(self, request: Request, seed: int) -> Completion:
        if (place := self.chosen.hang) and not place.exists():
            place.touch()
            time.sleep(10_000)
        time.sleep(self.chosen.seconds)
        said = f"{request.messages[-1]['content'][:20]}: the answer is {seed % 7}."
        return Completion(text=said, finish_reason=FinishReason.STOP, completion_tokens=seed % 11)
