"""One refinement of each attempt after a critique, and one of them in the group: Critique-GRPO (arXiv:2506.03106), with
the critique that says right or wrong and nothing else.

A refinement is learned as an answer to the problem alone, by f(probability) in place of a ratio. The critique that its
authors released tells the true answer; this one does not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cipo_eval.engines.conversation import Chat
from cipo_eval.records import Turn, derive_seed
from cipo_eval.turns.protocols import Protocol
from cipo_trainer import correction, measure
from cipo_trainer.batch import Batch, together
from cipo_trainer.correction import CorrectionPrompts
from cipo_trainer.method_options import Refine
from cipo_trainer.methods.hints import part
from cipo_trainer.methods.step import Step, per_sample
from cipo_trainer.rollout import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class _Critique(Protocol):
    """Says whether the attempt is right, and asks for another."""

    right: str
    wrong: str

    def instruction(self, history: Sequence[Turn]) -> str | None:
        return self.right if history[-1].verdict.correct else self.wrong


class Refined:
    """``method: {kind: refine}``."""

    def __init__(self, options: Refine, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        self._options = options
        protocol = _Critique(name="refine", summary="", right=options.right, wrong=options.wrong)
        self._prompts = CorrectionPrompts(options, chat, protocol)

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        """Groups with a refinement in place of an attempt, normalised as one batch."""
        attempts = per_sample(base.groups)
        asked = [self._prompts.request(s, n, 1, step.longest, *step.place()) for n, s in enumerate(attempts)]
        refinements, waited = step.roll_out(asked, attempts)
        measured: dict[str, Any] = measure.stream("correction", refinements, step.rewarded(refinements))
        measured |= {**correction.diagnostics(base.groups, refinements), "seconds_verify": waited}
        groups: list[Group] = []
        theirs: set[int] = set()
        at = 0
        for group in base.groups:
            size = len(group.samples)
            mixed = self._mixed(group, refinements[at : at + size], step)
            theirs |= {id(sample) for sample in mixed.samples} - {id(sample) for sample in group.samples}
            groups.append(mixed)
            at += size
        given = step.scaled(step.rewarded(groups))
        own = part("base", groups, given, theirs, inside=False)
        refined = part("refined", groups, given, theirs, inside=True)
        batches = together([own, replace(refined, loss={"kind": "linear"})], step.config.loss)
        return batches, measured

    def _mixed(self, group: Group, refinements: Sequence[Group], step: Step) -> Group:
        """The group with its best refinements in the place of as many attempts, right ones first, in their order."""
        slots = min(self._options.slots, len(group.samples))
        refined = [one.samples[0] for one in refinements if one.samples[0].tokens]
        best = sorted(refined, key=lambda sample: not sample.correct)[:slots]
        prompt, seed = (
            group.samples[0].prompt,
            derive_seed(*step.place("refine"), group.samples[0].problem.id),
        )
        leaving = set(random.Random(seed).sample(range(len(group.samples)), len(best)))
        kept = [sample for at, sample in enumerate(group.samples) if at not in leaving]
        return replace(group, samples=(*kept, *(replace(sample, prompt=prompt) for sample in best)))
