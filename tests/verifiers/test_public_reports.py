"""Faults of graders that were reported in public: every labelled case of mathematics comes out as its report wants."""

from __future__ import annotations

from pathlib import Path

from cipo_eval.records import FinishReason, Mode
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_data import json_lines, make_problem


def test_every_reported_case(real_data: Path) -> None:
    verifier, wrong, tried = MathVerifier(), [], 0
    for row in json_lines(real_data / "verifier" / "public_reports.jsonl"):
        if row["area"] != "math":
            continue
        tried += 1
        problem = make_problem(row["gold"], **row["options"])
        found = verifier.extract(
            problem, f"So it is $\\boxed{{{row['answer']}}}$.", FinishReason.STOP, Mode.FIXED
        )
        for answer in (row["answer"], found.answer or ""):
            grade = verifier.grade(row["gold"], answer, row["options"], Mode.FIXED)
            if grade.correct != row["expected"] or grade.failed:
                wrong.append((row["id"], answer))
    assert not wrong
    assert tried == 81
