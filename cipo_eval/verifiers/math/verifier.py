r"""The verifier for final answers in mathematics: ``fixed`` mode judges rightly, ``paper`` mode as Qwen2.5-Math does.

Fixed mode asks, in this order: equal text, exact normal forms (``canonical``), and where those do not decide,
math-verify (huggingface/Math-Verify) on the LaTeX of the answer. Nothing that a model wrote is executed: of
math-verify only the LaTeX path is used, because its other path calls SymPy's ``parse_expr``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State
from cipo_eval.texts import STRIP, strip_think
from cipo_eval.verifiers.math import paper, words
from cipo_eval.verifiers.math.canonical import form
from cipo_eval.verifiers.math.commas import Commas, ambiguous
from cipo_eval.verifiers.math.equivalence import equivalent
from cipo_eval.verifiers.math.extract import final_answer
from cipo_eval.verifiers.math.forms import Form, is_number
from cipo_eval.verifiers.math.guard import too_heavy, unusual
from cipo_eval.verifiers.math.notation import undressed
from cipo_eval.verifiers.math.numeric import same

MAX_LENGTH = 10_000
"""Characters of an answer that is read; longer ones are compared as text."""
SECONDS = 1.5
"""Processor seconds after which an answer is wrong in fixed mode: right ones take half a second at most, and whoever
writes answers that take longer must not hold up a run. With the pool's own delay, two seconds at most."""

_COMMA = re.compile(r"-?\d{1,30},\d{1,30}")
_PAIR = re.compile(r"-?[1-9]\d*,\d")
_POINT = re.compile(r"-?\d{1,30}\.\d{1,30}")


def warm_up() -> None:
    """Imports what fixed mode needs; worker processes call it once, before they meet an answer: its processor time
    would count against the first one. Paper mode's parser takes as long again, few answers need it, and its limit has
    room for it."""
    _math_verify("1", "2")


class MathVerifier:
    """Final answers in mathematics. See ``docs/math-verifier.md`` for the options that a problem may carry."""

    name = "math"
    quick = True
    """Most answers are graded in milliseconds: many of them may be judged in a row (``pool``)."""

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction:
        """The final answer of a completion, or why there is none."""
        if mode is Mode.PAPER:
            answer, how = paper.extract(text)
            return (
                Extraction(answer=answer, how=how)
                if answer
                else Extraction(answer=None, state=State.NO_ANSWER)
            )
        options = problem.options
        stopped = finish_reason is None or not finish_reason.cut_off
        extraction = final_answer(
            strip_think(text, str(options.get("think", STRIP))),
            stopped=stopped,
            multiple=bool(options.get("multiple")),
            integer=options.get("kind") == "integer",
        )
        if extraction is None or not extraction[0].strip():
            return Extraction(answer=None, state=State.NO_ANSWER if stopped else State.TRUNCATED)
        return Extraction(answer=extraction[0].strip(), how=extraction[1])

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """None: a grading has the pool's own limit of processor time."""
        return None

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> tuple[float, Grade] | None:  # noqa: ARG002
        """An answer that takes so long is wrong: in paper mode because the reference gives up, in fixed mode because
        what is asked for can be judged sooner. Only where the gold is large itself it has no verdict."""
        if mode is Mode.PAPER:
            return paper.SECONDS, Grade(correct=False, canonical="", method="paper:timeout")
        return None if unusual(gold) else (SECONDS, Grade(correct=False, canonical="", method="too_heavy"))

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:
        """Whether ``answer`` is right. Runs in a worker; never raises, ``failed`` says that judging broke down."""
        try:
            if mode is Mode.PAPER:
                correct, canonical, method = paper.grade(gold, answer, options)
                return Grade(correct=correct, canonical=canonical, method=method)
            return _grade_fixed(gold, answer, options)
        except (RecursionError, MemoryError, Exception) as error:
            return Grade(correct=False, canonical=answer[:1000], method=type(error).__name__, failed=True)


_SYMBOLIC = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|begin|det|nabla|mid|bigcup|bigcap|cap|setminus|subset|overline|underset|stackrel)(?![A-Za-z])"
)
"""What only symbolic mathematics reads."""


_BARE_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)\s*[({]?\s*\d")
_DEGREE_SIGN = re.compile(r"\s*\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|°|\\degree(?![A-Za-z])")


def _grade_fixed(gold: str, answer: str, options: Mapping[str, Any]) -> Grade:
    if len(answer) > MAX_LENGTH:
        return Grade(correct=gold.strip() == answer.strip(), canonical=answer[:1000], method="too_long")
    several, unit = bool(options.get("multiple")), str(options.get("unit") or "")
    answer_form = form(answer, several=several, unit=unit)
    if options.get("kind") == "integer":
        if (
            answer_form.kind == "set"
            and "+" in answer_form.items[-1].name
            and all(item.name for item in answer_form.items)
        ):
            answer_form = answer_form.items[-1]  # m = 100, n = 16, m+n = 116
        return Grade(correct=_same_integer(gold, answer_form), canonical=answer_form.canon, method="integer")
    gold_form = form(gold, several=several, unit=unit)
    if unit and not gold_form.measure and gold_form.kind == "value":
        gold_form = replace(gold_form, measure=unit.strip("$ "))
    if gold.strip() == answer.strip() or undressed(gold) == undressed(answer) != "":
        return Grade(correct=True, canonical=answer_form.canon, method="exact")
    if options.get("units") == "skip" and is_number(gold_form) and not is_number(answer_form):
        answer_form = form(answer, units=True)
    canonical = answer_form.canon
    decided = equivalent(gold_form, answer_form, options)
    if not decided and "," in gold + answer:
        decided = _other_commas(gold, answer, options) or decided
    if (
        not decided
        and _BARE_ANGLE.search(gold)
        and _DEGREE_SIGN.search(answer)
        and not _DEGREE_SIGN.search(gold)
    ):
        # a gold of cos 58 whose question is about degrees
        decided = equivalent(gold_form, form(_DEGREE_SIGN.sub("", answer)), options) or decided
    if decided is not None:
        return Grade(correct=decided, canonical=canonical, method=answer_form.kind)
    if answer_form.canon and answer_form.canon == gold_form.canon:
        return Grade(correct=True, canonical=canonical, method="text")
    if not _needs_symbols(gold_form, answer_form, gold, answer):
        return Grade(correct=False, canonical=canonical, method="not_understood")
    if too_heavy(answer, gold):
        return Grade(correct=False, canonical=canonical, method="too_heavy")
    try:
        return Grade(correct=_math_verify(gold, answer), canonical=canonical, method="math_verify")
    except (RecursionError, MemoryError):  # the answer's fault
        return Grade(correct=False, canonical=canonical, method="too_heavy")


def _needs_symbols(gold_form: Form, answer_form: Form, gold: str, answer: str) -> bool:
    """Whether math-verify can know more than the normal forms. Prose is not asked about: it drops words, so that a
    hedge would count."""
    if answer_form.kind in ("refused", "words") or words.has_prose(answer):
        return False
    return gold_form.kind == "unknown" or bool(_SYMBOLIC.search(answer) or _SYMBOLIC.search(gold))


def _other_commas(gold: str, answer: str, options: Mapping[str, Any]) -> bool:
    """Digits with commas in the reading that the gold speaks for: thousands, a list, or a decimal comma."""
    several, unit = bool(options.get("multiple")), str(options.get("unit") or "")
    if not several and _decimal_comma(gold, answer, options):
        return True
    if ambiguous(answer) and not several:
        gold_form = form(gold, unit=unit)
        for commas in (Commas.JOIN, Commas.SPLIT):
            if equivalent(gold_form, form(answer, unit=unit, commas=commas), options):
                return True
    if ambiguous(gold) and not ambiguous(answer) and not several:
        listed = form(gold, unit=unit, commas=Commas.SPLIT)
        return listed.kind == "set" and equivalent(listed, form(answer, unit=unit), options) is True
    return False


def _decimal_comma(gold: str, answer: str, options: Mapping[str, Any]) -> bool:
    """``2,74`` for 2.74: a comma may be a decimal one where the other side is written with a point. A gold like ``1,2``
    is a list."""
    sides = [text.strip(" $") for text in (gold, answer)]
    for at, (comma, point) in enumerate((sides, sides[::-1])):
        if _COMMA.fullmatch(comma) and _POINT.fullmatch(point) and (at or not _PAIR.fullmatch(comma)):
            pair = [form(text.replace(",", ".")) for text in sides]
            return equivalent(pair[0], pair[1], options) is True
    return False


def _same_integer(gold: str, answer_form: Form) -> bool:
    """Competition answers: both sides are numbers, and the same integer."""
    gold_form = form(gold)
    if (
        gold_form.kind != "value"
        or answer_form.kind != "value"
        or gold_form.value is None
        or answer_form.value is None
    ):
        return False
    number = gold_form.value.rational
    if number is None or number.denominator != 1:
        return False
    return number == answer_form.value.rational or (
        answer_form.value.rational is None and same(gold_form.value, answer_form.value) is True
    )


@lru_cache(maxsize=2048)
def _parsed_gold(gold: str) -> Any:
    return _parse(gold)


def _parse(text: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    inner = text.replace("\n", " ").replace("$", " ").strip()
    return parse(f"${inner}$", [LatexExtractionConfig()], parsing_timeout=None)


def _math_verify(gold: str, answer: str) -> bool:
    """math-verify's judgement, without its signal-based time limits: the worker pool kills from outside."""
    from math_verify import verify

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns once that its own limits are off
    parsed, parsed_gold = _parse(answer), _parsed_gold(gold)
    return bool(
        parsed
        and parsed_gold
        and verify(parsed_gold, parsed, timeout_seconds=None, allow_set_relation_comp=True)
    )
