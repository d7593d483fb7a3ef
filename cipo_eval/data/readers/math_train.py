"""The training problems of MATH (Hendrycks et al. 2021, arXiv:2103.03874): the gold is the solution's boxed answer."""

from __future__ import annotations

from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row
from cipo_eval.records import fingerprint
from cipo_eval.texts import last_boxed


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """The problem of a row of MATH. The column ``answer`` of public copies went through a normaliser that damaged some:
    it counts only where the solution has no box. Rows without either are left out."""
    answer = last_boxed(row["solution"]) or str(row.get("answer") or "")
    return ReadProblem(
        id=str(row["index"]) if "index" in row else fingerprint(row["problem"]),
        question=row["problem"],
        answer=answer,
        metadata={"type": row["type"], "level": row["level"]},
        coverage="" if answer else "left out because its solution has no answer",
    )
