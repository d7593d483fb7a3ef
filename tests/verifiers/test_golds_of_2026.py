r"""The golds of the sets of 2026: each equals itself however it is written, and no changed value passes for it.

``REWRITINGS`` dress a gold as models do, whatever it is; the metamorphic suite rewrites and changes what it reads.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from parts import Part, mostly_slow, part

from cipo_eval.data import tasks
from cipo_eval.records import FinishReason, Mode, Problem
from cipo_eval.verifiers.critique import StepVerifier
from cipo_eval.verifiers.math.notation import undressed
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_suite import golds, ours, suite

REWRITINGS: dict[str, Callable[[str], str]] = {
    "boxed": lambda g: f"\\boxed{{{g}}}",
    "in display": lambda g: f"Therefore\n\\[\\boxed{{{g}}}\\]",
    "in dollars": lambda g: f"So $\\boxed{{{g}}}$.",
    "dollars in the box": lambda g: f"\\boxed{{${g}$}}",
    "spaces": lambda g: f"\\boxed{{ {g} }}",
    "thin spaces": lambda g: f"\\boxed{{\\,{g}\\,}}",
    "display style": lambda g: f"\\boxed{{\\displaystyle {g}}}",
    "box in a box": lambda g: f"\\boxed{{\\boxed{{{g}}}}}",
    "fbox": lambda g: f"\\fbox{{{g}}}",
    "braces": lambda g: f"\\boxed{{{{{g}}}}}",
    "coloured": lambda g: f"\\boxed{{\\textcolor{{blue}}{{{g}}}}}",
    "a dot": lambda g: f"\\boxed{{{g}.}}",
    "answer is": lambda g: f"Adding up, the answer is ${g}$.",
    "final answer": lambda g: f"Final Answer: ${g}$",
    "answer in bold": lambda g: f"**Answer:** $\\boxed{{{g}}}$",
    "in brackets": lambda g: f"The final answer is \\({g}\\).",
    "after thoughts": lambda g: f"<think>\\boxed{{0}} or so</think>\n\\boxed{{{g}}}",
    "said twice": lambda g: f"We get \\boxed{{{g}}}. To repeat: \\boxed{{{g}}}",
    "a remark behind": lambda g: f"\\boxed{{{g}}}\n\nThis uses 3 steps.",
    "other fractions": lambda g: f"\\boxed{{{re.sub('(?<![dt])frac', 'dfrac', g)}}}",
}
LONGEST = 500
"""Characters of a gold; one of RealCritic's, a whole derivation by accident, is longer than what is read of an answer
without a box."""
INDICES: dict[str, Callable[[str], str]] = {
    "boxed": lambda i: f"\\boxed{{{i}}}",
    "in dollars": lambda i: f"So $\\boxed{{{i}}}$.",
    "in display": lambda i: f"\\[\n\\boxed{{{i}}}\n\\]",
    "spaces": lambda i: f"\\boxed{{ {i} }}",
    "a text": lambda i: f"\\boxed{{\\text{{{i}}}}}",
    "bold": lambda i: f"**\\boxed{{{i}}}**",
    "after thoughts": lambda i: f"<think>\\boxed{{7}}</think>\\boxed{{{i}}}",
    "taken back": lambda i: f"\\boxed{{99}} No: \\boxed{{{i}}}",
    "said twice": lambda i: f"\\boxed{{{i}}}, that is \\boxed{{{i}}}",
    "a remark behind": lambda i: f"\\boxed{{{i}}}\n\nThis took 3 steps.",
    "numbers before": lambda i: f"In paragraph 0, 2 + 2 = 4. In paragraph 1, 5. \\boxed{{{i}}}",
    "fbox": lambda i: f"\\fbox{{{i}}}",
    "thin space": lambda i: f"\\boxed{{{i}\\,}}",
    "braces": lambda i: f"\\boxed{{{{{i}}}}}",
    "math sign": lambda i: f"\\boxed{{{i.replace('-', '−')}}}",
    "no box": lambda i: f"The final answer is {i}.",
    "index": lambda i: f"Therefore the index is {i}.",
    "answer, colon": lambda i: f"Final answer: {i}",
    "paragraph": lambda i: "\\boxed{\\text{none}}" if i == "-1" else f"\\boxed{{\\text{{Paragraph {i}}}}}",
    "the earliest error": lambda i: (
        "\\boxed{-1 \\text{ (not found)}}" if i == "-1" else f"The earliest error occurs in paragraph {i}."
    ),
}
"""Ways to name a step."""


@cache
def distinct(data: Path) -> tuple[golds.Gold, ...]:
    """Golds of all sets, each with its options once."""
    found = {(g.gold, repr(sorted(g.options.items()))): g for g in golds.of_tasks(data, golds.OF_2026)}
    return tuple(found.values())


def chosen(data: Path, part: Part) -> list[golds.Gold]:
    return part.of(distinct(data), lambda gold: f"{gold.source} {gold.gold}")


def right(gold: golds.Gold, response: str) -> bool:
    verifier, options = MathVerifier(), dict(gold.options)
    problem = Problem(task="t", id="0", index=0, question="", prompt="", gold=gold.gold, options=options)
    answer = verifier.extract(problem, response, FinishReason.STOP, Mode.FIXED).answer
    return answer is not None and verifier.grade(gold.gold, answer, options, Mode.FIXED).correct


@part(20)
def test_golds_equal_themselves_under_twenty_rewritings(real_data: Path, part: Part) -> None:
    assert len(REWRITINGS) == len(INDICES) == 20
    tried = 0
    for gold in chosen(real_data, part):
        raw = gold.gold.strip("$") if gold.gold.count("$") <= 2 else gold.gold
        for kind, write in REWRITINGS.items():
            if len(raw) < LONGEST and not ("$" in raw and "$" in write("x")):
                assert right(gold, write(raw)), (gold.source, gold.gold, kind)
                tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    "one_in", [90, pytest.param(6, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_no_verdict_is_wrong_on_these_golds(real_data: Path, one_in: int) -> None:
    """Twenty rewritings that keep the value, where the suite has so many, and all changes of it."""
    tried = 0
    for gold in chosen(real_data, Part(one_in)):
        cases = suite.cases_of(gold)
        kept = 0
        for case in islice(cases, 200):
            if case.composed and kept >= 20:
                break
            if case.composed and not case.expected:
                continue
            kept += case.expected
            tried += 1
            assert ours(case) is case.expected, (case.source, case.kind, case.gold, case.response)
    assert tried > 300


@pytest.mark.parametrize("name", mostly_slow(tasks.GROUPS["processbench"], 4))
def test_labels_of_steps_equal_themselves_under_twenty_rewritings(real_data: Path, name: str) -> None:
    verifier = StepVerifier()
    problems = {p.gold: p for p in tasks.load_problems(name, data_dir=real_data).problems}
    assert "-1" in problems
    for gold, problem in problems.items():
        for kind, write in INDICES.items():
            for index in {gold, "-1", "0", "3"}:
                answer = verifier.extract(problem, write(index), FinishReason.STOP, Mode.FIXED).answer
                assert answer is not None, (kind, index)
                assert verifier.grade(gold, answer, {}, Mode.FIXED).correct is (index == gold), (kind, index)


PUBLISHED = {
    "6b_finetuning": 21.7,
    "6b_verification": 39.0,
    "175b_finetuning": 34.7,
    "175b_verification": 56.3,
}
"""Per cent of GSM8K's test problems that the models of Cobbe et al. solve, by the labels in their repository."""


@part(12)
def test_gsm8ks_published_verdicts_are_ours(real_data: Path, part: Part) -> None:
    """All 5276 in fixed mode. In paper mode 15 wrong answers pass, as Qwen2.5-Math's grader takes a hundredth and a
    hundredfold of a number for the number, and numbers that differ by less than 1e-4 of it for equal."""
    verifier = MathVerifier()
    problems = {
        " ".join(p.question.split()): p for p in tasks.load_problems("gsm8k", data_dir=real_data).problems
    }
    path = real_data / "model_outputs" / "gsm8k_example_model_solutions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    passed = Counter[str]()
    solved = Counter[str]()
    for row in part.of(rows, lambda row: row["question"]):
        problem = problems[" ".join(row["question"].split())]
        for name in PUBLISHED:
            said = row[name]
            for mode in Mode:
                answer = verifier.extract(problem, said["solution"], FinishReason.STOP, mode).answer
                ours_says = answer is not None and verifier.grade(problem.gold, answer, {}, mode).correct
                if mode is Mode.FIXED:
                    assert ours_says is said["is_correct"], (problem.gold, answer)
                    solved[name] += ours_says
                elif ours_says is not said["is_correct"]:
                    gold, value = float(problem.gold), float(answer or "nan")
                    assert any(abs(value / gold / factor - 1) < 1e-4 for factor in (0.01, 1, 100))
                    passed[name] += 1
    if part.whole:
        assert {name: round(100 * solved[name] / len(rows), 1) for name in PUBLISHED} == PUBLISHED
        assert passed.total() == 15


@pytest.mark.parametrize(
    "text", ["\\boxed{1, 2}", "\\boxed{1 \\text{ or } 2}", "\\boxed{2.5}", "\\boxed{}", "Well."]
)
def test_what_names_no_step_or_several(real_data: Path, text: str) -> None:
    problem = tasks.load_problems("processbench_gsm8k", data_dir=real_data).problems[0]
    assert StepVerifier().extract(problem, text, None, Mode.FIXED).answer is None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("$x$", "x"), ("${x}$", "x"), ("\\boxed{\\boxed{3}}", "3"), ("\\textcolor{red}{x\\,}", "x"), ("\\(a\\)", "a"),
        ("{a}+{b}", "{a}+{b}"), ("\\{1,2\\}", "\\{1,2\\}"), ("$a$ and $b$", "$a$ and $b$"), ("{\\}}", "\\}"),
        ("{", "{"),
        ("\\text{a} and \\text{b}", "\\text{a} and \\text{b}"),
    ],
)  # fmt: skip
def test_only_what_surrounds_all_of_an_answer_is_its_dress(text: str, bare: str) -> None:
    assert undressed(text) == bare


def test_a_joint_with_an_empty_condition_behind_it_is_no_condition() -> None:
    """ "f and if" has a second value that looks like a word."""
    verifier = MathVerifier()
    for gold, answer, expected in (
        ("f", "f \\text{ and } if", False), ("a+b", "a+b \\text{ and if}", False), ("f", "f, \\text{ if } x>0", True),
        ("2, 3", "2 \\text{ and } 3 \\text{ if } n=1", True), ("3", "3 \\text{ or } if k=1", True),
    ):  # fmt: skip
        assert verifier.grade(gold, answer, {}, Mode.FIXED).correct is expected, answer
