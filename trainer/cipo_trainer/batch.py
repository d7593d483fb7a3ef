"""The judged attempts of one stream of a step, on their way to the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cipo_trainer.config import Correction, Loss
from cipo_trainer.loss import share
from cipo_trainer.packing import TrainSequence
from cipo_trainer.reward import Rewards
from cipo_trainer.rollout import Group, Sample
from cipo_trainer.step import LossStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Attempts with their advantages."""

    name: str
    """``base``, ``correction``, or what a method calls it."""
    groups: list[Group]
    """Attempts by prompt, whose rewards were compared with each other."""
    advantages: Rewards
    """One array per group, one value per sample of it."""
    weight: float = 1.0
    """The stream's weight in the objective: 1 for the base stream, λ for corrections."""
    loss: Mapping[str, Any] = field(default_factory=dict)
    """Values of the section ``loss`` that differ for this stream."""
    references: Sequence[Sequence[tuple[int, ...]]] = ()
    """By group and sample, the prompt under which the reference sees it; empty: its own."""

    @property
    def samples(self) -> list[Sample]:
        """The attempts that have tokens to train on, group after group."""
        return [sample for group in self.groups for sample in group.samples if sample.tokens]

    def stream(self, loss: Loss, *, filtered: bool = False) -> LossStream:
        """Its sequences, with what the loss is to do with them; ``loss``: the run's own. ``filtered``: without those
        that the token limit ended."""
        sequences = []
        for at, (group, gains) in enumerate(zip(self.groups, self.advantages, strict=True)):
            for number, (sample, gain) in enumerate(zip(group.samples, gains, strict=True)):
                if sample.tokens and not (filtered and sample.finish_reason == "length"):
                    shown = self.references[at][number] if self.references else None
                    sequences.append(_sequence(sample, float(gain), shown))
        own = loss.model_copy(update=dict(self.loss)) if self.loss else None
        return LossStream(name=self.name, sequences=sequences, weight=self.weight, loss=own)

    def imitated(self, options: Correction | None) -> LossStream:
        """Its right attempts alone, each to be learned (``rft``); corrections as ``correction.keep`` has it."""
        improving = options is not None and options.keep == "improving"
        kept = [
            sample
            for group in self.groups
            if not (improving and group.anchor and group.anchor.correct)
            for sample in group.samples
            if sample.tokens and sample.correct
        ]
        return LossStream(
            name=self.name, sequences=[_sequence(sample, 1.0) for sample in kept], weight=self.weight
        )


def _sequence(sample: Sample, advantage: float, reference: tuple[int, ...] | None = None) -> TrainSequence:
    return TrainSequence(
        prompt=sample.prompt,
        tokens=sample.tokens,
        advantage=advantage,
        sampled=sample.logprobs,
        reference=reference,
    )


def together(batches: Sequence[Batch], loss: Loss) -> list[Batch]:
    """Batches as one: with weights by which each counts for its share of all their sequences, or tokens, as the loss
    normalises by the one or the other.

    A batch that is left alone keeps its weight exactly.
    """
    lengths = [[len(sample.tokens) for sample in batch.samples] for batch in batches]
    whole = [length for of_batch in lengths for length in of_batch]
    return [
        batch if of_batch == whole else replace(batch, weight=batch.weight * share(of_batch, whole, loss))
        for batch, of_batch in zip(batches, lengths, strict=True)
    ]
