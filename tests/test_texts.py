"""Thoughts and turns: what of a text is the answer, whatever a family of models marks its thoughts with."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import examples

from cipo_eval.errors import UsageError
from cipo_eval.run.request import RunRequest
from cipo_eval.texts import (
    THINK_TAGS,
    ThinkTags,
    boxes,
    next_questions,
    open_thoughts,
    own_turn,
    strip_think,
    think_tags,
)

TAGS = [pytest.param(tags, id=tags.start) for tags in THINK_TAGS]
WORDS = [pytest.param(tags, id=tags.start) for tags in THINK_TAGS if not tags.special]


@pytest.mark.parametrize("tags", TAGS)
def test_thoughts_of_every_family_are_left_out(tags: ThinkTags) -> None:
    assert strip_think(f"{tags.start}a{tags.end}b") == "b"
    assert strip_think(f"\n {tags.start}\na \\boxed{{1}}\n\n{tags.end}\n\nb").strip() == "b"
    assert strip_think(f"{tags.start}a, or no,") == ""  # cut off
    assert strip_think(f"a = 1.{tags.end}b") == "b"  # they began in the prompt
    assert strip_think(f"b\n{tags.start}a{tags.end}\nc").split() == ["b", "c"]
    if "<|end|>" not in tags.end:  # that is no single token
        assert strip_think(f'{tags.start}so I say "{tags.end}" to end{tags.end}b') == "b"
    assert strip_think(f"{tags.start}```python\nx{tags.end}b") == "b"  # a fence that is not closed


@pytest.mark.parametrize("tags", TAGS)
def test_texts_about_tags_stay_whole(tags: ThinkTags) -> None:
    for text in (
        f"```python\nprint('''{tags.start}a{tags.end}''')\n```\nDone.",
        f"```\n{tags.start} x {tags.end}\n```\nDone.",
        f'x = "{tags.start}"\ny = "{tags.end}"',
        f"re.sub(r'{tags.start}.*?{tags.end}', '', x)",
        f"text.split('{tags.end}')[-1]",
        f"The tag `{tags.start}` begins thoughts, `{tags.end}` ends them.",
    ):
        assert strip_think(text) == text


@pytest.mark.parametrize("tags", WORDS)
def test_words_in_brackets_are_tags_at_the_margin_only(tags: ThinkTags) -> None:
    for text in (
        f"It is in {tags.start} as asked for, and {tags.end} ends it: 5",
        f"<answer>5</answer> {tags.start}why{tags.end}",
        f"f(x) = {tags.start}",
    ):
        assert strip_think(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "b",
        ),
        ("a<|end|><|start|>assistant<|channel|>final<|message|>b", "b"),
        ("<|start|>assistant<|channel|>final<|message|>b<|return|>", "b"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.x "
            "<|constrain|>json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>b",
            "b",
        ),
        ("analysisWe have 3.assistantfinalFour", "Four"),
        ("analysisWe have", ""),
        ("analysis of x", "analysis of x"),
        ("<|im_start|>assistant\n[THINK]a[/THINK]b", "<|im_start|>assistant\nb"),
        ("<Thought>a</THOUGHT>b", "b"),
        ("<think>```python\nx\n```</think>```python\ny\n```", "```python\ny\n```"),
        ("ended<|end|>", "ended<|end|>"),  # Phi-3's, of another format
    ],
)
def test_forms(text: str, kept: str) -> None:
    assert strip_think(text) == kept


PIECES = [word for tags in THINK_TAGS for word in (tags.start, tags.end)]
PIECES += ["<th", "ink>", "[THI", "NK]", "```", "\n", "`", '"', " ", "a", "```python\n", "<|end|>", "analysis", "A",
           "assistantfinal", "<|channel|>final<|message|>", "</", "reasoning>", "~~~\n", "<|im_start|>"]  # fmt: skip


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_stripping_twice_is_stripping_once(text: str) -> None:
    once = strip_think(text)
    assert strip_think(once) == once
    assert set(once) - {" "} <= set(text)


@settings(max_examples=200)
@given(st.text(alphabet="ab <>[]{}|/\\`\n$\"'thinkTHINK", max_size=60))
def test_a_text_without_tags_is_not_changed(text: str) -> None:
    if not any(re.search(re.escape(word), text, re.IGNORECASE) for word in PIECES[: 2 * len(THINK_TAGS)]):
        assert strip_think(text) == text


@given(st.sampled_from(THINK_TAGS), st.text(alphabet="ab \n.,1{}\\", max_size=40))
def test_nothing_of_the_answer_is_lost(tags: ThinkTags, answer: str) -> None:
    assert strip_think(f"{tags.start}thoughts{tags.end}{answer}") == answer


def test_tags_of_ones_own() -> None:
    assert strip_think("<plan>a</plan>b", "<plan> </plan>") == "b"
    assert strip_think("<plan>a</plan>b") == "<plan>a</plan>b"
    assert strip_think("<reasoning>a</reasoning>b", "<plan> </plan>") == "<reasoning>a</reasoning>b"
    assert strip_think("<think>a</think>b", "BEGIN END") == "b"  # a server's thoughts stand in these
    assert strip_think("<think>a</think>b", "keep") == "<think>a</think>b"
    for wrong in ("", "strip keep x", "<plan>", "a a"):
        with pytest.raises(ValueError, match="two tags"):
            think_tags(wrong)
        with pytest.raises(UsageError, match="--think"):
            RunRequest.of(think=wrong)
    assert RunRequest.of(think="<plan> </plan>").scoring.think == "<plan> </plan>"


@pytest.mark.parametrize("tags", TAGS)
def test_thoughts_that_are_open_are_closed_with_their_own_tags(tags: ThinkTags) -> None:
    for prompt, said in ((f"…{tags.start}\n", "so"), ("…", f"{tags.start}so"), ("…", f"\n{tags.start}\n")):
        assert open_thoughts(prompt, said) is tags
        assert strip_think(f"{tags.start}{said}{tags.closing}5").strip() == "5"
        assert open_thoughts(prompt, f"{said}{tags.closing}5") is None
    assert open_thoughts("…", "so") is None
    assert open_thoughts("<plan>", "so", "<plan> </plan>") == think_tags("<plan> </plan>")[0]


def test_a_turn_ends_where_another_begins() -> None:
    assert own_turn("5<|im_end|>\n<|im_start|>user\n6") == "5"
    assert own_turn("<|im_start|>assistant\n5<|im_end|>") == "5"
    assert own_turn("<|start_header_id|>assistant<|end_header_id|>\n\n5<|eot_id|>") == "5"
    assert own_turn("<|im_start|>system\nBe good.") == ""
    assert own_turn("5<|end|><|user|>6") == "5"
    assert own_turn("5 < 6 <b>7</b>") == "5 < 6 <b>7</b>"


@pytest.mark.parametrize(
    "line",
    ["Problem: x", "Question: x", "Q: x", "Human: x", "User: x", "### Instruction", "### Instruction:", "Problem 2. x",
     "**Problem:** x", "Subproblem 3: x", "Next Problem: x", "[INST] x", "Exercise 7: x", "Example 4: x", "问题：x",
     "### Question 12", "Q2: x"],
)  # fmt: skip
def test_words_before_questions(line: str) -> None:
    text = f"an answer\n\n{line}\nmore"
    assert [text[found.start() :].lstrip("\n").startswith(line) for found in next_questions(text)] == [True]
    assert not list(next_questions(f"an answer: {line}\nmore"))  # not at the margin


@pytest.mark.parametrize(
    "line",
    ["Problems are hard.", "Question the premise", "Users: 5", "Q = 5", "Problem", "Example: x", "The problem: x",
             "Solution: x", "Assistant: x", "Human beings", "Problem 1: x", "Quality: x"]
)  # fmt: skip
def test_other_words_at_the_margin(line: str) -> None:
    assert not list(next_questions(f"an answer\n\n{line}\nmore"))


def test_parts_that_an_answer_counts_itself_are_its_own() -> None:
    assert not list(next_questions("Problem 1: a\n\nProblem 2: b\n\nProblem 3: c"))
    assert len(list(next_questions("Problem 1: a\n\nQuestion 2: b"))) == 1


def test_boxes_do_not_depend_on_what_stands_before_them() -> None:
    """Only what follows the first box is looked through; of backslashes before it two and two belong together."""
    random = Random(0)
    pieces = [
        "\\",
        "\\\\",
        "{",
        "}",
        "\\{",
        "\\}",
        "boxed{",
        "\\boxed{",
        "fbox{",
        "box",
        "1",
        " ",
        "\\fbox {",
    ]
    found = 0
    for _ in range(4000):
        said = "".join(random.choices(pieces, k=random.randrange(12)))
        here = boxes(said)
        found += bool(here)
        # a box that never closes is another one: how far it is open does not depend on what stands before, either
        moved = boxes(f"box {{}} x{said}")
        assert moved == [(start + 8, end + 8, content) for start, end, content in here]
        for start, end, content in here:
            word = start + (said[start] == "\\")
            run = word - len(said[:word].rstrip("\\"))
            assert (word > start) == run % 2  # the last of an odd number of backslashes is the box's
            assert content == said[start:end].split("{", 1)[1][:-1].strip()
    assert found > 500
