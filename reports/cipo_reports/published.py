"""Figures of the CIPO paper, for rows beside measured ones: facts, not measured here.

Source: arXiv:2605.14539 and public summaries of it. 500 training steps; Qwen3-4B on mathematics, Seed-Coder-8B on code.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "arXiv:2605.14539"

METHODS: Mapping[str, Mapping[str, float]] = {
    "Qwen3-4B": {"aime24": 23.54},
    "Qwen3-4B + GRPO": {"aime24": 42.08},
    "Qwen3-4B + CIPO": {"aime24": 47.50},
    "Seed-Coder-8B + GRPO": {"livecodebench": 29.45},
    "Seed-Coder-8B + CIPO": {"livecodebench": 30.33, "debugbench": 64.99},
}
"""By method, figures that stand for a task: avg@n of mathematics, pass@1 of LiveCodeBench v6, mean accuracy of
DebugBench, all in per cent."""

FIGURES: tuple[tuple[str, float | None, float | None, float | None], ...] = (
    ("six math sets, mean accuracy", 46.82, 59.83, 64.38),
    ("AIME24 avg", 23.54, 42.08, 47.50),
    ("AIME24 pass@32", None, 76.67, 86.67),
    ("LiveCodeBench v6 pass@1", None, 29.45, 30.33),
    ("LiveCodeBench v6 pass@8", None, None, 37.53),
    ("DebugBench average accuracy", None, None, 64.99),
    ("CriticBench math, correction", None, 75.38 - 7.74, 75.38),
    ("CriticBench math, critique", None, None, 94.0),
)
"""Figure, and its value in per cent for the initial model, GRPO and CIPO; 59.83 and 67.64 follow from published
differences. The six sets: AIME24, AIME25, AMC23, MATH-500, Minerva, OlympiadBench."""
