r"""Judgements of a response: is it right or wrong? (docs/protocols/critique.md)

A model is asked for its judgement in one of three forms. ``fixed`` mode reads the last thing that says it, in whatever
form; ``paper`` mode reads as CriticBench's evaluation does (Lin et al. 2024, arXiv:2402.14809): two marks that
contradict each other, or none, leave it to the words "wrong", "incorrect" and "correct" anywhere in the text.

Where the data says which step of a response is wrong first, a model is asked for the index of that step in a
``\boxed{}``, and -1 where none is: ``paper`` mode reads as ProcessBench's evaluation does (arXiv:2412.06559).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State, Verdict
from cipo_eval.texts import STRIP, last_boxed, last_match, own_turn, strip_think

RIGHT, WRONG = "right", "wrong"
"""What a judgement says; ``Verdict.extracted`` of one."""


class Form(StrEnum):
    """How a judgement is asked for."""

    ANALYSIS = "analysis"
    """An analysis that ends with ``[[correct]]`` or ``[[wrong]]``."""
    JSON = "json"
    """``{"analysis": …, "verdict": "correct" or "wrong"}``."""
    VERDICT = "verdict"
    """``[[correct]]`` or ``[[wrong]]`` at once."""


_SAYS = {"correct": RIGHT, "right": RIGHT, "wrong": WRONG, "incorrect": WRONG}
_MARK = re.compile(r"\[\[\s{0,9}(correct|right|wrong|incorrect)\s{0,9}\]\]", re.I)
_KEY = re.compile(
    r"""["']verdict["']\s{0,9}:\s{0,9}["']?\s{0,9}(correct|right|wrong|incorrect|not correct)\b""", re.I
)
_SENTENCE = re.compile(
    r"\b(?:verdict|conclusion|judge?ment)(?: is)?\s{0,9}[:\-]?\s{0,9}(?:the )?"
    r"(?:(?:solution|answer|response|code|program) is\s{0,9})?"
    r"[\"'*_`\[]{0,9}(correct|right|wrong|incorrect|not correct)\b"
    r"|\b(?:solution|answer|response|code|program)[\"'*_`]{0,9} is (?:therefore |thus |indeed )?"
    r"[\"'*_`\[]{0,9}(correct|right|wrong|incorrect|not correct)\b",
    re.I,
)
"""Last resort: "the verdict is: correct", "the solution is incorrect". Repeats are bounded, so that no text takes more
than linear time."""


def judge(text: str, form: Form, mode: Mode, think: str = STRIP) -> str | None:
    """``right``, ``wrong``, or None where the text does not say. ``think``: which thoughts do not count."""
    return _paper(text, form) if mode is Mode.PAPER else _fixed(strip_think(text, think))


def counts_as_right(response: Verdict, mode: Mode) -> bool:
    """Whether a response is one that a judgement should call right: by our verdict; in ``paper`` mode, as in the
    references, by the label that it came with, if any."""
    label = response.report.get("label") if mode is Mode.PAPER else None
    return response.correct if label is None else bool(label)


def verdict(
    text: str,
    finish_reason: FinishReason | None,
    form: Form,
    mode: Mode,
    response: Verdict,
    think: str = STRIP,
) -> Verdict:
    """Whether a judgement is true of the response that it is about. One that cannot be read is not."""
    judgement = judge(text, form, mode, think)
    if judgement is None:
        cut = finish_reason is not None and finish_reason.cut_off
        return Verdict(correct=False, state=State.TRUNCATED if cut else State.NO_ANSWER)
    return _verdict(judgement, judgement == (RIGHT if counts_as_right(response, mode) else WRONG))


def _verdict(judgement: str, correct: bool) -> Verdict:
    state = State.CORRECT if correct else State.INCORRECT
    return Verdict(correct=correct, state=state, extracted=judgement, canonical=judgement)


def _fixed(text: str) -> str | None:
    for pattern in (_MARK, _KEY, _SENTENCE):
        last = None
        for last in pattern.finditer(text):  # noqa: B007  only the last one counts
            pass
        if last is not None:
            word = next(group for group in last.groups() if group).lower()
            return _SAYS.get(word, WRONG)
    return None


def _paper(text: str, form: Form) -> str | None:
    lower = (_of_json(text) if form is Form.JSON else text).lower()
    marked = [
        judgement for word, judgement in (("correct", RIGHT), ("wrong", WRONG)) if f"[[{word}]]" in lower
    ]
    if len(marked) == 1:
        return marked[0]
    if "wrong" in lower or "incorrect" in lower or "not correct" in lower:
        return WRONG
    return RIGHT if "correct" in lower else None


def _of_json(text: str) -> str:
    """What CriticBench takes for the verdict of its JSON form: of the first object the value, else what follows the
    key, else everything."""
    start = text.find("{")
    end = text.find("}", start) if start >= 0 else -1
    if end >= 0 and "verdict" in text[start:end]:
        text = text[start : end + 1]
    try:
        return str(json.loads(text)["verdict"])
    except (ValueError, KeyError, TypeError, RecursionError):
        start = text.find("verdict")
        end = text.find("}", start) if start >= 0 else -1
        return text[start : end + 1] if end >= 0 else text


# --- which step -----------------------------------------------------------------------------------------------------

NOWHERE = "-1"
"""The index that says that no step is wrong."""
LONGEST_INDEX = 6
"""Digits of an index that is read."""
_BOX, _BOX_END = "\\boxed{", "}"
_NUMBER = r"([-−–]?\s?\d{1,6})(?![\w]|[.,]\d)"
_INDEX = re.compile(rf"(?<![\w.]){_NUMBER}")
_NAMED_INDEX = re.compile(rf"(?:paragraph|step|index)[\s_:=]{{0,3}}{_NUMBER}", re.I)
_LAYOUT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)(?![A-Za-z])|\\[,;! ()]|[{}$*`<>]")
_NONE = re.compile(r"\s*(?:none|not found|no errors?)\W*", re.I)
_SAYS_STEP = re.compile(
    r"\b(?:(?:final )?answer|index|(?:earliest|first) (?:error|mistake))\b[^.\n\d]{0,80}?"
    r"(?:\bis\b|\bin\b|[:=])[^.\n\d]{0,40}?([-−–]?\d{1,6})(?![\w]|[.,]\d)",
    re.I,
)
"""Last resort: "the earliest error occurs in paragraph 2". Repeats are bounded."""


def first_wrong_step(text: str, mode: Mode, think: str = STRIP) -> str | None:
    """The index of the step that a judgement calls the first wrong one, ``NOWHERE`` where none is; None where it does
    not say, or names several. ``think``: which thoughts do not count."""
    if mode is Mode.PAPER:
        return _paper_step(text)
    text = own_turn(strip_think(text, think))
    if (boxed := last_boxed(text)) is not None and boxed.strip():
        return _index(boxed)
    said = last_match(_SAYS_STEP, text)
    return _normal(said[1]) if said else None


def _index(content: str) -> str | None:
    plain = _LAYOUT.sub(" ", content[:200]).strip()
    if _NONE.fullmatch(plain):
        return NOWHERE
    named = {_normal(number) for number in _NAMED_INDEX.findall(plain) or _INDEX.findall(plain)}
    return named.pop() if len(named) == 1 else None


def _normal(number: str) -> str:
    return str(int(re.sub(r"[−–]", "-", number).replace(" ", "")))


def _paper_step(text: str) -> str | None:
    """As ProcessBench's ``run_eval.py``: ``int`` of what the last ``\\boxed{`` has before the next brace."""
    content, at = None, 0
    while (start := text.find(_BOX, at)) >= 0 and (end := text.find(_BOX_END, start)) >= 0:
        content, at = text[start + len(_BOX) : end], end + 1
    try:
        return str(int(content)) if content is not None and len(content) <= 2 * LONGEST_INDEX else None
    except ValueError:
        return None


def labelled_response(problem: Problem) -> Verdict:
    """The verdict on a response of which the data says which step is wrong: the label, as judgements say it."""
    return _verdict(_word(problem.gold), problem.gold == NOWHERE)


def step_verdict(
    text: str, finish_reason: FinishReason | None, mode: Mode, response: Verdict, think: str = STRIP
) -> Verdict:
    """Whether a judgement names the first wrong step of the ``labelled_response`` that it is about."""
    step = first_wrong_step(text, mode, think)
    if step is None:
        cut = finish_reason is not None and finish_reason.cut_off
        return Verdict(correct=False, state=State.TRUNCATED if cut else State.NO_ANSWER)
    return _verdict(_word(step), _word(step) == response.extracted)


def _word(step: str) -> str:
    return RIGHT if step == NOWHERE else step


class StepVerifier:
    """The verifier of judgements that are asked for in one turn, with the response in the prompt: the gold is the index
    of its first wrong step."""

    name = "steps"

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction:
        """The index that the text names."""
        step = first_wrong_step(text, mode, str(problem.options.get("think", STRIP)))
        if step is not None:
            return Extraction(answer=step, how="index")
        cut = finish_reason is not None and finish_reason.cut_off
        return Extraction(answer=None, state=State.TRUNCATED if cut else State.NO_ANSWER)

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:  # noqa: ARG002
        """Right where the index is that of the gold; both are compared as text."""
        return Grade(correct=answer == gold, canonical=answer, method="index")

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """None: a grading has the pool's own limit of processor time."""
        return None
