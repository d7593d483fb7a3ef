"""Verifiers that judge by equality, and hang or die at the answer 7."""

from __future__ import annotations

from typing import Any

from verifiers.faulty import FaultyVerifier

from cipo_eval.records import Grade


class Hanging(FaultyVerifier):
    fault = "hang in C"

    def grade(self, gold: str, answer: str, *rest: Any) -> Grade:
        return super().grade(gold, self.fault if answer == "7" else answer, *rest)


class Dying(Hanging):
    fault = "die"
