"""Paper mode gives the verdicts that the Qwen2.5-Math harness published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from parts import Part, part

from cipo_eval.records import FinishReason, Mode
from cipo_eval.verifiers.math import paper
from cipo_eval.verifiers.math.verifier import MathVerifier
from cipo_eval.verifiers.math.wordnumber import word_to_number
from verifiers.math_data import (
    json_lines,
    judge,
    judge_all,
    judge_pairs,
    make_problem,
    output_files,
    scored_outputs,
)

QUICK = ("aime24", "amc23", "math500")


def check_published(data: Path, name: str, part: Part = Part(1)) -> None:  # noqa: B008
    items = part.of(scored_outputs(data, name), lambda item: item.index)
    verdicts = judge_all(items, Mode.PAPER)
    agreement = sum(verdict == item.score for verdict, item in zip(verdicts, items, strict=True)) / len(items)
    assert agreement >= 0.99 - (0 if part.whole else 1 / len(items))  # of few items one may differ
    if not part.whole:
        return
    manifest = json.loads((data / "MANIFEST.json").read_text(encoding="utf-8"))
    entry = manifest[f"model_outputs/math/{name}.jsonl.gz"]
    accuracy = 100 * sum(verdicts) / len(items)
    assert accuracy == pytest.approx(entry["published_metrics"]["acc"], abs=0.5)


@pytest.mark.slow
@part(10)
def test_published_scores_of_the_short_runs(real_data: Path, part: Part) -> None:
    names = [name for name in output_files(real_data) if name.endswith(QUICK)]
    assert len(names) >= 7
    for name in names:
        check_published(real_data, name, part)


@pytest.mark.slow
@part(40)
@pytest.mark.parametrize("benchmark", ["minerva_math", "olympiadbench"])
def test_published_scores_of_the_long_runs(real_data: Path, benchmark: str, part: Part) -> None:
    names = [name for name in output_files(real_data) if name.endswith(benchmark)]
    assert len(names) >= 2
    for name in names:
        check_published(real_data, name, part)


def test_golds_are_normalised_as_published(real_data: Path) -> None:
    for name in output_files(real_data):
        fork = name not in ("Llama-3.1-8B-Instruct__minerva_math", "Llama-3.1-8B-Instruct__olympiadbench")
        rows = json_lines(real_data / "model_outputs" / "math" / f"{name}.jsonl.gz")
        for item, row in zip(scored_outputs(real_data, name), rows, strict=True):
            reference = item.problem.options["reference"]
            normal = paper.normalise_gold(item.problem.gold, reference, fork)
            assert normal == row["gt"], (name, item.index)


@pytest.mark.slow
@part(24)
def test_published_triples(real_data: Path, part: Part) -> None:
    """The rows hold normal forms of golds and predictions with the harness's verdict, so equality is tested alone."""
    rows = json_lines(real_data / "verifier" / "qwen_grader_triples.jsonl.gz")
    rows = [row for row in rows if row["pred"] and row["benchmark"] in ("aime24", "amc23", "math500")]
    assert len(rows) > 300
    rows = rows[:: part.one_in]
    pairs = [(make_problem(str(row["gt"])), str(row["pred"])) for row in rows]
    verdicts = judge_pairs("verifiers.math_data:NormalForms", pairs, Mode.PAPER)
    agreeing = sum(verdict == row["score"] for verdict, row in zip(verdicts, rows, strict=True))
    assert agreeing / len(rows) >= 0.99


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("50", "0.5", True),  # gold · 1/100
        ("0.5", "50", True),  # gold · 100
        ("10000", "10000.9", True),  # relative 1e-4
        ("10000", "10002", False),
        ("[1,2)", "(1,2]", True),  # which bracket closes does not matter
        ("5", "5 apples", True),
        ("x=5", "5", True),
        ("A", "The choice is (A)", True),
        ("4.5e33", "4.5\\times10^{33}", False),  # the fault that fixed mode repairs
        ("\\frac12", "0.5", True),
        ("x^2+2x+1", "(x+1)^2", True),
    ],
)
def test_known_leniencies_and_faults(gold: str, answer: str, same: bool) -> None:
    options = {"reference": "minerva_math"} if "e33" in gold else {}
    assert judge(gold, answer, Mode.PAPER, **options) is same


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("twenty-three", "23"),
        ("two thousand three hundred and five", "2305"),
        ("one million two thousand", "1002000"),
        ("three point one four", "3.14"),
        ("one of the two", "3"),
        ("025", "25"),
        ("Evelyn", "Evelyn"),
        ("thousand million", "thousand million"),
        ("²", "²"),
    ],
)
def test_word_numbers(words: str, number: str) -> None:
    assert word_to_number(words) == number


def test_extraction_order() -> None:
    verifier, problem = MathVerifier(), make_problem()

    def answer(text: str) -> tuple[str | None, str]:
        found = verifier.extract(problem, text, FinishReason.LENGTH, Mode.PAPER)
        return found.answer, found.how

    assert answer("\\boxed{2} The final answer is $3$. I hope it is correct.") == ("3", "final_answer")
    assert answer("\\boxed{1} then \\boxed{2}") == ("2", "boxed")
    assert answer("a cut-off \\boxed{12") == ("12", "boxed")
    assert answer("The answer is 7.") == ("7", "answer_is")
    assert answer("there are 3 or 1,204 of them") == ("1204", "last_number")
    assert answer("nothing")[0] is None


def test_model_text_is_never_executed(tmp_path: Path) -> None:
    """The reference hands what LaTeX cannot parse to ``eval``."""
    trap = tmp_path / "executed"
    for text in (f"__import__('pathlib').Path('{trap}').touch()", f"(lambda: open('{trap}','w'))()"):
        for mode in Mode:
            assert not judge("1", text, mode)
    assert not trap.exists()
