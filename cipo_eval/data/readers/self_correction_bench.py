"""Self-Correction Bench (Tsui 2025): a question, and the wrong answer that an assistant turn begins with."""

from __future__ import annotations

from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row


def read(row: Row, _companions: Mapping[str, Row]) -> ReadProblem:
    """A row of SCLI5. The carried attempt is the injected assistant text as it is, never right."""
    user, assistant = row["messages_error_injection_in_model"]
    return ReadProblem(
        id=str(row["id"]),
        question=user["content"],
        answer=str(row["correct_answer"]),
        attempt=assistant["content"],
        attempt_right=False,
        metadata={"type": row["type"]},
    )
