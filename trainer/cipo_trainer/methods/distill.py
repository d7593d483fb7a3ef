"""A teacher that sees a right attempt tells each token how likely it should have been: SDPO (arXiv:2601.20802).

The teacher is the reference, given another prompt. Half the squared difference of the log-probabilities (the estimator
k2) has the gradient (log p - log q)·∇log p, which is SDPO's; attempts have no advantage of their own. With
``top`` it tells so of the most likely tokens, and the divergence of both distributions is the loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.records import Mode, Span, Turn
from cipo_eval.turns.revising import feedback
from cipo_trainer.batch import Batch
from cipo_trainer.method_options import Distill
from cipo_trainer.methods.step import Step
from cipo_trainer.rollout import Group, Sample, first_requests

TEACHER: dict[str, Any] = {"beta": 1.0, "kl": "k2"}


class Distilled:
    """``method: {kind: distill}``. Raises ``UsageError`` for a template that cannot be filled in."""

    def __init__(self, options: Distill, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        self._options, self._chat = options, chat
        self._template = _template("template", options.template, "demonstration")
        self._feedback = _template("feedback_template", options.feedback_template, "feedback")

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        """Attempts that there is something to tell of, and the base batch where it has a weight. The others are not
        counted."""
        options = self._options
        groups, references = [], []
        for group in base.groups:
            told = [self._told(sample, group, step) for sample in group.samples]
            chosen = [at for at, prompt in enumerate(told) if prompt is not None]
            if chosen:
                groups.append(replace(group, samples=tuple(group.samples[at] for at in chosen)))
                references.append([prompt for prompt in told if prompt is not None])
        count = sum(len(group.samples) for group in groups)
        total = sum(len(group.samples) for group in base.groups)
        taught = Batch(
            name="taught",
            groups=groups,
            advantages=[np.zeros(len(group.samples)) for group in groups],
            weight=options.weight,
            loss=TEACHER | ({"kl": "top", "top": options.top, "alpha": options.alpha} if options.top else {}),
            references=references,
        )
        measured = {"taught": count / max(1, total)}
        rest = 1 - options.weight
        return [*([replace(base, weight=rest)] if rest else []), taught], measured

    def _told(self, sample: Sample, group: Group, step: Step) -> tuple[int, ...] | None:
        """The prompt that the teacher is given: with the first other right attempt, or with what the verifier says."""
        for other in group.samples:
            if other.correct and other is not sample:
                return self._encoded(self._template, "demonstration", other.text, sample, step)
        if not self._options.feedback or sample.correct:
            return None
        return self._encoded(self._feedback, "feedback", feedback(sample.verdict), sample, step)

    def _encoded(
        self, template: Template, name: str, text: str, sample: Sample, step: Step
    ) -> tuple[int, ...]:
        (request,) = first_requests([sample.problem], 1, step.longest, self._chat)
        asked, mark = request.messages[-1]["content"], "\ue000"
        while mark in asked:
            mark += "\ue000"
        before, shown, after = template.render(problem=asked, **{name: mark}).partition(mark)
        start = len(before)
        text = text if shown else ""  # a template need not show it
        return step.encode(
            replace(
                request,
                messages=(*request.messages[:-1], {"role": "user", "content": before + text + after}),
                history=(Turn(text, {Mode.FIXED: sample.verdict}),),
                carried=(Span(len(request.messages) - 1, start, start + len(text)),),
            )
        )


def _template(key: str, text: str, name: str) -> Template:
    try:
        template = Environment(undefined=StrictUndefined, autoescape=False).from_string(text)
        template.render(problem="x", **{name: "x"})
    except Exception as error:
        raise UsageError(f"method.{key} cannot be filled in: {error}") from error
    return template
