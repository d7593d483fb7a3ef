"""Judgements: paper mode reads them as CriticBench does, fixed mode by what they say last; each labelled example."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.records import FinishReason, Mode, State, Verdict
from cipo_eval.verifiers.critique import RIGHT, WRONG, Form, counts_as_right, judge, verdict

EXAMPLES = "criticbench_like/criticbench_fewshot_labelled.jsonl"
OUTPUTS = "model_outputs/self_correction/realcritic_o1-mini_math_{}.jsonl.gz"


@pytest.mark.parametrize("mode", Mode)
def test_every_labelled_example(real_data: Path, mode: Mode) -> None:
    rows = [json.loads(line) for line in (real_data / EXAMPLES).read_text().splitlines()]
    assert len(rows) == 120
    for row in rows:
        wanted = RIGHT if row["response_label"] else WRONG
        text = row["critique"]
        assert judge(text, Form.ANALYSIS, mode) == wanted
        mark = "[[correct]]" if row["response_label"] else "[[wrong]]"
        assert judge(mark, Form.VERDICT, mode) == wanted
        word = "correct" if row["response_label"] else "wrong"
        analysis = text.partition("So the verdict")[0]
        for made in (
            json.dumps({"analysis": analysis, "verdict": word}),
            f"```json\n{json.dumps({'analysis': 'x', 'verdict': word}, indent=1)}\n```\nDone.",
        ):
            assert judge(made, Form.JSON, mode) == wanted


@pytest.mark.parametrize("name", ["half", "self"])
def test_conclusions_of_real_critiques(real_data: Path, name: str) -> None:
    """o1-mini's critiques conclude "The solution is Correct" or "Incorrect", if they keep to the form."""
    with gzip.open(real_data / OUTPUTS.format(name), "rt") as file:
        texts = [json.loads(line)["critic"][0] for line in file]
    for text in texts:
        said = {RIGHT: "The solution is Correct" in text, WRONG: "The solution is Incorrect" in text}
        if sum(said.values()) == 1:
            assert said[str(judge(text, Form.ANALYSIS, Mode.FIXED))]


@pytest.mark.parametrize(
    ("text", "form", "fixed", "paper"),
    [
        ("[[correct]]? No: [[wrong]]", Form.ANALYSIS, WRONG, WRONG),
        ("I was asked for [[correct]] or [[wrong]]. The code is fine: [[Correct]]", Form.ANALYSIS, RIGHT, WRONG),
        ("<think>[[wrong]]</think>[[correct]]", Form.ANALYSIS, RIGHT, WRONG),
        ("Nothing wrong here. The solution is correct.", Form.ANALYSIS, RIGHT, WRONG),
        ("It is wrong to multiply first, which it does not do. [[correct]]", Form.ANALYSIS, RIGHT, RIGHT),
        ("The answer is not correct.", Form.ANALYSIS, WRONG, WRONG),
        ("So the verdict is: **incorrect**", Form.ANALYSIS, WRONG, WRONG),
        ("Well done.", Form.ANALYSIS, None, None),
        ("", Form.JSON, None, None),
        ('{"analysis": "the step is wrong but {harmless}", "verdict": "correct"}', Form.JSON, RIGHT, RIGHT),
        ('{"verdict": "correct"', Form.JSON, RIGHT, RIGHT),
        ("[" * 5000, Form.JSON, None, None),
        ("It cannot be said. correct", Form.VERDICT, None, RIGHT),
    ],
)  # fmt: skip
def test_how_it_is_read(text: str, form: Form, fixed: str | None, paper: str | None) -> None:
    assert judge(text, form, Mode.FIXED) == fixed
    assert judge(text, form, Mode.PAPER) == paper


@pytest.mark.parametrize(
    "text",
    [
        "{" * 200_000,
        "verdict " * 50_000,
        '"verdict":' + " " * 200_000,
        "[[" * 100_000,
        "the solution is " * 30_000,
        "conclusion" + " " * 200_000,
        "answer" + "*" * 200_000,
    ],
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    started = time.process_time()
    for mode in Mode:
        for form in Form:
            judge(text, form, mode)
    assert time.process_time() - started < 30  # what is not linear takes minutes, a busy machine seconds


@given(text=st.text(), right=st.booleans(), mode=st.sampled_from(Mode), form=st.sampled_from(Form))
def test_a_verdict_is_whether_it_is_true(text: str, right: bool, mode: Mode, form: Form) -> None:
    response = Verdict(correct=right, state=State.CORRECT if right else State.INCORRECT)
    said = judge(text, form, mode)
    found = verdict(text, FinishReason.STOP, form, mode, response)
    assert found.extracted == said
    assert found.correct is (said == (RIGHT if right else WRONG))
    assert (found.state is State.NO_ANSWER) is (said is None)


def test_the_label_counts_in_paper_mode() -> None:
    response = Verdict(correct=True, state=State.CORRECT, report={"label": False})
    assert counts_as_right(response, Mode.FIXED)
    assert not counts_as_right(response, Mode.PAPER)
    assert verdict("…", FinishReason.LENGTH, Form.VERDICT, Mode.FIXED, response).state is State.TRUNCATED
