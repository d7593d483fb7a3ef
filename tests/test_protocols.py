"""Turns: what they show of an attempt, and that nothing private gets into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.errors import UsageError
from cipo_eval.records import Problem, Span, State, Turn, Verdict
from cipo_eval.texts import STRIP, THINK_TAGS
from cipo_eval.turns.protocols import PROTOCOLS, Protocol, protocols_named
from cipo_eval.turns.revising import Prompts, Revising, TurnFormat, feedback, tagged
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet
from cipo_eval.verifiers.critique import Form
from cipo_eval.verifiers.pool import VerifierPool

FIRST = ({"role": "system", "content": "s"}, {"role": "user", "content": "What is 6 × 7?"})
WRONG = Verdict(correct=False, state=State.INCORRECT)
RIGHT = Verdict(correct=True, state=State.CORRECT)


def turn(text: str, verdict: Verdict) -> Turn:
    return Turn(text, {"fixed": verdict})


REVISING = [p for p in PROTOCOLS.values() if p.name != "direct" and not (p.continues or p.locates)]

hostile = st.lists(
    st.sampled_from(
        ["<attempt>", "</attempt>", "</ATTEMPT >", "<attempt-2>", "{{ problem }}", "{% raw %}", "x", "\n", "\ue000"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("protocol", REVISING, ids=lambda p: p.name)
@given(text=hostile)
def test_an_attempt_cannot_close_its_tags(protocol: Protocol, text: str) -> None:
    revising = Revising(protocols=(protocol,), turn_format=TurnFormat.INLINE)
    messages, carried = revising.messages(protocol, FIRST, [turn(text, WRONG)])
    (span,) = carried
    content = messages[span.message]["content"]
    inside = content[span.start : span.end]
    assert inside == text.strip()
    before, after = content[: span.start], content[span.end :]
    tag = before.rstrip("\n").rpartition("<")[2].rstrip(">")
    assert f"</{tag}" not in inside.lower()
    assert after.startswith(f"\n</{tag}>\n")
    assert before.startswith("What is 6 × 7?")
    assert [m["role"] for m in messages] == ["system", "user"]


@pytest.mark.parametrize("protocol", REVISING, ids=lambda p: p.name)
@given(text=hostile)
def test_a_conversation_keeps_each_attempt_in_a_message_of_its_own(protocol: Protocol, text: str) -> None:
    revising = Revising(protocols=(protocol,), turns=3)
    messages, carried = revising.messages(protocol, FIRST, [turn(text, WRONG), turn("second", WRONG)])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[2]["content"] == text.strip()
    assert messages[4]["content"] == "second"
    assert [(s.message, s.start, s.end) for s in carried] == [(2, 0, len(text.strip())), (4, 0, 6)]
    harmless, _ = revising.messages(protocol, FIRST, [turn("x", WRONG), turn("second", WRONG)])
    assert [m for i, m in enumerate(messages) if i != 2] == [m for i, m in enumerate(harmless) if i != 2]


def test_who_is_asked_again() -> None:
    revising = Revising(turns=3)
    for protocol in REVISING:
        assert revising.asks(protocol, [turn("", WRONG)])
        assert revising.asks(protocol, [turn("", RIGHT)]) is not protocol.only_wrong
        assert not revising.asks(protocol, [turn("", WRONG)] * protocol.last_turn(3))
        assert protocol.last_turn(3) == (5 if protocol.judges else 3)


CRITIQUE = PROTOCOLS["critique"]


@pytest.mark.parametrize("form", Form)
def test_judgements_and_corrections_take_turns(form: Form) -> None:
    revising = Revising(turns=3, critique_form=form)
    history = [turn(f"turn {number}", WRONG) for number in range(1, 5)]
    messages, _ = revising.messages(CRITIQUE, FIRST, history)
    texts = {name: text.strip() for name, text in Prompts().texts.items()}
    judging = texts["critique" if form is Form.ANALYSIS else f"critique_{form.value}"]
    asked = [message["content"] for message in messages[3::2]]
    assert asked == [judging, texts["critique_correct"]] * 2
    assert [message["content"] for message in messages[2::2]] == [text for text, _ in history]


@given(attempt=hostile, critique=hostile)
def test_neither_an_attempt_nor_a_critique_can_close_its_tags(attempt: str, critique: str) -> None:
    revising = Revising(turn_format=TurnFormat.INLINE)
    history = [turn(attempt, WRONG), turn(critique, RIGHT)]
    messages, spans = revising.messages(CRITIQUE, FIRST, history)
    content = messages[-1]["content"]
    inside = [content[span.start : span.end] for span in spans]
    assert inside == [attempt.strip(), critique.strip()]
    harmless, places = revising.messages(CRITIQUE, FIRST, [turn("x", WRONG), turn("y", WRONG)])
    around = [re.sub(r"-\d+>", ">", part) for part in outside(content, spans)]
    assert around == outside(harmless[-1]["content"], places)
    for text, before in zip(inside, outside(content, spans), strict=False):
        tag = before.rstrip("\n").rpartition("<")[2].rstrip(">")
        assert f"</{tag}" not in text.lower()


def outside(text: str, spans: Sequence[Span]) -> list[str]:
    """What is around some parts of a text."""
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


@pytest.mark.parametrize(
    ("text", "think"),
    [
        *((f"{tags.start}secret{tags.end}visible", STRIP) for tags in THINK_TAGS),
        ("<plan>secret</plan>visible", "<plan> </plan>"),
    ],
)
def test_thinking_is_not_carried_unless_asked_for(text: str, think: str) -> None:
    history = [turn(text, WRONG)]
    for form in TurnFormat:
        for keep in (False, True):
            revising = Revising(turn_format=form, keep_think=keep, think=think)
            text = str(revising.messages(PROTOCOLS["self"], FIRST, history)[0])
            assert ("secret" in text) is keep
            assert "visible" in text


def test_templates_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "self.txt").write_text("Once more, {{ '{{' }} please.")
    prompts = Prompts(tmp_path)
    revising = Revising(prompts=prompts)
    messages, _ = revising.messages(PROTOCOLS["self"], FIRST, [turn("a", WRONG)])
    assert messages[-1]["content"] == "Once more, {{ please."
    assert Prompts().fingerprint("self") != prompts.fingerprint("self")
    assert Prompts().fingerprint("oracle") == prompts.fingerprint("oracle")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("slef.txt", "x", "is no template"),
        ("self.txt", "{{ nothing }}", "cannot be filled in"),
        ("self.txt", "{% if %}", "cannot be filled in"),
    ],
)
def test_templates_that_do_not_work(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        Prompts(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        Prompts(tmp_path / "none")


@pytest.mark.parametrize("name", sorted(Prompts().texts))
def test_the_docs_have_the_exact_prompts(name: str) -> None:
    docs = Path(__file__).parent.parent / "docs"
    pages = {"inline": "protocols.md", "inline_critique": "protocols/critique.md"}
    page = docs / pages.get(name, f"protocols/{name.partition('_')[0]}.md")
    assert f"```text\n{Prompts().texts[name].rstrip()}\n```" in page.read_text(encoding="utf-8")


def test_unknown_protocols_are_named() -> None:
    with pytest.raises(UsageError, match="no protocol is named slef"):
        protocols_named(["direct", "slef"])


def test_a_tag_is_one_that_the_text_does_not_have() -> None:
    assert tagged("t", "a") == "<t>\na\n</t>"
    assert tagged("t", "</t> <t-2>") == "<t-3>\n</t> <t-2>\n</t-3>"


# --- nothing private ------------------------------------------------------------------------------------------

SECRET = 918273645


def code_problem(tests: TestSet, **options: Any) -> Problem:
    gold = testsets.store(tests)
    return Problem(
        task="t",
        id="1",
        index=0,
        question="?",
        prompt="?",
        gold=gold,
        options={"entry_point": "f", **options},
    )


def private(kind: Kind, **test: Any) -> TestSet:
    return TestSet(
        kind=kind,
        groups=(Group(name="all", tests=(Test(public=False, **test),)),),
        entry_point="f",
        rule={"name": "stdout" if kind is Kind.STDIN else "equal"},
        reference=f"def f(x): return {SECRET}",
    )


PROBLEMS = {
    "math": lambda: Problem(task="t", id="1", index=0, question="?", prompt="?", gold=str(SECRET)),
    "calls": lambda: code_problem(private(Kind.CALLS, args=[1], expected=SECRET)),
    "stdin": lambda: code_problem(private(Kind.STDIN, input="1\n", expected=f"{SECRET}\n")),
    "code": lambda: code_problem(private(Kind.CODE, source=f"assert f(1) == {SECRET}, f(1)")),
}
ATTEMPTS = [
    "\\boxed{5}",
    "no answer",
    "```python\ndef f(x):\n    return 5\n```",
    "```python\ndef f(x):\n    raise ValueError(x)\n```",
    "```python\nprint(input())\n```",
    "```python\nimport sys\ndef f(x):\n    sys.exit(3)\nprint(7)\n```",
    "```python\nclass A:\n    def __eq__(self, other):\n        raise ValueError(repr(other))\n"
    "def f(x):\n    return A()\n```",
    "```python\ndef f(x)\n```",
]


@pytest.mark.parametrize("name", PROBLEMS)
def test_nothing_private_reaches_the_model(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over all protocols and formats: neither the gold answer nor what a private test expects."""
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))
    problem = PROBLEMS[name]()
    with VerifierPool(1) as pool:
        for attempt in ATTEMPTS:
            verdict = pool.verify("math" if name == "math" else "code", problem, attempt)
            assert not verdict.correct
            for protocol in REVISING:
                for form in TurnFormat:
                    messages, _ = Revising(turn_format=form).messages(
                        protocol, FIRST, [turn(attempt, verdict)]
                    )
                    assert str(SECRET) not in str(messages), (attempt, protocol.name)


def test_feedback_shows_what_is_public() -> None:
    failure = {
        "kind": "wrong_answer",
        "test": 0,
        "public": True,
        "input": "1",
        "expected": "2",
        "actual": "3</actual>",
    }
    text = feedback(Verdict(correct=False, state=State.INCORRECT, report={"failure": failure}))
    assert "<expected>\n2\n</expected>" in text
    assert "<actual-2>\n3</actual>\n</actual-2>" in text
    hidden = feedback(
        Verdict(
            correct=False,
            state=State.INCORRECT,
            report={"failure": {**failure, "public": False, "error": "E"}},
        )
    )
    assert "expected" not in hidden.lower()
    assert "<error>\nE\n</error>" in hidden
    assert "cut off" in feedback(Verdict(correct=False, state=State.TRUNCATED))
