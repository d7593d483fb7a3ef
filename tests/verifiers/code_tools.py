"""Judges many programs of real files side by side, for the tests of the code verifier."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from cipo_eval.data.readers import livecodebench
from cipo_eval.data.sources import read_rows
from cipo_eval.records import Grade, Mode
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.verifier import judge

Asked = tuple[str, str, Mode]
"""A reference to tests, a program, a mode."""


LEISURE = 6


def recorded_pass(lane: Lane, gold: str, program: str, mode: Mode) -> Grade:
    """The verdict on a program that passed elsewhere. It may have been just fast enough there: where it takes too long
    here, it is judged again with ``LEISURE`` times the processor time."""
    grade = judge(lane, gold, program, mode)
    if grade.method == "timeout":
        tests = testsets.load(gold)
        factor = LEISURE * tests.reference_factor
        slow = replace(tests, cpu_seconds=LEISURE * tests.cpu_seconds, reference_factor=factor)
        grade = judge(lane, testsets.store(slow), program, mode)
    return grade


class Court:
    """Two lanes, each for one thread at a time."""

    def __init__(self) -> None:
        tier = probe.choose().tier
        self.lanes = [Lane(tier), Lane(tier)]

    def grade(self, gold: str, program: str, mode: Mode = Mode.FIXED) -> Grade:
        return judge(self.lanes[0], gold, program, mode)

    def grades(self, asked: Iterable[Asked], *, recorded_passes: bool = False) -> list[Grade]:
        """In the order asked; ``recorded_passes``: of programs that passed elsewhere."""
        free: SimpleQueue[Lane] = SimpleQueue()
        for lane in self.lanes:
            free.put(lane)

        def one(item: Asked) -> Grade:
            lane = free.get()
            try:
                return recorded_pass(lane, *item) if recorded_passes else judge(lane, *item)
            finally:
                free.put(lane)

        with ThreadPoolExecutor(len(self.lanes)) as threads:
            return list(threads.map(one, asked))

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()


@contextmanager
def court() -> Iterator[Court]:
    made = Court()
    try:
        yield made
    finally:
        made.close()


def outputs(data: Path, name: str) -> list[dict[str, Any]]:
    """A file of ``model_outputs``."""
    with gzip.open(data / "model_outputs" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def livecodebench_rows(data: Path) -> dict[str, dict[str, Any]]:
    rows = read_rows(data / "livecodebench" / "code_generation_lite_v6_joined.jsonl.gz")
    return {str(row["question_id"]): dict(row) for row in rows}


def livecodebench_tests(row: dict[str, Any], more: Sequence[livecodebench.Case] = ()) -> str:
    """A reference to the tests of a problem that are known, and to further ones."""
    known = [*livecodebench._cases(row.get("x_known_private_tests") or []), *more]
    packed = {**row, "private_test_cases": "", "x_known_private_tests": known}
    tests = livecodebench.read(livecodebench.prepare(packed), {}).tests
    return tests if isinstance(tests, str) else testsets.store(tests)  # type: ignore[arg-type]
