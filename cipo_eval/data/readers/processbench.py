"""ProcessBench (Zheng et al. 2024, arXiv:2412.06559): a problem, a solution in steps, and which step is the first wrong
one. The gold is that step's index, counted from 0, or -1; there is no answer to the problem itself."""

from __future__ import annotations

from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row


def read(row: Row, _companions: Mapping[str, Row]) -> ReadProblem:
    """A row of ProcessBench. The carried attempt is the solution with a tag around each step, as its prompt shows it.

    Raises ``ValueError`` for a label that names no step.
    """
    steps, label = row["steps"], row["label"]
    if not steps or type(label) is not int or not -1 <= label < len(steps):
        raise ValueError(f"label is {label!r}, of {len(steps)} steps")
    solution = "\n\n".join(f"<paragraph_{i}>\n{step}\n</paragraph_{i}>" for i, step in enumerate(steps))
    return ReadProblem(
        id=row["id"],
        question=row["problem"],
        answer=str(label),
        attempt=solution,
        attempt_right=label == -1,
        shown={"solution": solution},
        metadata={
            "generator": row["generator"],
            "final_answer": "right" if row["final_answer_correct"] else "wrong",
        },
    )
