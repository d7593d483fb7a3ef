r"""Judgements of a response: is it right or wrong? (docs/protocols/critique.md)

A model is asked for its judgement in one of three forms. ``fixed`` mode reads the last thing that says it, in whatever
form; ``paper`` mode reads as CriticBench's evaluation does (Lin et al. 2024, arXiv:2402.14809): two marks that
contradict each other, or none, leave it to the words "wrong", "incorrect" and "correct" anywhere in the text.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum

from cipo_eval.records import FinishReason, Mode, State, Verdict
from cipo_eval.texts import STRIP, strip_think

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
    correct = judgement == (RIGHT if counts_as_right(response, mode) else WRONG)
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
