"""Few-shot prompts: worked examples before a problem, as turns of a chat or in the problem's own message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BETWEEN = "\n\n"
"""Between an example's problem, its solution and what follows, in one message: as a model without a chat template sees
messages, and as the task definitions tell lm-eval."""


@dataclass(frozen=True, slots=True)
class Example:
    """A problem as it is asked, and a worked solution as a model should give it."""

    prompt: str
    solution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """The examples before each problem; none by default."""

    examples: tuple[Example, ...] = ()
    multiturn: bool = True
    """Each example is a turn of the user and one of the assistant, as if the talk had begun so; otherwise all of them
    stand in the message with the problem."""

    def messages(self, prompt: str) -> tuple[dict[str, str], ...]:
        """The messages that ask a problem, the last of them the user's."""
        if not self.multiturn:
            parts = [part for example in self.examples for part in (example.prompt, example.solution)]
            return ({"role": "user", "content": BETWEEN.join([*parts, prompt])},)
        turns = [
            turn
            for example in self.examples
            for turn in (
                {"role": "user", "content": example.prompt},
                {"role": "assistant", "content": example.solution},
            )
        ]
        return (*turns, {"role": "user", "content": prompt})

    def identity(self) -> dict[str, Any]:
        """What ``run.json`` says of it; runs of earlier releases say nothing, and have none."""
        shown = {"examples": len(self.examples), "multiturn": self.multiturn}
        return {"fewshot": shown if self.examples else None}

    @classmethod
    def asked(cls, facts: Mapping[str, Any]) -> tuple[int, bool]:
        """How many examples, and whether as turns, a task of a ``run.json`` was asked with."""
        fewshot = facts.get("fewshot") or {}
        return int(fewshot.get("examples", 0)), bool(fewshot.get("multiturn", True))
