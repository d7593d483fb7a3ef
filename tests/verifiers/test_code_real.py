"""The verifier for programs on HumanEval(+) and MBPP(+): canonical solutions, stubs, evalplus's recorded verdicts.
Those of LeetCode and LiveCodeBench are in ``test_code_agreement``.

What is found out about references is kept in one folder for the whole test session: it takes minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from parts import Part, part

from cipo_eval.data.tasks import load_problems
from cipo_eval.records import Grade, Mode, Problem
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.verifier import judge
from verifiers.code_tools import outputs, recorded_pass

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("code_cache")]


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


def reference(problem: Problem) -> str:
    return testsets.load(problem.gold).reference or ""


WEAK = {"mbpp_classic": ["Mbpp/367"]}
"""Problems whose tests and programs share a process."""


@part(48)
@pytest.mark.parametrize(
    ("task", "real", "count"),
    [
        ("humaneval", False, 164),
        ("humaneval", True, 164),
        ("mbpp", True, 378),
        ("mbpp_classic", True, 500),
    ],
)
def test_every_canonical_solution_passes_and_no_stub_does(
    task: str, real: bool, count: int, part: Part, lane: Lane, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("real_data") if real else None
    problems = load_problems(task, data_dir=data, offline=True).problems
    assert len(problems) == count
    failed, fooled, weak = [], [], []
    for problem in part.of(problems, lambda problem: problem.id, always=WEAK.get(task, ())):
        grade = judge(lane, problem.gold, reference(problem), Mode.FIXED)
        if not grade.correct:
            failed.append((problem.id, grade.report))
        if grade.report.get("integrity") == "weak":
            weak.append(problem.id)
        stub = f"def {testsets.load(problem.gold).entry_point}(*args, **kwargs):\n    return None\n"
        if judge(lane, problem.gold, stub, Mode.FIXED).correct:
            fooled.append(problem.id)
    assert failed == []
    assert fooled == []
    assert weak == WEAK.get(task, [])


# --- evalplus ----------------------------------------------------------------------------------------------

HEAVY = {
    *(f"HumanEval/{n}" for n in (15, 36, 59, 83, 94, 130, 139)),
    *(f"Mbpp/{n}" for n in (84, 123, 255, 271, 300, 389, 392, 583, 589, 592, 599, 603, 630)),
}
"""Canonical solutions of these take about nine tenths of the time of all: they are judged above, and a recorded pass
counts here as it stands."""

NEWER_ORACLE = {"Mbpp/2", "Mbpp/232", "Mbpp/579"}
"""Their answers are sets in any order; the recorded run of 2024 (MBPP+ v0.1.0) compared them as lists."""


@part(30)
@pytest.mark.parametrize(
    ("task", "model", "figures", "differing"),
    [
        ("humaneval", "Qwen2.5-Coder-1.5b-base", (43.9, 36.6), set()),
        ("humaneval", "Meta-Llama-3-8B-Instruct", (64.0, 57.3), set()),
        ("mbpp", "Qwen2.5-Coder-1.5b-base", (70.6, 60.1), NEWER_ORACLE),
        ("mbpp", "Meta-Llama-3-8B-Instruct", (65.9, 55.8), set()),
    ],
)
def test_recorded_evalplus_verdicts_item_by_item(
    task: str,
    model: str,
    figures: tuple[float, float],
    differing: set[str],
    part: Part,
    lane: Lane,
    real_data: Path,
) -> None:
    problems = {p.id: p for p in load_problems(task, data_dir=real_data).problems}
    judged = {}
    rows = outputs(real_data, f"code/{model}__{task}")
    for row in part.of(rows, lambda row: row["task_id"], always=NEWER_ORACLE):
        if row["task_id"] in problems:
            passed = row["base_status"] == row["plus_status"] == "pass"
            if row["task_id"] in HEAVY and passed:
                judged[row["task_id"]] = (row, {"base": True, "plus": True})
                continue
            by = recorded_pass if passed else judge
            grade = by(lane, problems[row["task_id"]].gold, row["solution"], Mode.FIXED)
            judged[row["task_id"]] = (row, grade.parts)
    others = {
        name
        for name, (row, parts) in judged.items()
        if (parts["base"], parts["plus"])
        != (row["base_status"] == "pass", row["base_status"] == "pass" and row["plus_status"] == "pass")
    }
    assert others == differing
    if not part.whole:
        return
    assert len(others) <= 0.01 * len(judged)
    found = tuple(
        round(100 * sum(parts[name] for _, parts in judged.values()) / len(judged), 1)
        for name in ("base", "plus")
    )
    assert found == figures


# --- load --------------------------------------------------------------------------------------------------

SPIN = """
import time
def f(n):
    end = time.process_time() + n
    while time.process_time() < end:
        pass
    return n
"""


@part(12)
def test_a_verdict_does_not_depend_on_load(lane: Lane, real_data: Path, part: Part) -> None:
    """A slice of HumanEval+ and programs near their limit, judged idle and with every core busy."""
    problems = load_problems("humaneval", data_dir=real_data).problems[:: 8 * part.one_in]
    near = testsets.store(
        testsets.TestSet(
            kind=testsets.Kind.CALLS,
            groups=(
                testsets.Group(
                    name="all",
                    tests=(
                        testsets.Test(args=[0.35], expected=0.35),
                        testsets.Test(args=[0.2], expected=0.2),
                        testsets.Test(args=[2.0], expected=2.0),
                    ),
                ),
            ),
            entry_point="f",
            cpu_seconds=0.6,
        )
    )
    programs = [(p.gold, reference(p)) for p in problems] + [(near, SPIN)] * 4

    def verdicts() -> list[tuple[bool, str, str]]:
        with ThreadPoolExecutor(2) as threads, Spare(lane) as other:

            def every_second(lane: Lane, start: int) -> Sequence[Grade]:
                return [judge(lane, gold, program, Mode.FIXED) for gold, program in programs[start::2]]

            halves = list(threads.map(every_second, (lane, other), (0, 1)))
        return [(g.correct, g.method, str(g.report["outcomes"])) for half in halves for g in half]

    idle = verdicts()
    spinning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        busy = verdicts()
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert busy == idle
    assert (False, "timeout", "2p1t") in idle


class Spare:
    """A second lane like the first."""

    def __init__(self, lane: Lane) -> None:
        self._lane = Lane(lane.tier)

    def __enter__(self) -> Lane:
        return self._lane

    def __exit__(self, *exc: object) -> None:
        self._lane.close()
