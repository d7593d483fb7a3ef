"""A verifier for tests of everything around the one for code: it runs nothing and looks at lengths."""

from __future__ import annotations

from typing import Any

from cipo_eval.records import Extraction, Grade, State


class LengthVerifier:
    """Base passes where the text has an even length, plus where it is divisible by four; by eight is weak."""

    name = "length"

    def extract(self, _problem: Any, text: str, *_: Any) -> Extraction:
        return Extraction(answer=text) if text else Extraction(answer=None, state=State.NO_ANSWER)

    def grade(self, gold: str, answer: str, options: Any, _mode: Any) -> Grade:
        assert gold.startswith("tests:")
        length = len(answer)
        parts = {"base": length % 2 == 0, "plus": length % 4 == 0} if "parts" in options else {}
        report = {"outcomes": "…" * 1000, "integrity": "weak" if length % 8 == 0 else "strong"}
        return Grade(correct=length % 4 == 0, canonical="", parts=parts, report=report)

    def seconds(self, *_: Any) -> float | None:
        return None
