"""Reads the real benchmarks and the published, scored model outputs that the math verifier's tests run on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cipo_eval.records import Extraction, Grade, Mode, Problem
from cipo_eval.texts import last_boxed
from cipo_eval.verifiers.math import paper
from cipo_eval.verifiers.math.verifier import MathVerifier
from cipo_eval.verifiers.pool import VerifierPool

QWEN_HARNESS = ("Llama-3.1-8B-Instruct__minerva_math", "Llama-3.1-8B-Instruct__olympiadbench")
"""Outputs that the original Qwen2.5-Math harness scored; SkyThought's fork of it scored the others."""


class Scored(NamedTuple):
    """One item of a published run."""

    index: int
    problem: Problem
    text: str
    score: bool


def json_lines(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode("utf-8").split("\n") if line]


def golds(data: Path, benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    """(raw gold, options) of each item, in order."""
    if benchmark == "math500":
        return [(row["answer"], {}) for row in json_lines(data / "math500" / "test.jsonl")]
    if benchmark == "minerva_math":
        rows = json_lines(data / "minerva_math" / "test.jsonl")
        return [(last_boxed(row["solution"]) or "", {"units": "skip"}) for row in rows]
    if benchmark == "olympiadbench":
        rows = json_lines(data / "olympiadbench" / "OE_TO_maths_en_COMP.jsonl")
        return [(row["final_answer"][0], _olympiad_options(row)) for row in rows]
    rows = json_lines(data / benchmark / "test.jsonl")
    return [(str(row["answer"]), {"kind": "integer"}) for row in rows]


def _olympiad_options(row: dict[str, Any]) -> dict[str, Any]:
    options = {"multiple": row["is_multiple_answer"], "answer_type": row["answer_type"]}
    if row["unit"]:
        options["unit"] = row["unit"]
    if row["error"]:
        options["tolerance"] = row["error"]
    return options


def output_files(data: Path) -> list[str]:
    return sorted(
        path.name.removesuffix(".jsonl.gz") for path in (data / "model_outputs" / "math").glob("*.jsonl.gz")
    )


def scored_outputs(data: Path, name: str) -> list[Scored]:
    """A published run: the raw generations with the raw golds of the benchmark, and the published verdicts."""
    benchmark = name.split("__")[1]
    harness = "qwen" if name in QWEN_HARNESS else "skythought"
    found = []
    rows = json_lines(data / "model_outputs" / "math" / f"{name}.jsonl.gz")
    for index, (row, (gold, options)) in enumerate(zip(rows, golds(data, benchmark), strict=True)):
        options = {**options, "reference": benchmark, "harness": harness}
        problem = make_problem(gold, index=index, **options)
        found.append(Scored(index, problem, row["code"][0], row["score"][0]))
    return found


def make_problem(gold: str = "", *, index: int = 0, **options: Any) -> Problem:
    return Problem(task="t", id=str(index), index=index, question="", prompt="", gold=gold, options=options)


def judge(gold: str, answer: str, mode: Mode = Mode.FIXED, **options: Any) -> bool:
    return MathVerifier().grade(gold, answer, options, mode).correct


class NormalForms:
    """A verifier of normal forms: paper mode's equality alone."""

    name = "normal forms"

    def extract(self, problem: Problem, text: str, finish_reason: str | None, mode: Mode) -> Extraction:  # noqa: ARG002
        return Extraction(answer=text, how="given")

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        return None

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> tuple[float, Grade] | None:
        return MathVerifier().overdue(gold, options, mode)

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:  # noqa: ARG002
        return Grade(correct=paper.equal(answer, gold)[0], canonical=answer)


def judge_all(items: Sequence[Scored], mode: Mode) -> list[bool]:
    """The verdict on each output."""
    return judge_pairs("math", [(item.problem, item.text) for item in items], mode)


def judge_pairs(verifier: str, pairs: Sequence[tuple[Problem, str]], mode: Mode) -> list[bool]:
    """The verdict on each text."""
    with VerifierPool(2) as pool:
        futures = [pool.submit(verifier, problem, text, None, (mode,)) for problem, text in pairs]
        return [future.result()[mode].correct for future in futures]
