"""The model judges its attempt, and tries again only where it calls it wrong: PAG (arXiv:2506.10406), with group
baselines in place of its critic.

Two roles, whose advantages are scaled apart: attempts, first and second ones together, and judgements. A second attempt
is paid for its progress; a judgement for being true, and for nothing that comes of it: with credit across turns a model
learns to call everything wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cipo_eval.engines.conversation import Chat
from cipo_eval.records import Request, State, Turn, Verdict
from cipo_eval.turns.protocols import Protocol
from cipo_trainer import measure
from cipo_trainer.advantage import EPS
from cipo_trainer.batch import Batch, together
from cipo_trainer.correction import CorrectionPrompts
from cipo_trainer.method_options import Verify
from cipo_trainer.methods.step import Step, per_sample
from cipo_trainer.reward import Rewards
from cipo_trainer.rollout import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked(Protocol):
    """First a judgement is asked for, then another attempt."""

    texts: tuple[str, str]

    def instruction(self, history: Sequence[Turn]) -> str | None:
        return self.texts[len(history) - 1]


class Judged:
    """``method: {kind: verify}``."""

    def __init__(self, options: Verify, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        self._options = options
        protocol = _Asked(name="verify", summary="", judges=True, texts=(options.ask, options.retry))
        self._prompts = CorrectionPrompts(options, chat, protocol)

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        options, firsts = self._options, per_sample(base.groups)
        place = step.place("judgement")
        asked = [self._prompts.request(s, n, 1, step.longest, *place) for n, s in enumerate(firsts)]
        judgements, waited = step.roll_out(asked, firsts, self._truth)
        called = [self.said(group.samples[0].text) for group in judgements]
        again = [at for at, right in enumerate(called) if right is False or options.revise == "all"]
        place = step.place("retry")
        asked = [
            self._prompts.request(
                firsts[at], at, 1, step.longest, *place, judgement=judgements[at].samples[0].text
            )
            for at in again
        ]
        seconds, more = step.roll_out(asked, [firsts[at] for at in again]) if asked else ([], 0.0)
        owners = [number for number, group in enumerate(base.groups) for _ in group.samples]
        first = step.rewarded(base.groups)
        second = np.concatenate([np.zeros(0), *step.rewarded(seconds)])
        before = np.concatenate(first)[again] if again else np.zeros(0)
        progress = second + options.progress * (second - before)
        attempts = _centred(first, progress, [owners[at] for at in again])
        scale = _spread(np.concatenate([*attempts[0], attempts[1]]))
        true = np.array([float(group.samples[0].correct) for group in judgements])
        sizes = [len(group.samples) for group in base.groups]
        of_truth = [part - part.mean() for part in np.split(true, np.cumsum(sizes)[:-1])]
        judged = np.concatenate(of_truth) / _spread(np.concatenate(of_truth))
        of_attempts = together(
            [
                Batch(name="base", groups=base.groups, advantages=[part / scale for part in attempts[0]]),
                Batch(name="correction", groups=seconds, advantages=list((attempts[1] / scale)[:, None])),
            ],
            step.config.loss,
        )
        role = Batch(
            name="judgement", groups=judgements, advantages=list(judged[:, None]), weight=options.weight
        )
        measured: dict[str, Any] = measure.stream("correction", seconds, [second])
        measured |= measure.stream("judgement", judgements, [true])
        measured |= recalls(firsts, called)
        return [*of_attempts, role], {**measured, "seconds_verify": waited + more}

    def said(self, text: str) -> bool | None:
        """``said`` by the phrases of the options."""
        return said(text, self._options.right, self._options.wrong)

    def _truth(self, request: Request, text: str) -> Verdict:
        """Whether a judgement is true of the attempt that it judges."""
        said = self.said(text)
        true = said is request.history[0].verdict.correct
        state = State.NO_ANSWER if said is None else State.CORRECT if true else State.INCORRECT
        return Verdict(correct=true, state=state, extracted=None if said is None else str(said))


def said(text: str, right: str, wrong: str) -> bool | None:
    """Whether a judgement calls what it judges right; None: it does not say. What it says last counts, in upper or
    lower case."""
    lower = text.lower()
    last_right, last_wrong = lower.rfind(right.lower()), lower.rfind(wrong.lower())
    return None if last_right == last_wrong else last_right > last_wrong


def recalls(judged: Sequence[Sample], called: Sequence[bool | None]) -> dict[str, float | None]:
    """Of right attempts, the share called right, and of wrong ones the share called wrong."""
    pairs = list(zip(judged, called, strict=True))
    of_right = [right is True for sample, right in pairs if sample.correct]
    of_wrong = [right is False for sample, right in pairs if not sample.correct]
    return {
        "recall_right": float(np.mean(of_right)) if of_right else None,
        "recall_wrong": float(np.mean(of_wrong)) if of_wrong else None,
    }


def _centred(first: Rewards, second: np.ndarray, owners: Sequence[int]) -> tuple[Rewards, np.ndarray]:
    """Rewards without their baselines: a problem's mean; for a second attempt that is its problem's only one, that of
    all.

    ``owners``: of each second attempt, the number of its problem.
    """
    of_problem = np.array(owners, dtype=int)
    means = np.zeros(len(second))
    for number in set(owners):
        mine = of_problem == number
        means[mine] = second[mine].mean() if mine.sum() > 1 else second.mean()
    return [part - part.mean() for part in first], second - means


def _spread(values: np.ndarray) -> float:
    """Around 0, which the baselines are to give, as ``batch_std`` has it."""
    return float(np.sqrt(np.sum(values**2) / max(1, len(values) - 1))) + EPS
