"""HumanEval (Chen et al. 2021) and, where its data is at hand, HumanEval+ (Liu et al. 2023).

With HumanEval+ the functions are called on its base and plus inputs and compared with the canonical solution, as
evalplus does. Without it, HumanEval's own test code runs. No test is public: what a model may see of them stands in the
prompt's docstring already.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.readers.evalplus import MEMORY, build_tests
from cipo_eval.data.sources import Row
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

_BASE = {
    **{31: 12, 32: 99, 38: 100, 44: 12, 50: 100, 53: 105, 75: 4, 77: 9, 78: 7},
    **{90: 6, 95: 7, 97: 8, 111: 7, 116: 7, 117: 7, 129: 10, 144: 12, 148: 7},
}
"""Distinct base inputs of the tasks whose test code has another number of calls: in a loop, or the same ones twice."""


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:
    """The problem of a row of HumanEval; the companion ``plus``, where it is at hand, is HumanEval+'s prepared row."""
    plus = companions.get("plus")
    prompt = (plus or row)["prompt"]
    reference = prompt + (plus or row)["canonical_solution"]
    if plus is not None:
        base = plus["base"] if plus["base"] is not None else _base_inputs(row)
        tests = build_tests(plus, dataset="humaneval", base=base, reference=reference)
    else:
        source = f"{row['test']}\ncheck({row['entry_point']})\n"
        tests = TestSet(
            kind=Kind.CODE,
            groups=(Group(name="base", tests=(Test(source=source),)),),
            entry_point=row["entry_point"],
            reference=reference,
            memory=MEMORY,
        )
    return ReadProblem(
        id=row["task_id"],
        question=prompt,
        tests=tests,
        options={"entry_point": row["entry_point"], "prompt": prompt},
    )


def _base_inputs(row: Row) -> int:
    """How many of HumanEval+'s inputs are HumanEval's own: the calls of its test code, which is only looked at."""
    number = int(row["task_id"].rpartition("/")[2])
    if number in _BASE:
        return _BASE[number]
    return sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "candidate"
        for node in ast.walk(ast.parse(row["test"]))
    )
