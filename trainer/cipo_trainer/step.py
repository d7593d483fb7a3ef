"""One optimizer step: the streams' losses, their gradients, one update.

The joint objective J = J(base) + λ·J(corrections) needs no second pass: λ and each stream's own normaliser are in its
tokens' weights. Sequences whose advantage is 0 give no gradient; where there is no KL term either, they do not go
through the model, but count in the normalisers (a loss of the user's own sees them all). A step whose loss or gradient
is not finite changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cipo_eval.records import derive_seed
from cipo_trainer import loss
from cipo_trainer.config import Config
from cipo_trainer.dropout import training
from cipo_trainer.loss import weights
from cipo_trainer.masters import Masters, norm
from cipo_trainer.packing import Packed, TrainSequence, can_pack, logprobs, micro, plan

NORM_EPS = 1e-6
"""Added to the gradient's norm before the clip divides by it."""
COUNTS = ("kl", "clip_low", "clip_high")
"""What the built-in loss counts."""
OWN = "loss_"
"""How the names begin, in a log, of what a loss of the user's own counts beside."""
MEANS = {
    "gap": "mismatch",
    "divergence": "mismatch_kl",
    "logp": "logp",
    "entropy": "entropy",
    **{name: name for name in COUNTS},
}
"""Sums over tokens, and the names of their means in a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStream:
    """Sequences of an update that are normalised by their own number of tokens, or of sequences."""

    name: str
    sequences: Sequence[TrainSequence]
    weight: float = 1.0
    """Weight of the stream in the objective (λ of the corrections); 0: it has no part in the update."""


@dataclass(slots=True)
class Totals:
    """Sums over the tokens of an update, on the device: nothing waits for it before the end."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    """Scalars by name."""
    largest_gap: torch.Tensor | None = None
    """Largest absolute difference between the trainer's and the engine's log-probability of a token, in nats."""
    tokens: int = 0
    """Completion tokens that were trained on."""
    work: float = 0.0
    """Floating-point operations of forward and backward passes, without any that are repeated."""
    passed: int = 0
    """Tokens that went through the model, prompts included."""

    def add(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value


class Learner:
    """Owns the model's gradients. ``reference``: a frozen model, or None where the policy's own adapters can be off.

    Raises ``UsageError`` for a loss of the user's own that is not there.
    """

    def __init__(self, model: Any, config: Config, reference: Any = None) -> None:
        self.model, self.config, self.reference = model, config, reference
        self._loss = loss.chosen(config.loss)
        self.device = next(model.parameters()).device
        self.masters = Masters(model, config.optimizer)
        dtype = next(model.parameters()).dtype
        self.packed = self.device.type == "cuda" and dtype != torch.float32 and can_pack(model)
        text = model.config.get_text_config()
        self._head = text.vocab_size * text.hidden_size
        tied = bool(getattr(text, "tie_word_embeddings", False))
        everything = sum(p.numel() for p in model.parameters())
        self._body = everything - self._head * (1 if tied else 2)
        self._wide = text.num_hidden_layers * text.hidden_size

    def update(self, streams: Sequence[LossStream], *, step: int, lr: float) -> dict[str, float]:
        """Trains on the streams and returns what was measured on the way (names: docs/training.md).

        ``step`` chooses the mini-batches, ``lr`` is the learning rate of all updates.
        """
        started = time.perf_counter()
        options = self.config.optimizer
        streams = [s for s in streams if s.sequences and s.weight]
        totals, measured = Totals(), {"updates": 0.0, "skipped": 0.0}
        several = options.minibatches * options.epochs > 1
        old = {s.name: self._old(s.sequences, totals) if several else None for s in streams}
        with training(self.model):
            for epoch in range(options.epochs):
                for part in range(options.minibatches):
                    positions = {s.name: self._share(s, step, epoch, part) for s in streams}
                    tokens_before = totals.tokens
                    norms = self._gradients(streams, positions, old, totals)
                    measured |= {f"grad_norm_{name}": float(value) for name, value in norms.items()}
                    measured["grad_norm"] = float(norm(self.masters.gradients))
                    if totals.tokens == tokens_before:
                        pass  # no sequence has an advantage: not even the optimizer's momentum moves
                    elif math.isfinite(measured["grad_norm"]) and bool(torch.isfinite(totals.sums["loss"])):
                        clip = min(1.0, options.max_grad_norm / (measured["grad_norm"] + NORM_EPS))
                        self.masters.step(lr, clip)
                        measured["updates"] += 1
                    else:
                        measured["skipped"] += 1
                        totals.sums.pop("loss", None)
                    self.masters.clear()
        return {**measured, **self._measured(totals, time.perf_counter() - started)}

    def _share(self, stream: LossStream, step: int, epoch: int, part: int) -> list[int]:
        """Positions of the sequences in a mini-batch: all, or every n-th of an order that depends on the seed."""
        count = self.config.optimizer.minibatches
        if count == 1:
            return list(range(len(stream.sequences)))
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, step, epoch, stream.name))
        return sorted(torch.randperm(len(stream.sequences), generator=generator).tolist()[part::count])

    def _gradients(
        self,
        streams: Sequence[LossStream],
        positions: dict[str, list[int]],
        old: dict[str, list[torch.Tensor] | None],
        totals: Totals,
    ) -> dict[str, torch.Tensor]:
        """Adds up the gradients of the streams' sequences at these positions; the norm of each stream's own."""
        norms: dict[str, torch.Tensor] = {}
        for number, stream in enumerate(streams):
            before: list[torch.Tensor | None] = []
            apart = self.config.optimizer.stream_norms and len(streams) > 1
            if apart and number:
                before = self.masters.kept()
            sequences = [stream.sequences[i] for i in positions[stream.name]]
            lengths = [len(sequence.tokens) for sequence in sequences]
            shares = weights(lengths, self.config.loss, self.config.rollout.max_tokens, stream.weight)
            of_stream = old[stream.name]
            of_sequences = None if of_stream is None else [of_stream[i] for i in positions[stream.name]]
            self._accumulate(sequences, shares, of_sequences, totals)
            if apart:
                norms[stream.name] = (
                    self.masters.norm_since(before) if before else norm(self.masters.gradients)
                )
        return norms

    def _accumulate(
        self,
        sequences: Sequence[TrainSequence],
        shares: Sequence[float],
        old: Sequence[torch.Tensor] | None,
        totals: Totals,
    ) -> None:
        """Adds the gradients of sequences, each of whose tokens weighs its share, one micro-batch after the other."""
        loss_options, options = self.config.loss, self.config.optimizer
        all_matter = bool(loss_options.beta or loss_options.import_)
        positions = [i for i, sequence in enumerate(sequences) if sequence.advantage or all_matter]
        chosen = [sequences[i] for i in positions]
        for places in plan(chosen, options.micro_tokens, packed=self.packed):
            batch = micro(chosen, places, self.device, packed=self.packed)
            together = [chosen[i] for i in places]
            sampled = None
            if together[0].sampled is not None:
                logprobs_then = [x for sequence in together for x in sequence.sampled or ()]
                sampled = torch.tensor(logprobs_then, device=self.device)
            reference = self._reference(batch) if loss_options.beta else None
            with Packed(self.model, active=self.packed):
                logp, entropy = logprobs(self.model, batch, options.chunk)
                before = None if old is None else torch.cat([old[positions[i]] for i in places])
                token_losses, counts = self._loss(
                    logp,
                    self._spread([sequence.advantage for sequence in together], batch.segments, logp),
                    batch.segments,
                    loss_options,
                    old=before,
                    reference=reference,
                    sampled=sampled,
                )
                token_weights = self._spread([shares[positions[i]] for i in places], batch.segments, logp)
                total = (token_losses * token_weights).sum()
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._count(totals, together, total, entropy, counts, logp.detach(), sampled)

    def _spread(self, values: Sequence[float], segments: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[segments]

    def _count(
        self,
        totals: Totals,
        sequences: Sequence[TrainSequence],
        total: torch.Tensor,
        entropy: torch.Tensor,
        counts: dict[str, torch.Tensor],
        logp: torch.Tensor,
        sampled: torch.Tensor | None,
    ) -> None:
        totals.add(loss=total.detach(), entropy=entropy.sum(), logp=logp.sum())
        totals.add(**{n if n in COUNTS else f"{OWN}{n}": count.detach() for n, count in counts.items()})
        if sampled is not None:
            gap = logp - sampled
            totals.add(gap=gap.abs().sum(), divergence=(gap.exp() - 1 - gap).sum())
            largest = gap.abs().amax()
            totals.largest_gap = (
                largest if totals.largest_gap is None else torch.maximum(totals.largest_gap, largest)
            )
        totals.tokens += len(logp)
        passed = sum(map(len, sequences))
        totals.passed += passed
        backward = 2 if self.config.lora else 3  # weights that are frozen have no gradient
        squares = sum(len(sequence) ** 2 for sequence in sequences)
        totals.work += (
            2 * backward * (self._body * passed + self._head * len(logp)) + 6 * self._wide * squares
        )

    @torch.no_grad()
    def _old(self, sequences: Sequence[TrainSequence], totals: Totals) -> list[torch.Tensor]:
        """Log-probabilities before the first of several updates: of each sequence, shape (its tokens,)."""
        before: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
        options = self.config.optimizer
        for places in plan(sequences, options.micro_tokens, packed=self.packed):
            batch = micro(sequences, places, self.device, packed=self.packed)
            with Packed(self.model, active=self.packed):
                logp, _ = logprobs(self.model, batch, options.chunk)
            lengths = [len(sequences[i].tokens) for i in places]
            for place, part in zip(places, torch.split(logp, lengths), strict=True):
                before[place] = part
            totals.passed += sum(len(sequences[i]) for i in places)
        return before

    @torch.no_grad()
    def _reference(self, batch: Any) -> torch.Tensor:
        with self._unadapted() as model, Packed(model, active=self.packed):
            return logprobs(model, batch, self.config.optimizer.chunk)[0]

    @contextlib.contextmanager
    def _unadapted(self) -> Iterator[Any]:
        if self.reference is not None:
            yield self.reference
            return
        with self.model.disable_adapter():
            yield self.model

    def _measured(self, totals: Totals, seconds: float) -> dict[str, float]:
        """Figures of an update; means are over the tokens that were trained on."""
        measured = {
            "trained_tokens": float(totals.tokens),
            "passed_tokens": float(totals.passed),
            "work": totals.work,
            "seconds_train": seconds,
        }
        if not totals.tokens:
            return measured
        sums = {name: float(value) for name, value in totals.sums.items()}
        measured |= {shown: sums[name] / totals.tokens for name, shown in MEANS.items() if name in sums}
        measured |= {name: total / totals.tokens for name, total in sums.items() if name.startswith(OWN)}
        if "loss" in sums:
            updates = self.config.optimizer.epochs * self.config.optimizer.minibatches
            measured["loss"] = sums["loss"] / max(1, updates)
        if totals.largest_gap is not None:
            measured["mismatch_max"] = float(totals.largest_gap)
        return measured
