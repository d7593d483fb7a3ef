"""Every attempt is revised once, right or wrong: multi-turn GRPO, and both stages of SCoRe (arXiv:2409.12917).

A trajectory is two sequences; the revision's prompt has the attempt. Revisions are compared with each other by problem,
not by the attempt that they revise: a group has one revision of each of its problem's attempts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cipo_eval.engines.conversation import Chat
from cipo_trainer import correction, measure
from cipo_trainer.batch import Batch
from cipo_trainer.correction import CorrectionPrompts
from cipo_trainer.method_options import MultiTurn
from cipo_trainer.methods.step import Step, per_sample
from cipo_trainer.reward import Rewards


class Revisions:
    """``method: {kind: multi_turn}``."""

    def __init__(self, options: MultiTurn, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        self._options = options
        self._prompts = CorrectionPrompts(options, chat)

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        options = self._options
        anchors = per_sample(base.groups)
        requests = [
            self._prompts.request(anchor, number, 1, step.longest, *step.place())
            for number, anchor in enumerate(anchors)
        ]
        groups, waited = step.roll_out(requests, anchors)
        sizes = [len(group.samples) for group in base.groups]
        first, second = step.rewarded(base.groups), _split(np.concatenate(step.rewarded(groups)), sizes)
        shaped = [r2 + options.progress * (r2 - r1) for r1, r2 in zip(first, second, strict=True)]
        of_second = step.scaled(shaped)
        of_first = self._credit(base, first, shaped, of_second, step)
        betas = [{} if options.betas is None else {"beta": beta} for beta in options.betas or (0.0, 0.0)]
        measured: dict[str, Any] = measure.stream("correction", groups, second)
        measured |= correction.diagnostics(base.groups, groups)
        measured |= {"seconds_verify": waited, "lambda": options.weight}
        flat = list(np.concatenate(of_second).reshape(-1, 1)) if anchors else []
        return [
            Batch(name="base", groups=base.groups, advantages=of_first, loss=betas[0]),
            Batch(name="correction", groups=groups, advantages=flat, weight=options.weight, loss=betas[1]),
        ], measured

    def _credit(
        self, base: Batch, first: Rewards, second: Rewards, of_second: Rewards, step: Step
    ) -> Rewards:
        """Advantages of the first attempts."""
        credit = self._options.credit
        if credit == "both":
            return base.advantages
        if credit == "last":
            return of_second
        if credit == "second":
            return [np.zeros_like(given) for given in first]
        gamma = self._options.gamma
        return step.scaled([r1 + gamma * r2 for r1, r2 in zip(first, second, strict=True)])


def _split(values: np.ndarray, sizes: list[int]) -> Rewards:
    return list(np.split(values, np.cumsum(sizes)[:-1]))
