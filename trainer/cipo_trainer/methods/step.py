"""What a method has at hand within a step, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cipo_eval.records import Request, Verdict
from cipo_trainer.advantage import AdvantageFunction
from cipo_trainer.batch import Batch
from cipo_trainer.config import Config
from cipo_trainer.packing import TrainSequence
from cipo_trainer.reward import OwnRewards, Rewards, rewards
from cipo_trainer.rollout import Group, Judge, Sample


class RollOut(Protocol):
    """Generates and judges: a group for each request, and the seconds that verdicts were waited for after it."""

    def __call__(
        self, requests: list[Request], anchors: list[Sample] | None = None, judge: Judge | None = None
    ) -> tuple[list[Group], float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, after its base batch."""

    number: int
    """From 0."""
    config: Config
    roll_out: RollOut
    advantages: AdvantageFunction
    encode: Callable[[Request], tuple[int, ...]]
    """The tokens of a request's prompt."""
    spoken: Callable[[Sequence[int]], str]
    """The text of tokens."""
    judge: Callable[[Sequence[Sample]], tuple[list[Verdict], float]]
    """The verifier's verdicts on texts that were not asked for as such, and the seconds that they were waited for."""
    referred: Callable[[Sequence[TrainSequence]], list[float]]
    """The reference's log-probability of each sequence, in nats."""
    own: OwnRewards | None = None
    """Rewards of the user's own."""

    def place(self, *parts: str) -> tuple[str | int, ...]:
        """What seeds of this step are made of; ``parts`` tell its generations apart."""
        return (self.config.seed, "train", self.number, *parts)

    @property
    def longest(self) -> int:
        """Most tokens of an attempt."""
        return self.config.rollout.max_tokens

    def rewarded(self, groups: list[Group]) -> Rewards:
        """One array per group."""
        return rewards(groups, self.config.reward, self.longest, self.own)

    def scaled(self, given: Rewards) -> Rewards:
        """Advantages of rewards, as the section ``advantage`` has them."""
        return self.advantages(given, self.config.advantage.baseline, self.config.advantage.scale)


class StepMethod(Protocol):
    """What follows a step's base batch."""

    def batches(self, base: Batch, step: Step) -> tuple[list[Batch], dict[str, Any]]:
        """What the step trains on, the base batch or what became of it first, and what was measured."""
        ...


def per_sample(groups: Sequence[Group]) -> list[Sample]:
    """All samples, group after group."""
    return [sample for group in groups for sample in group.samples]
