"""A verifier that never comes back from one answer; ``test_chunks`` has it judge in workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cipo_eval.records import Grade, Mode
from cipo_eval.verifiers.math.verifier import MathVerifier


class HangingVerifier(MathVerifier):
    name = "hanging"
    quick = True

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> None:  # noqa: ARG002
        return None

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:
        while answer == "999999":
            pass
        return super().grade(gold, answer, options, mode)
