"""A verifier whose verdict takes no time: what is measured beside it is everything else."""

from __future__ import annotations

from typing import Any

from cipo_eval.records import Extraction, Grade


class Reward:
    """Right where the last but one token's number is even: half of them, whatever the model does."""

    name = "parity"

    def extract(self, problem: Any, text: str, *_: Any) -> Any:  # noqa: ARG002  a verifier's signature
        return Extraction(answer=text.split()[-1] if text.split() else "w1")

    def grade(self, gold: str, answer: str, *_: Any) -> Any:  # noqa: ARG002  a verifier's signature
        return Grade(correct=int(answer[1:] or 1) % 2 == 0, canonical=answer)

    def seconds(self, *_: Any) -> float | None:
        return None
