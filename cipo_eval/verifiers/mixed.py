"""The verifier of tasks with problems of several kinds: each problem names its own in its option ``verifier``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, Verifier
from cipo_eval.verifiers import get_verifier


class MixedVerifier:
    """Passes everything on to the verifier that a problem's options name."""

    name = "mixed"

    def __init__(self) -> None:
        self._known: dict[str, Verifier] = {}

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction:
        """The answer, by the verifier that the problem's options name."""
        return self._of(problem.options).extract(problem, text, finish_reason, mode)

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:
        """The grade, by that verifier."""
        return self._of(options).grade(gold, answer, options, mode)

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:
        """The limit of that verifier, in processor seconds; None: the pool's."""
        return self._of(options).seconds(gold, options)

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> tuple[float, Grade] | None:
        """What that verifier says of answers that take too long: after how many processor seconds, and their grade."""
        verifier = self._of(options)
        return verifier.overdue(gold, options, mode) if hasattr(verifier, "overdue") else None

    def _of(self, options: Mapping[str, Any]) -> Verifier:
        name = str(options["verifier"])
        if name not in self._known:
            self._known[name] = get_verifier(name)
        return self._known[name]
