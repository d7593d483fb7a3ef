"""Problems without a right attempt are tried again with a hint: LTE (arXiv:2510.26109), and its control without one.

What the model gets right with the hint takes the place of wrong attempts at random, and is learned as an answer to the
problem alone: its ratio is to the distribution that the hint gave, and is shaped instead of clipped.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jinja2 import Environment, StrictUndefined

from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.records import Request, derive_seed
from cipo_trainer import measure
from cipo_trainer.batch import Batch, together
from cipo_trainer.method_options import Hints
from cipo_trainer.methods.step import Step
from cipo_trainer.reward import Rewards
from cipo_trainer.rollout import Group, Sample, first_requests


class Hinted:
    """``method: {kind: hints}``. Raises ``UsageError`` for a template that cannot be filled in."""

    def __init__(self, options: Hints, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        self._options, self._chat = options, chat
        try:
            environment = Environment(undefined=StrictUndefined, autoescape=False)
            self._template = environment.from_string(options.template)
            self._template.render(problem="x", concise=False, answers="x")
        except Exception as error:
            raise UsageError(f"method.template cannot be filled in: {error}") from error

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        """The groups with what the hints brought, normalised as one batch."""
        failed = [at for at, group in enumerate(base.groups) if group.accuracy == 0]
        asked = [self._request(base.groups[at], step) for at in failed]
        tried, waited = step.roll_out(asked) if asked else ([], 0.0)
        measured: dict[str, Any] = measure.stream("hinted", tried, step.rewarded(tried))
        measured |= {"seconds_verify": waited, "hinted_groups": float(len(failed))}
        found = {at: self._found(base.groups[at], group) for at, group in zip(failed, tried, strict=True)}
        groups = [
            _replaced(group, found.get(at, ()), self._seed(group, step))
            for at, group in enumerate(base.groups)
        ]
        measured["hinted_kept"] = float(sum(map(len, found.values())))
        if not measured["hinted_kept"]:
            return [base], measured
        given = step.scaled(step.rewarded(groups))
        if not self._options.hint:  # they are of the problem's own distribution
            return [Batch(name="base", groups=groups, advantages=given)], measured
        hinted = {id(sample) for samples in found.values() for sample in samples}
        own = part("base", groups, given, hinted, inside=False)
        found_there = replace(part("hinted", groups, given, hinted, inside=True), loss={"kind": "shaped"})
        return together([own, found_there], step.config.loss), measured

    def _found(self, group: Group, tried: Group) -> tuple[Sample, ...]:
        """Right attempts of the second try, as answers to the problem itself."""
        prompt = group.samples[0].prompt
        return tuple(replace(s, prompt=prompt) for s in tried.samples if s.correct)[: len(group.samples)]

    def _seed(self, group: Group, step: Step) -> int:
        return derive_seed(*step.place("hints"), group.samples[0].problem.id)

    def _request(self, group: Group, step: Step) -> Request:
        problem, count = group.samples[0].problem, len(group.samples)
        (request,) = first_requests([problem], count, step.longest, self._chat, *step.place("hint"))
        if not self._options.hint:
            return request
        hint = self._template.render(problem=request.messages[-1]["content"], **self._told(group))
        return replace(request, messages=(*request.messages[:-1], {"role": "user", "content": hint}))

    def _told(self, group: Group) -> Mapping[str, Any]:
        """What a hint says: whether attempts were too long, and which answers were wrong, unless all were too long."""
        cut = [sample.truncated for sample in group.samples]
        said = dict.fromkeys(s.verdict.canonical or s.verdict.extracted for s in group.samples)
        answers = [" ".join(answer.split())[: self._options.characters] for answer in said if answer]
        named = [] if all(cut) else answers[: self._options.answers]
        return {"concise": any(cut), "answers": ", ".join(named)}


def _replaced(group: Group, found: tuple[Sample, ...], seed: int) -> Group:
    """A group without a right attempt, some of whose attempts make room for others."""
    if not found:
        return group
    leaving = set(random.Random(seed).sample(range(len(group.samples)), len(found)))
    return replace(group, samples=(*(s for at, s in enumerate(group.samples) if at not in leaving), *found))


def part(name: str, groups: list[Group], given: Rewards, chosen: set[int], *, inside: bool) -> Batch:
    """Of these groups and their advantages, the samples whose ``id`` is among the chosen, or those whose is not."""
    parts, gains = [], []
    for group, of_group in zip(groups, given, strict=True):
        places = [at for at, sample in enumerate(group.samples) if (id(sample) in chosen) is inside]
        if places:
            parts.append(replace(group, samples=tuple(group.samples[at] for at in places)))
            gains.append(of_group[places])
    return Batch(name=name, groups=parts, advantages=gains)
