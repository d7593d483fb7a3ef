"""Kinds of answers that other graders get wrong (``math_kinds``): every row has the verdict that a person gives."""

from __future__ import annotations

import pytest

from cipo_eval.records import FinishReason, Mode
from cipo_eval.verifiers.math.verifier import MathVerifier
from verifiers.math_data import make_problem
from verifiers.math_kind import Kind
from verifiers.math_kinds import KINDS, OPEN


def verdict(kind: Kind, gold: str, answer: str) -> bool:
    """The verdict on a row, through extraction as a run does it."""
    verifier, problem = MathVerifier(), make_problem(gold, **kind.options)
    text = answer if kind.texts else f"Hence the answer is $\\boxed{{{answer}}}$."
    found = verifier.extract(problem, text, FinishReason.STOP, Mode.FIXED)
    return found.answer is not None and verifier.grade(gold, found.answer, kind.options, Mode.FIXED).correct


def is_open(kind: Kind, gold: str, answer: str) -> bool:
    return (kind.name, gold, answer) in OPEN


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_right_and_wrong_answers_of_each_kind(kind: Kind) -> None:
    refused = [x for x in kind.right if not is_open(kind, *x) and not verdict(kind, *x)]
    accepted = [x for x in kind.wrong if not is_open(kind, *x) and verdict(kind, *x)]
    assert not refused, f"refused: {refused}"
    assert not accepted, f"accepted: {accepted}"


def test_open_rows_are_rows_and_still_open() -> None:
    """What is mended, or no row any more, leaves the list."""
    kinds = {kind.name: kind for kind in KINDS}
    for name, gold, answer in OPEN:
        kind = kinds[name]
        assert (gold, answer) in kind.right + kind.wrong
        assert verdict(kind, gold, answer) is not ((gold, answer) in kind.right), (name, gold, answer)


def test_each_kind_shows_both_directions() -> None:
    assert len(KINDS) >= 40
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert min(len(kind.right), len(kind.wrong)) >= 3, kind.name
        assert len({*kind.right, *kind.wrong}) == len(kind.right) + len(kind.wrong), kind.name
