"""Public reports about texts and programs (``verifier/public_reports.jsonl``): every one comes out as it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.records import FinishReason, Mode, State
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Call, Lane, Outcome, Series, run_job
from cipo_eval.sandbox.worker import Job
from cipo_eval.verifiers.code.extract import extract_program
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_data import json_lines, make_problem


@pytest.fixture(scope="module")
def reports(real_data: Path) -> dict[str, dict[str, Any]]:
    rows = json_lines(real_data / "verifier" / "public_reports.jsonl")
    return {row["id"]: row for row in rows if row["area"] != "math"}


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


def outcome(lane: Lane, row: dict[str, Any]) -> Outcome:
    """Of a report's program on its standard input or arguments."""
    if "stdin" in row:
        job = Job(program=row["program"], kind="stdin", tests=[{"input": row["stdin"]}])
        series = Series(job, lambda _at, _outcome: True)
        series.run(lane.sample(job.program))
        return series.outcomes[0]
    calls = [Call(args=row["args"]).to_json()]
    return run_job(lane, Job(program=row["program"], kind="calls", target="f", tests=calls)).outcomes[0]


def test_every_report_comes_out_as_expected(reports: dict[str, dict[str, Any]], lane: Lane) -> None:
    verifier = MathVerifier()
    seen = set()
    for name, row in reports.items():
        kind, expected = row["kind"], row["expected"]
        seen.add(kind)
        if row["area"] == "extraction":
            found = verifier.extract(
                make_problem(row["gold"]), row["text"], FinishReason(row["finish_reason"]), Mode.FIXED
            )
            if "truncated" in expected:
                assert (found.answer, found.state) == (None, State.TRUNCATED), name
            else:
                assert found.answer is not None, name
                assert verifier.grade(row["gold"], found.answer, {}, Mode.FIXED).correct, name
        elif row["area"] == "code":
            told = outcome(lane, row)
            said = told.stdout.decode() if "stdin" in row else str(told.value)
            assert told.error is None, (name, told)
            assert said.strip() == "".join(c for c in expected.rpartition("(")[2] if c.isdecimal()), name
        elif row["area"] == "code-extraction":
            program = extract_program(row["text"], stopped=True, entry_point=row["entry_point"])
            assert program is not None
            assert program.code == row["text"].removeprefix("```python\n").removesuffix("\n```"), name
        else:  # tests/trainer/test_step.py: at learning rate 0, KL and mismatch are 0
            assert kind == "dropout", name
    assert seen == {"other-think-tags", "int-digits", "dev-stdin", "fence-in-string", "run-on", "dropout"}
