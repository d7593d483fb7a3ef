"""The verifier for programs on real benchmarks and real outputs: canonical solutions, stubs, recorded verdicts.

What is found out about references is kept in one folder for the whole test session: it takes minutes.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cipo_eval import testsets
from cipo_eval.data import read_rows
from cipo_eval.readers import livecodebench
from cipo_eval.records import Grade, Mode, Problem
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.tasks import load_problems
from cipo_eval.verifiers.code.verifier import judge

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    shared = tmp_path_factory.getbasetemp().parent / "code-cache"
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(shared))


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def reference(problem: Problem) -> str:
    return testsets.load(problem.gold).reference or ""


WEAK = {"mbpp_classic": ["Mbpp/367"]}
"""Problems whose tests and programs share a process."""


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
    task: str, real: bool, count: int, lane: Lane, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("real_data") if real else None
    problems = load_problems(task, data_dir=data, offline=True).problems
    assert len(problems) == count
    failed, fooled, weak = [], [], []
    for problem in problems:
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

NEWER_ORACLE = {"Mbpp/2", "Mbpp/232", "Mbpp/579"}
"""Their answers are sets in any order; the recorded run of 2024 (MBPP+ v0.1.0) compared them as lists."""


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
    task: str, model: str, figures: tuple[float, float], differing: set[str], lane: Lane, real_data: Path
) -> None:
    problems = {p.id: p for p in load_problems(task, data_dir=real_data).problems}
    outputs = rows(real_data / "model_outputs" / "code" / f"{model}__{task}.jsonl.gz")
    judged = {
        row["task_id"]: (row, judge(lane, problems[row["task_id"]].gold, row["solution"], Mode.FIXED).parts)
        for row in outputs
        if row["task_id"] in problems
    }
    others = {
        name
        for name, (row, parts) in judged.items()
        if (parts["base"], parts["plus"])
        != (row["base_status"] == "pass", row["base_status"] == "pass" and row["plus_status"] == "pass")
    }
    assert others == differing
    assert len(others) <= 0.01 * len(judged)
    found = tuple(
        round(100 * sum(parts[name] for _, parts in judged.values()) / len(judged), 1)
        for name in ("base", "plus")
    )
    assert found == figures


# --- LiveCodeBench -----------------------------------------------------------------------------------------

OLDER_RUNNER = {"abc303_d", "abc338_d", "abc359_d", "abc380_c"}
"""They mix ``readline`` and ``read``, and passed; the runner that ``paper`` mode follows reads everything again."""


@pytest.mark.parametrize("name", ["o1-mini__lcb_v5", "Qwen2.5-7B-Instruct__lcb_v6_selfrepair"])
def test_no_program_with_a_recorded_pass_fails_on_livecodebench(
    name: str, lane: Lane, real_data: Path
) -> None:
    golds = {}
    for row in read_rows(real_data / "livecodebench" / "code_generation_lite_v6_joined.jsonl.gz"):
        tests = livecodebench.read(livecodebench.prepare(row), {}).tests
        assert tests is not None
        golds[str(row["question_id"])] = tests if isinstance(tests, str) else testsets.store(tests)
    failed: dict[Mode, set[str]] = {Mode.FIXED: set(), Mode.PAPER: set()}
    passed = 0
    for row in rows(real_data / "model_outputs" / "livecodebench" / f"{name}.jsonl.gz"):
        for program, right in zip(row["code_list"], row["graded_list"], strict=True):
            if right:
                passed += 1
                for mode, names in failed.items():
                    if not judge(lane, golds[str(row["question_id"])], program, mode).correct:
                        names.add(row["question_id"])
    assert passed > 200
    assert failed[Mode.FIXED] == set()
    assert failed[Mode.PAPER] <= OLDER_RUNNER


# --- DebugBench --------------------------------------------------------------------------------------------


def test_every_oracle_of_debugbench_passes(lane: Lane, real_data: Path) -> None:
    problems = {p.gold: p for p in load_problems("debugbench", data_dir=real_data).problems}
    failed = [
        (p.id, grade.report)
        for gold, p in problems.items()
        if not (grade := judge(lane, gold, reference(p), Mode.FIXED)).correct
    ]
    assert failed == []


def test_verdicts_of_leetcode_on_debugbench(lane: Lane, real_data: Path) -> None:
    """No program that LeetCode accepted fails. The share of agreement is limited by the tests at hand: programs that
    LeetCode rejected on tests that nobody else has may pass."""
    by_slug = {p.id.split("/")[0]: p for p in load_problems("debugbench", data_dir=real_data).problems}
    counts: Counter[tuple[bool, bool]] = Counter()
    for row in rows(real_data / "model_outputs" / "debugbench" / "gpt-4_debug_python3.jsonl.gz"):
        problem = by_slug.get(row["slug"])
        if problem is None or row["test_result_dict"].get("state") == "STARTED":
            continue  # no tests, or LeetCode's judge never came to a verdict
        grade = judge(lane, problem.gold, row["fixed_code"], Mode.FIXED)
        counts[row["test_result_bool"], grade.correct] += 1
    assert counts[True, False] == 0
    agreement = (counts[True, True] + counts[False, False]) / counts.total()
    assert agreement >= 0.99, counts


# --- load --------------------------------------------------------------------------------------------------

SPIN = """
import time
def f(n):
    end = time.process_time() + n
    while time.process_time() < end:
        pass
    return n
"""


def test_a_verdict_does_not_depend_on_load(lane: Lane, real_data: Path) -> None:
    """A slice of HumanEval+ and programs near their limit, judged idle and with every core busy."""
    import os
    import subprocess
    import sys

    problems = load_problems("humaneval", data_dir=real_data).problems[::8]
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
