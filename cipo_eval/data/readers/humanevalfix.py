"""HumanEvalFix, the Python part of HumanEvalPack (Muennighoff et al. 2023): a function with a bug, and its tests.

A program is right where HumanEval's own test code, which already ends with the call of ``check``, passes. The faulty
program is shown by the prompt, and is the carried attempt of the protocols ``given`` and ``critique``.
"""

from __future__ import annotations

from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.readers.evalplus import MEMORY
from cipo_eval.data.sources import Row
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet


def read(row: Row, _companions: Mapping[str, Row]) -> ReadProblem:
    """A row of HumanEvalPack; helper functions of a task stand in its declaration, so every program begins with it."""
    buggy = row["declaration"] + row["buggy_solution"]
    test = Test(source=row["test"], public=True)
    return ReadProblem(
        id=row["task_id"],
        question=row["instruction"],
        tests=TestSet(
            kind=Kind.CODE,
            groups=(Group(name="tests", tests=(test,)),),
            entry_point=row["entry_point"],
            reference=row["declaration"] + row["canonical_solution"],
            memory=MEMORY,
        ),
        attempt=f"```python\n{buggy.rstrip()}\n```",
        attempt_right=False,
        shown={"buggy_code": buggy, "test_code": row["test"].strip(), "entry_point": row["entry_point"]},
        options={"entry_point": row["entry_point"], "prompt": row["declaration"]},
        metadata={"bug_type": row["bug_type"], "failure_symptoms": row["failure_symptoms"]},
    )
