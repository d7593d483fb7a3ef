"""``score`` on real outputs prints the published accuracies; ``--help`` is instant because it imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Commands
from parts import Part, part
from verifiers.math_data import json_lines

LONG = ("--verifier-timeout", "60")
"""Wall-clock: other tests keep the machine busy, and some of OlympiadBench's answers keep SymPy busy for seconds."""


def accuracy(cipo: Commands, data: Path, name: str, task: str, *flags: str) -> float:
    """Paper-mode accuracy in percent of one stored run."""
    path = data / "model_outputs" / "math" / f"{name}.jsonl.gz"
    outcome = cipo(
        "score", path, "--task", task, "--mode", "paper", "--data-dir", data, "--json", *flags, *LONG
    )
    assert outcome.code == 0, outcome.err
    return 100 * float(outcome.json["tasks"][task]["paper"]["metrics"]["pass@1"]["value"])


@pytest.mark.slow
def test_math500_is_the_published_80_4(cipo: Commands, real_data: Path) -> None:
    assert accuracy(cipo, real_data, "Qwen2.5-14B-Instruct__math500", "math500") == pytest.approx(
        80.4, abs=0.5
    )


@pytest.mark.slow
@part(12)
@pytest.mark.parametrize(
    ("name", "harness", "published"),
    [("Qwen2.5-14B-Instruct", "skythought", 44.7), ("Llama-3.1-8B-Instruct", "qwen", 15.6)],
)
def test_the_harness_flag_chooses_the_fork_that_scored_a_run(
    cipo: Commands, real_data: Path, name: str, harness: str, published: float, part: Part
) -> None:
    """The whole run has the published accuracy; the first of its problems that of the verdicts that are recorded."""
    name = f"{name}__olympiadbench"
    scores = [
        row["score"][0] for row in json_lines(real_data / "model_outputs" / "math" / f"{name}.jsonl.gz")
    ]
    limit = len(scores) // part.one_in
    flags = ("--harness", harness, "--limit", str(limit))
    found = accuracy(cipo, real_data, name, "olympiadbench", *flags)
    assert found == pytest.approx(100 * sum(scores[:limit]) / limit, abs=0.05)
    assert found == pytest.approx(published, abs=0.05) or not part.whole


def test_other_harnesses_outputs_with_several_samples(cipo: Commands, real_data: Path) -> None:
    """Ten repeats per problem in evalchemy's layout; its own grader gives 30.0 %."""
    path = real_data / "model_outputs" / "small_models" / "Qwen2.5-1.5B-Instruct__AMC23.jsonl.gz"
    outcome = cipo("score", path, "--task", "amc23", "--data-dir", real_data, "--json")
    assert outcome.code == 0, outcome.err
    block = outcome.json["tasks"]["amc23"]["fixed"]
    assert block["samples_per_problem"] == {"min": 10, "max": 10}
    assert 100 * block["metrics"]["pass@1"]["value"] == pytest.approx(30.0, abs=2.5)


def test_a_file_of_another_task_is_refused(cipo: Commands, real_data: Path) -> None:
    path = real_data / "model_outputs" / "math" / "Qwen2.5-14B-Instruct__amc23.jsonl.gz"
    outcome = cipo("score", path, "--task", "aime24", "--data-dir", real_data)
    assert outcome.code == 2
    assert "is it the right --task?" in outcome.err


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "sympy", "lm_eval", "numpy", "pandas")
    code = f"import sys, cipo_eval.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_tags_of_thoughts_can_be_named(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    rows = (real_data / "aime24" / "test.jsonl").read_text().splitlines()[:3]
    answers = [json.loads(row) for row in rows]
    texts = {
        row["problem"]: f"\\boxed{{{row['answer']}}} <plan>Check \\boxed{{0}}.</plan>" for row in answers
    }
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({"problem": q, "response": text}) + "\n" for q, text in texts.items()))
    found = []
    for flags in ((), ("--think", "<plan> </plan>"), ("--think", "keep"), ("--think", "one")):
        outcome = cipo(
            "score", path, "--task", "aime24", "--limit", "3", "--data-dir", real_data, "--json", *flags
        )
        found.append(outcome)
    assert [outcome.code for outcome in found] == [0, 0, 0, 2]
    assert "--think one" in found[3].err
    values = [o.json["tasks"]["aime24"]["fixed"]["metrics"]["pass@1"]["value"] for o in found[:3]]
    assert values == [0.0, 1.0, 0.0]
