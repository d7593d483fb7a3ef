"""A score with verl's signature: ``reward.custom_reward_function.path`` names this file (or a copy of it), its ``name``
``compute_score``. One completion a call; verl calls it from several threads and processes, which share nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cipo_eval.records import FinishReason
from cipo_eval.rewards.judging import FAILED, code_problem, judged, math_problem
from cipo_eval.rewards.shaping import risk_penalty


def compute_score(
    data_source: str,  # noqa: ARG001  verl passes it by name
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    risk: float = 1.0,
    **_: Any,
) -> dict[str, Any]:
    """The score of one completion, and what verl logs beside it: ``score``, ``acc`` (right or not), ``pred`` (the
    answer that was read), ``verifier_failed``.

    ``ground_truth``: an answer or a solution, or the tests of a program (a list, a mapping, or
    ``extra_info["verifier"] == "code"``). ``extra_info`` may say what was corrected (``first_right``, or ``attempt``):
    then a correction that makes a right attempt wrong scores -``risk``. It may also hold ``entry_point``,
    ``reference``, ``verifier_options`` and ``truncated``. A row without gold scores 0.
    """
    told = extra_info or {}
    if told.get("verifier") == "code" or isinstance(ground_truth, Mapping | list):
        problem = code_problem(ground_truth, told.get("entry_point"), told.get("reference"))
    else:
        problem = math_problem(ground_truth, told.get("verifier_options"))
    reason = FinishReason.LENGTH if told.get("truncated") else None
    first_right, attempt = told.get("first_right"), told.get("attempt")
    texts = [solution_str] if attempt is None or first_right is not None else [solution_str, attempt]
    verdict, *firsts = judged([problem] * len(texts), texts, [reason, None][: len(texts)])
    if verdict is None:
        return {"score": 0.0, "acc": False, "pred": "", "verifier_failed": False}
    right_before = firsts[0].correct if firsts and firsts[0] else bool(first_right)
    return {
        "score": float(verdict.correct) - risk_penalty(right_before, verdict.correct, risk),
        "acc": verdict.correct,
        "pred": verdict.extracted or "",
        "verifier_failed": verdict.state in FAILED,
    }
