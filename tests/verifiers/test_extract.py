"""Extraction finds the final answer, says why there is none, and stays linear on hostile text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Part, examples

from cipo_eval.records import FinishReason, Mode, State
from cipo_eval.texts import THINK_TAGS, boxes, last_boxed, strip_think
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_data import make_problem

VERIFIER = MathVerifier()


def answer(text: str, finish: str | None = "stop", **options: object) -> str | None:
    return VERIFIER.extract(make_problem(**options), text, finish and FinishReason(finish), Mode.FIXED).answer


def state(text: str, finish: str | None, **options: object) -> State | None:
    return VERIFIER.extract(make_problem(**options), text, finish and FinishReason(finish), Mode.FIXED).state


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so \\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{2}} is \\fbox{x^{2}}", "x^{2}"),
        ("\\boxed 7.", "7"),
        ("\\boxed {8}", "8"),
        ("\\boxed{\\boxed{9}}", "\\boxed{9}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("a } stray brace \\boxed{3} and { another", "3"),
        ("\\boxed{2} … \\boxed{unclosed", "2"),
        ("\\boxed{unclosed", None),
        ("nothing", None),
    ],
)
def test_last_boxed(text: str, found: str | None) -> None:
    assert last_boxed(text) == found


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("a<think>b", "a"),
        ("a<think>b</think>c<think>d</think>e", "ace"),
        ("plain", "plain"),
    ],
)
def test_strip_think(text: str, kept: str) -> None:
    assert strip_think(text) == kept


def test_nothing_from_inside_thinking_counts() -> None:
    text = "<think>\\boxed{1}"
    assert state(text, "stop") is State.NO_ANSWER
    assert state(text, "length") is State.TRUNCATED
    assert answer(text + "</think> \\boxed{2}") == "2"
    assert answer(text, think="keep") == "1"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("**Answer:** $\\frac{1}{2}$", "\\frac{1}{2}"),
        ("The answer is therefore $x = 5$ because $y = 3$.", "x = 5"),
        ("Final Answer: The final answer is $10,455$. I hope it is correct.", "10,455"),
        ("#### 42", "42"),
        ("The answer is 1,234.", "1,234"),
        ("The answer is: 3.5\nThat was hard 7", "3.5"),
        ("The answers are $1$ and $2$.", "1, 2"),
        ("Answer: 28 percent", "28 percent"),
        ("\\frac{2}{4}", "\\frac{2}{4}"),
        ("so we have found that there are 17 of them.", "17"),
        ("this leads us in the end to \\(x = \\sqrt{2}\\).", "x = \\sqrt{2}"),
        ("\\boxed{1} or rather\nthe number \\boxed{2}<|im_end|>\n<|im_start|>user \\boxed{3}", "2"),
    ],
)
def test_conventions(text: str, found: str) -> None:
    assert answer(text) == found


def test_boxes_joined_by_and_are_one_answer() -> None:
    assert answer("$\\boxed{1}$ and $\\boxed{2}$") == "1, 2"
    assert answer("$\\boxed{(1,2)}, \\boxed{(3,4)}$") == "(1,2), (3,4)"
    assert answer("\\boxed{5}, that is \\boxed{5}") == "5"
    assert answer("first \\boxed{1}. A long way later we see that it is \\boxed{2}") == "2"


def test_equal_boxes_are_several_values_where_several_are_asked() -> None:
    for between in (
        " and ",
        ", ",
        ". In the second case, a good deal further down in the text, it is once more ",
    ):
        text = f"\\boxed{{-2}}{between}\\boxed{{-2}}"
        assert answer(text, multiple=True) == "-2, -2"
        assert answer(text) == "-2"
    assert (
        answer("\\boxed{1}, much later in the text \\boxed{2}, and so: \\boxed{2}", multiple=True) == "1, 2"
    )


RUN_ON = [
    "\n\nProblem: What is 3+4?\nSolution: The answer is {7}.",
    "\n\nQuestion: What is 3+4?\nAnswer: {7}",
    "\nQ: What is 3+4?\nA: The answer is {7}.",
    "\n\nHuman: What is 3+4?\n\nAssistant: {7}",
    "\nUser: Are you sure?\nAssistant: No, it is {7}.",
    "\n\n### Instruction:\nWhat is 3+4?\n\n### Response:\n{7}",
    "\n\nProblem 2. What is 3+4?\n\n{7}",
    "\n\nSubproblem 2: What is 3+4?\nSolution: {7}\n\nFinal answer: The final answer is {7}. I hope it is correct.",
    "\n[INST] What is 3+4? [/INST] {7}",
    "<|im_end|>\n<|im_start|>user\nWhat is 3+4?<|im_end|>\n<|im_start|>assistant\n{7}",
]


@pytest.mark.parametrize("more", RUN_ON)
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_the_first_answer_counts_where_a_model_runs_on_into_the_next_question(more: str, finish: str) -> None:
    for said in ("So it is $\\boxed{2}$.", "\\boxed{2}\n\nThis is what was asked for."):
        assert answer(said + more.replace("{7}", "\\boxed{7}"), finish) == "2"
    for said in (
        "The answer is 2.",
        "#### 2",
        "Final Answer: The final answer is $2$. I hope it is correct.",
    ):
        assert answer(said + more.replace("{7}", "\n#### 7"), finish) == "2"
    if "inal answer" not in more:
        for said in ("A: 2", "2", "\\(2\\)"):
            plain = more.replace("The answer is ", "").replace("Answer: ", "").replace("{7}", "7")
            assert (answer(said + plain, finish) or "").strip("\\()") == "2"


@pytest.mark.parametrize("more", RUN_ON[:8])
def test_a_question_before_the_answer_takes_nothing_from_it(more: str) -> None:
    restated = more.replace("{7}", "\\boxed{7}")
    for before in (
        "",
        "Let us see.",
        "Problem: Find the sum, and put the answer within \\boxed{}.",
        "Put your final answer in \\boxed{answer}.",
        "Three is 3 and four is 4.",
        "The answer is not 5.\n\nIt takes two steps.",
    ):
        assert answer(before + restated) == "7"
    assert answer("Given: x = 3, y = 4\nQuestion: What is x + y?\nThe answer is 7.") == "7"
    assert answer("Problem: x = 3. Find x + 4.\n\nQuestion: What is it?\n\nThe answer is 7.") == "7"
    # what was asked for comes in a box, and steps do not
    assert answer("Q: What is 1+1?\nA: The answer is 2.\nQ: And the rest?\nA: 5. So \\boxed{7}.") == "7"
    assert answer("Problem 1: \\boxed{3}\n\nProblem 2: \\boxed{4}\n\nTogether \\boxed{7}") == "7"


@pytest.mark.parametrize("start", [tags.start for tags in THINK_TAGS])
def test_a_text_that_is_cut_off_in_its_thoughts_has_no_answer(start: str) -> None:
    text = f"{start}maybe \\boxed{{3}}, or no, let me check"
    assert state(text, "length") is State.TRUNCATED
    assert state(text, "stop") is State.NO_ANSWER
    assert answer(text, "length", think="keep") == "3"
    own = text.replace(start, "<plan>")
    assert state(own, "length", think="<plan> </plan>") is State.TRUNCATED


def test_problems_with_several_answers_collect_lone_boxes() -> None:
    text = "For (a) it is \\boxed{1}, whereas the second case, much later, gives \\boxed{2}."
    assert answer(text) == "2"
    assert answer(text, multiple=True) == "1, 2"
    assert answer("a guess \\boxed{9}, finally, after some checking, \\boxed{1, 2}", multiple=True) == "1, 2"
    assert (
        answer("a guess \\boxed{9}, finally, after some checking, \\boxed{\\pm 2}", multiple=True) == "\\pm 2"
    )


@pytest.mark.parametrize("finish", ["length", "context"])
def test_cut_off_texts_need_an_explicit_answer(finish: str) -> None:
    assert state("we get 3 and then 4", finish) is State.TRUNCATED
    assert state("it is \\boxed{12", finish) is State.TRUNCATED
    assert answer("it is \\boxed{12} and then", finish) == "12"
    assert answer("\\boxed{12}\n\\boxed{12}\n\\boxed{1", finish) == "12"
    assert answer("The answer is $4$. Now", finish) == "4"


@pytest.mark.parametrize("finish", ["stop", None])
def test_stopped_texts_fall_back_to_the_last_number(finish: str | None) -> None:
    assert answer("we get 3 and then, at last, 4", finish) == "4"
    assert state("no idea", finish) in (None, State.NO_ANSWER)
    assert state("", finish) is State.NO_ANSWER


def test_an_integer_is_not_read_out_of_a_fraction() -> None:
    assert (
        answer("we find, after all of that, $\\frac{1}{4}$ of 12 pies, $\\frac{1}{4}$", kind="integer")
        == "12"
    )


UNITS = [
    "(", "\\boxed{", "{", "}", "\\boxed{1} and ", "$", "\\(", "<think>", "</think>", "answer is ", "1", "9,",
    "\\", "\n",
    "#### ", "final answer is I hope it is correct", "\\boxed ", "boxed{}{", "\\fbox{", "\\boxed{{}", "{}",
    "Problem:\n", "\\boxed{1}\nProblem 2:\n", "The answer is 3.\n\nQ: ", "[THINK]", "</reasoning>",
    "\n<thinking>", "<|end|>",
    "<|channel|>analysis<|message|>", "```\n", "analysisA", "\\text{", "\\[", "<|im_start|>assistant\n", "<th"
]  # fmt: skip
ONE_MODE = [
    pytest.param(
        unit, mode, marks=() if Part(2).holds(unit) is (mode is Mode.FIXED) else pytest.mark.exhaustive
    )
    for unit in UNITS
    for mode in Mode
]
"""Each unit in one mode, which its hash decides; in the other for ``-m exhaustive``."""


@pytest.mark.parametrize(("unit", "mode"), ONE_MODE)
def test_a_megabyte_of_anything_is_quick(unit: str, mode: Mode) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    VERIFIER.extract(make_problem(multiple=True), text, FinishReason.STOP, mode)
    assert time.process_time() - started < 20  # quadratic extraction takes minutes, a busy machine seconds


@settings(max_examples=examples(300), deadline=None)
@given(st.text(alphabet=st.sampled_from("\\{}boxed$ 1,and()\n<think>/.#answeris"), max_size=120))
def test_never_raises(text: str) -> None:
    for mode in Mode:
        for finish in ("stop", "length"):
            found = VERIFIER.extract(make_problem(multiple=True), text, FinishReason(finish), mode)
            assert (found.answer is None) == (found.state is not None)


@given(st.text(alphabet="{}\\boxed 1", max_size=60))
def test_boxes_lie_apart_and_are_balanced(text: str) -> None:
    end = 0
    for start, stop, _ in boxes(text):
        assert end <= start < stop <= len(text)
        end = stop
