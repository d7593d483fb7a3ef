"""One completion holds several trials, each followed by a check of it: S2R (arXiv:2502.12853).

A completion is cut where the model says one of two phrases: a solution, its check, another solution, and so on. Process
credit makes a sequence of each segment, whose prompt has what was said before; outcome credit leaves the completion
whole. The KL term is in the reward: it has no gradient of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.records import FinishReason
from cipo_trainer.advantage import advantages
from cipo_trainer.batch import Batch
from cipo_trainer.method_options import Trials
from cipo_trainer.methods.step import Step, per_sample
from cipo_trainer.methods.verify import recalls, said
from cipo_trainer.packing import TrainSequence
from cipo_trainer.rollout import Group, Sample

COUNTS_FROM = 10
"""Segments with the same outcomes before them of which a baseline is made; fewer have none."""
BONUS = 2.0
"""Weight of a solution that is right after a wrong one or wrong after a right one, and of a right one's check."""
KL = {"process": 0.05, "outcome": 0.01}
"""β by credit, as the paper has it for Qwen2.5-Math-7B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a completion."""

    sample: Sample
    """Its tokens, under a prompt with everything before; a solution's verdict is its own."""
    checks: bool
    """Whether it checks a solution, or is one."""


class Segmented:
    """``method: {kind: trials}``. Raises ``UsageError`` for phrases that are empty."""

    def __init__(self, options: Trials, chat: Chat = Chat()) -> None:  # noqa: ARG002, B008  methods are made alike
        self._options = options
        if not (options.check and options.retry and options.right and options.wrong):
            raise UsageError("method: check, retry, right and wrong must say something")
        self._cut = re.compile(f"({re.escape(options.check)})|{re.escape(options.retry)}", re.IGNORECASE)

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        """The completions, or their segments."""
        completions = [sample for sample in per_sample(base.groups) if sample.tokens]
        parts = [self._segments(sample, step.spoken) for sample in completions]
        solutions = [s for of_one in parts for s in of_one if not s.checks]
        verdicts, waited = step.judge([s.sample for s in solutions])
        told = {id(s): v for s, v in zip(solutions, verdicts, strict=True)}
        judged = [
            [s if s.checks else replace(s, sample=replace(s.sample, verdict=told[id(s)])) for s in of_one]
            for of_one in parts
        ]
        measured = {**self._measured(judged), "seconds_verify": waited}
        weight = KL[self._options.credit] if self._options.kl is None else self._options.kl
        if self._options.credit == "outcome":
            given = advantages([2 * r for r in step.rewarded(base.groups)], "leave_one_out", "none")
            if weight:
                far = [weight * np.array(_divergences(group.samples, step)) for group in base.groups]
                given = [gain - part for gain, part in zip(given, far, strict=True)]
            return [replace(base, advantages=given)], measured
        gains = process_advantages(
            [self._outcomes(of_one) for of_one in judged], [sample.truncated for sample in completions]
        )
        groups = [Group(samples=tuple(s.sample for s in of_one)) for of_one in judged]
        if weight:
            gains = [
                gain - weight * np.array(_divergences(group.samples, step))
                for gain, group in zip(gains, groups, strict=True)
            ]
        return [replace(base, groups=groups, advantages=gains)], measured

    def _segments(self, sample: Sample, spoken: Callable[[Sequence[int]], str]) -> list[Segment]:
        """Its segments, in their order; all its tokens are in them. A phrase belongs to what it begins."""
        text = spoken(sample.tokens)
        starts, checks = [0], [False]
        for found in self._cut.finditer(text):
            start = _token_at(sample.tokens, found.start(), spoken)
            if start == starts[-1]:  # nothing stands before it
                checks[-1] = found[1] is not None
            else:
                starts, checks = [*starts, start], [*checks, found[1] is not None]
        ends = [*starts[1:], len(sample.tokens)]
        return [
            Segment(
                sample=replace(
                    sample,
                    prompt=(*sample.prompt, *sample.tokens[:start]),
                    tokens=sample.tokens[start:end],
                    logprobs=sample.logprobs[start:end],
                    text=spoken(sample.tokens[start:end]) if len(starts) > 1 else sample.text,
                    finish_reason=sample.finish_reason if end == len(sample.tokens) else FinishReason.STOP,
                ),
                checks=check,
            )
            for start, end, check in zip(starts, ends, checks, strict=True)
        ]

    def _said(self, segment: Segment) -> bool | None:
        return said(segment.sample.text, self._options.right, self._options.wrong)

    def _outcomes(self, segments: Sequence[Segment]) -> list[tuple[bool, float, bool]]:
        """Of each segment, whether it is a check, its reward, and whether the bonus is its."""
        outcomes: list[tuple[bool, float, bool]] = []
        before: bool | None = None  # whether the last solution was right
        for segment in segments:
            if segment.checks:
                called = self._said(segment)
                true = called is bool(before)  # what checks nothing checks something wrong
                value = 0.0 if called is None else 1.0 if true else -1.0
                outcomes.append((True, value, bool(before)))
            else:
                right = segment.sample.correct
                outcomes.append((False, 1.0 if right else -1.0, before is not None and right is not before))
                before = right
        return outcomes

    def _measured(self, judged: Sequence[Sequence[Segment]]) -> dict[str, Any]:
        """How many trials there are, how often the first is right, and of right and wrong solutions the shares that a
        check called so."""
        solved: list[Sample] = []
        called: list[bool | None] = []
        firsts: list[bool] = []
        for segments in judged:
            last: Sample | None = None
            for segment in segments:
                if not segment.checks:
                    if last is None:
                        firsts.append(segment.sample.correct)
                    last = segment.sample
                elif last is not None:
                    solved.append(last)
                    called.append(self._said(segment))
        trials = sum(not segment.checks for segments in judged for segment in segments)
        return {
            "trials": trials / max(1, len(judged)),
            "checks": len(called) / max(1, len(judged)),
            "first_accuracy": float(np.mean(firsts)) if firsts else None,
            **recalls(solved, called),
        }


def process_advantages(
    completions: Sequence[Sequence[tuple[bool, float, bool]]], unfinished: Sequence[bool]
) -> list[np.ndarray]:
    """Advantages of the segments of each completion, shape (segments,).

    ``completions``: of each segment whether it is a check, its reward (1, -1; 0: a check that says nothing), whether it
    has the bonus. ``unfinished``: completions whose last segment came to no end: its reward is -1. The baseline is the
    mean reward of all segments of the step, whatever their problem, that come after the same outcomes, itself included.
    """
    places: list[list[tuple[Any, ...]]] = []
    seen: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    rewards = [
        np.array([-1.0 if cut and at == len(c) - 1 else value for at, (_, value, _) in enumerate(c)])
        for c, cut in zip(completions, unfinished, strict=True)
    ]
    for completion, values in zip(completions, rewards, strict=True):
        past: tuple[Any, ...] = ()
        places.append([])
        for (checks, value, _), given in zip(completion, values, strict=True):
            places[-1].append((past, checks))
            seen[past, checks].append(float(given))
            past = (*past, (checks, value > 0))
    means = {place: float(np.mean(v)) if len(v) >= COUNTS_FROM else 0.0 for place, v in seen.items()}
    return [
        (values - np.array([means[place] for place in of_one]))
        * np.array([BONUS if bonus else 1.0 for _, _, bonus in completion])
        for completion, values, of_one in zip(completions, rewards, places, strict=True)
    ]


def _divergences(samples: Sequence[Sample], step: Step) -> list[float]:
    """Of each sample the sum over its tokens of log π - log π_ref, π being what sampled it."""
    rows = [TrainSequence(prompt=s.prompt, tokens=s.tokens, advantage=0.0) for s in samples if s.tokens]
    theirs = iter(step.referred(rows))
    return [sum(s.logprobs) - next(theirs) if s.tokens else 0.0 for s in samples]


def _token_at(tokens: Sequence[int], place: int, spoken: Callable[[Sequence[int]], str]) -> int:
    """The token in which the text's character at ``place`` is."""
    low, high = 0, len(tokens) - 1
    while low < high:
        middle = (low + high) // 2
        if len(spoken(tokens[: middle + 1])) > place:
            high = middle
        else:
            low = middle + 1
    return low
