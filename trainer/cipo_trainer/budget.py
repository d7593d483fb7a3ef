"""What a training has spent, over all its calls, and whether one of its budgets (``stop``) is used up.

Methods are compared at equal budgets: every token that was generated counts, those of attempts too that were discarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cipo_eval.errors import UsageError, nearest
from cipo_trainer.run_options import Stop

ATTEMPTS = "_attempts"
"""The end of the names, among a step's figures, of those that count attempts."""
HOUR = 3600.0
"""Seconds."""


def add(spent: dict[str, float], measured: Mapping[str, Any]) -> dict[str, float]:
    """Adds what a step measured to what was spent; the totals, by the names of the log."""
    step = {
        "generated_tokens": measured["generated_tokens"],
        "processed_tokens": measured["passed_tokens"],
        "attempts": sum(value for name, value in measured.items() if name.endswith(ATTEMPTS)),
        "seconds": measured["seconds"],
    }
    for name, value in step.items():
        spent[name] = spent.get(name, 0.0) + value
    return {f"{name}_total": value for name, value in spent.items()}


def used_up(spent: Mapping[str, float], stop: Stop) -> str:
    """The first budget that is used up, as the configuration has it; empty while none is."""
    values = {**spent, "hours": spent.get("seconds", 0.0) / HOUR}
    for name, limit in stop:
        if name != "figures" and limit is not None and values.get(name, 0.0) >= limit:
            return f"stop.{name}={limit}"
    return ""


def wanting(figures: Mapping[str, float | None], stop: Stop) -> dict[str, float | None]:
    """Those of ``stop.figures`` that an evaluation does not reach, with what they are (None: undefined, such as the
    retention of a model that is never right). Raises ``UsageError`` for a name that no evaluation has."""
    for name in stop.figures:
        if name not in figures:
            raise UsageError(f"stop.figures: the evaluations have no figure {name}; {nearest(name, figures)}")
    values = {name: figures[name] for name in stop.figures}
    return {name: v for name, v in values.items() if v is None or v < stop.figures[name]}
