r"""Multiple choice: what names an option and what does not, in both directions; RealCritic's labels in paper mode."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Part, part

from cipo_eval.data import tasks
from cipo_eval.data.readers.choice import choices_in, read
from cipo_eval.records import FinishReason, Mode, Problem, State
from cipo_eval.verifiers.choice import ChoiceVerifier, named_letters
from cipo_eval.verifiers.pool import VerifierPool

BASES = ("uracil", "thymine", "guanine", "adenine")
VALUES = ("0.5 m", "1.25", "\\frac{7}{3}", "2")
SETS = {"realcritic_arc": 263, "realcritic_mmlu": 292}
VERIFIER = ChoiceVerifier()


def problem_of(gold: str = "B", choices: tuple[str, ...] = BASES) -> Problem:
    options = {"choices": list(choices)}
    return Problem(task="t", id="0", index=0, question="", prompt="", gold=gold, options=options)


def letters(text: str, choices: tuple[str, ...] = BASES, ended: FinishReason | None = None) -> str | None:
    """The letters that a text answers with; None where it has no answer."""
    answer = VERIFIER.extract(problem_of(choices=choices), text, ended, Mode.FIXED).answer
    return None if answer is None else "".join(sorted(named_letters(answer, choices)))


def right(problem: Problem, text: str) -> bool:
    answer = VERIFIER.extract(problem, text, None, Mode.FIXED).answer
    return answer is not None and VERIFIER.grade(problem.gold, answer, problem.options, Mode.FIXED).correct


NAMED = [
    r"\boxed{B}",
    r"\boxed{(B)}",
    r"\boxed{\text{B}}",
    r"\boxed{b}",
    r"\boxed{B. thymine}",
    r"\boxed{\text{(B) thymine}}",
    r"\boxed{thymine}",
    r"\boxed{\mathrm{Thymine}}",
    r"$\boxed{\textbf{(B)}\ \text{thymine}}$",
    r"\boxed{\text{Option B}}",
    r"\boxed{\text{The answer is } B}",
    r"\boxed{B)}",
    r"\boxed{B \; \text{(thymine)}}",
    r"\boxed{\text{B: thymine}}",
    r"\boxed{\text{B - thymine}}",
    r"The final answer is: $\boxed{B}$. So A was excluded.",
    "B",
    "(B)",
    "B.",
    "b",
    "b)",
    "[B]",
    "**B**",
    "B\n\nIt pairs with A.",
    "B. thymine\nbecause A. is wrong",
    "The answer is B",
    "The answer is (B).",
    "the answer is b",
    "The correct answer is option B.",
    "The answer is **B**",
    "**Answer:** B",
    "Answer: B) thymine",
    "Final answer: B",
    "Answer is B",
    "Correct option: B",
    "My answer: B",
    "The correct answer is: \n\n(B) thymine",
    "The best choice is B, because A is wrong.",
    "The answer is thymine.",
    "The answer is B, not A.",
    "The answer is not A but B.",
    "The answer is 'B'",
    'The answer is "B".',
    "The answer is Ｂ.",
    "The answer to this question is B.",
    "The correct choice would be (b).",
    "The answer is definitely B!",
    "The answer is B, and A is wrong.",
    "The answer is B. A and C are wrong.",
    "The answer is A. Wait, no: the answer is B.",
    "Both A and C are wrong, so the answer is B.",
    "<think>The answer is A</think>The answer is B",
    "#### B",
    "答案是 B",
    "Option B is correct.",
    "Option A is incorrect. Option B is the correct one, so (B) is correct",
    "I would choose (B).",
    "(A) is correct? No. (B) is correct.",
    "I choose B.",
    "Thus, B.",
    "Therefore, the right base is **thymine (B)**.",
    "The answer is $B$.",
    r"The answer is \(\text{B}\).",
    "The answer is: B\n\nNote that A is wrong.",
    "ⓑ",
]
NOT_ONE = [
    ("The answer is not B.", ""),
    (r"\boxed{\text{not B}}", ""),
    ("The answer is neither A nor B.", ""),
    (r"\boxed{B \text{ is incorrect}}", ""),
    ("It is not true that B is correct.", None),
    ("B and C are both wrong.", None),
    (r"\boxed{A, B}", "AB"),
    (r"\boxed{A \text{ and } B}", "AB"),
    ("The answer is A or B.", "AB"),
    ("The answer is either A or B", "AB"),
    (r"\boxed{A} or \boxed{B}", "AB"),
    (r"\boxed{AB}", "AB"),
    ("B and C", "BC"),
    ("The answer is A, B or C", "ABC"),
    (r"\boxed{E}", ""),
    (r"\boxed{}", None),
    ("The answer is a mystery", ""),
    ("The answer is unclear. A metal spoon is warm.", ""),
    ("A. uracil: no\nB. thymine: yes\nC. guanine: no", None),
    ("Cytosine pairs with something", None),
    ("", None),
    ("I", None),
    (r"\boxed{\text{None of these}}", ""),
]


@pytest.mark.parametrize("text", NAMED)
def test_what_names_one_option(text: str) -> None:
    assert letters(text) == "B"
    for gold in "ABCD":
        assert right(problem_of(gold), text) is (gold == "B")


@pytest.mark.parametrize(("text", "named"), NOT_ONE)
def test_what_names_none_or_several_is_wrong(text: str, named: str | None) -> None:
    assert letters(text) == named
    assert not any(right(problem_of(gold), text) for gold in "ABCD")


def test_options_in_words_are_no_letters() -> None:
    """What an option says counts before letters in it; an article is no A."""
    statements = ("I only", "Both I and II", "Both A and B", "A metal spoon gets warm", "None of the above")
    for letter, text in zip("ABCDE", statements, strict=True):
        for written in (text, text.upper(), f"\\text{{{text}}}", f"({letter}) {text}", f"{letter}. {text}"):
            assert letters(f"\\boxed{{{written}}}", statements) == letter
        assert letters(f"The answer is {text}.", statements) == letter
    assert letters("The answer is A metal spoon", statements) == ""


def test_values_of_options() -> None:
    for text, gold in (
        (r"\boxed{\frac{5}{4}}", "B"),
        ("The answer is 5/4.", "B"),
        (r"\boxed{2}", "D"),
        (r"\boxed{7/3}", "C"),
    ):
        for letter in "ABCD":
            assert right(problem_of(letter, VALUES), text) is (letter == gold)
    assert not any(right(problem_of(letter, VALUES), r"\boxed{3}") for letter in "ABCD")


def test_several_right_options_and_options_with_the_same_text() -> None:
    both = problem_of("A, C")
    for text in (r"\boxed{A, C}", r"\boxed{C \text{ and } A}", r"\boxed{AC}", r"\boxed{A}, \boxed{C}"):
        assert right(both, text)
    for text in (r"\boxed{A}", r"\boxed{A, B, C}", r"\boxed{AB}"):
        assert not right(both, text)
    same = problem_of("B", ("x", "y", "y", "z"))
    assert right(same, r"\boxed{y}")
    assert not right(same, r"\boxed{C}")
    assert not right(problem_of("A", ("x", "y", "y", "z")), r"\boxed{y}")


def test_a_text_that_was_cut_off_answers_only_where_it_says_so() -> None:
    cut = FinishReason.LENGTH
    assert letters("So the answer is B", ended=cut) == "B"
    assert letters("B. thymine is", ended=cut) is None
    extracted = VERIFIER.extract(problem_of(), "B. thymine is", cut, Mode.FIXED)
    assert extracted.state is State.TRUNCATED


# --- real sets ------------------------------------------------------------------------------------------------------

REWRITINGS: dict[str, Callable[[str, str], str]] = {
    "boxed": lambda letter, text: f"\\boxed{{{letter}}}",
    "boxed text": lambda letter, text: f"So $\\boxed{{\\text{{{letter}}}}}$.",
    "boxed in brackets": lambda letter, text: f"\\[\\boxed{{({letter})}}\\]",
    "boxed bold": lambda letter, text: f"\\boxed{{\\textbf{{({letter})}}}}",
    "boxed lower case": lambda letter, text: f"\\boxed{{{letter.lower()}}}",
    "boxed with a dot": lambda letter, text: f"\\boxed{{{letter}.}}",
    "boxed option": lambda letter, text: f"\\boxed{{\\text{{Option {letter}}}}}",
    "boxed with its text": lambda letter, text: f"\\boxed{{\\text{{({letter}) {text}}}}}",
    "letter and text": lambda letter, text: f"{letter}. {text}",
    "letter": lambda letter, text: letter,
    "in brackets": lambda letter, text: f"({letter})",
    "answer is": lambda letter, text: f"Well.\n\nThe answer is {letter}.",
    "answer is, lower case": lambda letter, text: f"the answer is ({letter.lower()})",
    "answer, colon": lambda letter, text: f"Answer: {letter}",
    "answer in bold": lambda letter, text: f"**Answer:** **{letter}**",
    "answer with its text": lambda letter, text: f"The correct answer is ({letter}) {text}",
    "option is correct": lambda letter, text: f"Therefore option {letter} is correct.",
    "chooses": lambda letter, text: f"I would choose {letter}.",
    "with a reason": lambda letter, text: f"The answer is {letter}, because all others are wrong.",
    "full width": lambda letter, text: f"The answer is {chr(ord(letter) + 0xFEE0)}",
}
DENIALS: dict[str, Callable[[str, str], str]] = {
    "another letter": lambda letter, other: f"\\boxed{{{other}}}",
    "denied": lambda letter, other: f"The answer is not {letter}.",
    "denied, another": lambda letter, other: f"The answer is not {letter} but {other}.",
    "hedged": lambda letter, other: f"The answer is {letter} or {other}.",
    "hedged in the box": lambda letter, other: f"\\boxed{{{letter}, {other}}}",
    "called wrong": lambda letter, other: f"\\boxed{{\\text{{{letter} is wrong}}}}",
    "taken back": lambda letter, other: f"The answer is {letter}. No, the answer is {other}.",
}


@part(60)
@pytest.mark.parametrize("name", SETS)
def test_golds_equal_themselves_however_they_are_written(real_data: Path, name: str, part: Part) -> None:
    assert len(REWRITINGS) == 20
    problems = tasks.load_problems(name, data_dir=real_data).problems
    tried = 0
    for problem in part.of(problems, lambda p: p.id):
        texts = problem.options["choices"]
        for place, letter in enumerate("ABCD"[: len(texts)]):
            for kind, write in REWRITINGS.items():
                same = right(problem, write(letter, texts[place]))
                assert same is (letter == problem.gold), (problem.id, kind, letter)
                tried += 1
        other = "ABCD"[("ABCD".index(problem.gold) + 1) % len(texts)]
        for kind, write in DENIALS.items():
            assert not right(problem, write(problem.gold, other)), (problem.id, kind)
        told = texts["ABCD".index(problem.gold)]
        assert right(problem, f"\\boxed{{\\text{{{told}}}}}"), problem.id
    assert tried > 100


@pytest.mark.slow
@part(6)
@pytest.mark.parametrize("name", SETS)
def test_in_paper_mode_the_labels_of_real_attempts_are_our_verdicts(
    real_data: Path, name: str, part: Part
) -> None:
    """RealCritic's labels come from its own harness, which takes an article for an A in MMLU."""
    problems = part.of(tasks.load_problems(name, data_dir=real_data).problems, lambda p: p.id)
    with VerifierPool(1) as pool:
        for problem in problems:
            verdict = pool.verify("choice", problem, problem.attempt or "", None, Mode.PAPER)
            assert verdict.correct is problem.attempt_right, problem.id


@part(6)
def test_in_fixed_mode_letters_are_read_as_they_are_meant(real_data: Path, part: Part) -> None:
    """Where the last box holds nothing but a letter, that is the answer, whatever the label says."""
    for name in SETS:
        for problem in part.of(tasks.load_problems(name, data_dir=real_data).problems, lambda p: p.id):
            boxed = re.findall(r"\\boxed\{\(?([A-D])\)?\}", problem.attempt or "")
            if boxed and (problem.attempt or "").count("boxed") == len(boxed) == 1:
                assert right(problem, problem.attempt or "") is (boxed[0] == problem.gold), problem.id


def test_options_of_a_question() -> None:
    for question, found in (
        ("Which?\nAnswer Choices: (A) x (B) f(A) y (C) z", ["x", "f(A) y", "z"]),
        ("Which?\nAnswer Choices: A)4 and 1 B)1 and 5 C)5", ["4 and 1", "1 and 5", "5"]),
        ("Which?\nAnswer Choices: (A) x", []),
        ("Which (A) or (B)?", []),
    ):
        assert choices_in(question) == found


@pytest.mark.parametrize("name", SETS)
def test_options_in_the_question_are_those_of_the_column(real_data: Path, name: str) -> None:
    for problem in tasks.load_problems(name, data_dir=real_data).problems:
        assert choices_in(problem.question) == [text.strip() for text in problem.options["choices"]]


def test_rows_whose_gold_is_no_option_are_refused() -> None:
    row = {
        "idx": 1,
        "question": "?",
        "gt": "E",
        "choices": ["(A) x", "(B) y"],
        "reasoning": "",
        "previous_score": [True],
    }
    with pytest.raises(ValueError, match="none of 2 options"):
        read(row, {})
    assert read({**row, "gt": "B"}, {}).options == {"choices": ["x", "y"]}


# --- hostile texts --------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            ["A", "(B)", "not ", "answer is ", "\\boxed{", "}", ", ", "\n", " or ", "Ⓒ", "\x00", "$"]
        )
    )
)
def test_nothing_that_a_model_writes_raises(parts: list[str]) -> None:
    text = "".join(parts)
    answer = VERIFIER.extract(problem_of(), text, None, Mode.FIXED).answer
    if answer is not None:
        assert not VERIFIER.grade("B", answer, problem_of().options, Mode.FIXED).failed
    VERIFIER.extract(problem_of(), text, None, Mode.PAPER)


@pytest.mark.parametrize(
    "text",
    ["the answer is " * 8_000, "(A" * 30_000, "A, " * 30_000, "\\boxed{" * 10_000, "answer to " * 8_000,
     "answer" + " " * 80_000, "\\boxed{" + "A, " * 30_000 + "}", "I choose " * 8_000, "A\n" * 30_000],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    """Each text has thousands of beginnings of an answer. The bound is far above what a linear reading takes."""
    begun = time.process_time()
    answer = VERIFIER.extract(problem_of(), text, None, Mode.FIXED).answer
    if answer is not None:
        VERIFIER.grade("B", answer, problem_of().options, Mode.FIXED)
    VERIFIER.extract(problem_of(), text, None, Mode.PAPER)
    assert time.process_time() - begun < 10


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    """As docs/choice-verifier.md says: options are a column, with their letters or without."""
    rows = [
        {"q": "Which? (A) Oslo (B) Rome", "a": "B", "options": ["(A) Oslo", "(B) Rome"]},
        {"q": "Which? (A) Bern (B) Lima", "a": "A", "options": ["Bern", "Lima"]},
    ]
    (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = (Path(__file__).parents[2] / "docs" / "choice-verifier.md").read_text()
    (tmp_path / "cipo_capitals_mc.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    first, second = tasks.load_problems(tmp_path / "cipo_capitals_mc.yaml").problems
    assert right(first, r"\boxed{Rome}")
    assert right(second, r"\boxed{A}")
    assert not right(second, r"\boxed{Lima}")
