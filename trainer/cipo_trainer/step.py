"""One optimizer step: the streams' losses, their gradients, one update.

The joint objective J = J(base) + λ·J(corrections) needs no second pass: λ and each stream's own normaliser are in its
tokens' weights. Sequences whose advantage is 0 give no gradient; where there is no KL term either, they do not go
through the model, but count in the normalisers (a loss of the user's own sees them all). A step whose loss or gradient
is not finite changes nothing.

Of several processes each takes its share of the sequences; what they are weighed by is made of all of them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cipo_eval.records import derive_seed
from cipo_trainer import loss
from cipo_trainer.config import Config, Loss
from cipo_trainer.distributed.division import owners
from cipo_trainer.distributed.sharding import Sharded
from cipo_trainer.distributed.world import World
from cipo_trainer.dropout import training
from cipo_trainer.loss import OFF_POLICY, weights
from cipo_trainer.masters import Kept, Masters, norm
from cipo_trainer.packing import (
    Micro,
    Packed,
    TrainSequence,
    can_pack,
    given_logprobs,
    logprobs,
    micro,
    plan,
    top_logprobs,
)
from cipo_trainer.teacher import Teacher

NORM_EPS = 1e-6
"""Added to the gradient's norm before the clip divides by it."""
COUNTS = ("kl", "clip_low", "clip_high", "importance_masked")
"""Names of what the built-in loss counts, summed over tokens."""
OWN = "loss_"
"""The beginning of the names, in a log, of what a loss of the user's own counts besides."""
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
    loss: Loss | None = None
    """Its own options of the loss; None: the run's."""


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
        """Adds scalars to the sums of these names."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value


class Learner:
    """Trains the model: gradients of all streams, and the updates. ``reference``: a frozen model; None: none is needed,
    or it is the policy with its adapters off.

    ``world``: the processes whose gradients are summed. ``sharded``: of a ``model`` whose weights are in parts.
    Raises ``UsageError`` for a loss of the user's own that is not there.
    """

    def __init__(
        self,
        model: Any,
        config: Config,
        reference: Any = None,
        *,
        world: World | None = None,
        sharded: Sharded | None = None,
    ) -> None:
        self.model, self.config, self.reference = model, config, reference
        self._world, self._sharded = world or World(), sharded
        self._loss = loss.loss_function(config.loss)
        self.teacher = Teacher(reference, config.follows) if config.follows else None
        """A reference that follows; None: it stays."""
        self.device = next(model.parameters()).device
        self.masters = Masters(model, config.optimizer)
        dtype = sharded.dtype if sharded else next(model.parameters()).dtype
        self.packed = self.device.type == "cuda" and dtype != torch.float32 and can_pack(model)
        text = model.config.get_text_config()
        self._head = text.vocab_size * text.hidden_size
        tied = bool(getattr(text, "tie_word_embeddings", False))
        everything = sum(p.numel() for p in model.parameters())
        self._body = everything - self._head * (1 if tied else 2)
        self._wide = text.num_hidden_layers * text.hidden_size

    def update(self, streams: Sequence[LossStream], *, step: int, lr: float) -> dict[str, Any]:
        """Trains on the streams and returns what was measured on the way (names: docs/training.md).

        ``step`` chooses the mini-batches, ``lr`` is the learning rate of all updates.
        """
        started = time.perf_counter()
        options = self.config.optimizer
        streams = [s for s in streams if s.sequences and s.weight]
        totals = Totals()
        measured: dict[str, Any] = {"updates": 0.0, "skipped": 0.0}
        several = options.minibatches * options.epochs > 1
        division = {s.name: self._division(s, all_pass=several) for s in streams}
        old = {s.name: self._old(s.sequences, division[s.name], totals) if several else None for s in streams}
        with training(self.model):
            for epoch in range(options.epochs):
                for part in range(options.minibatches):
                    positions = {s.name: self._share(s, step, epoch, part) for s in streams}
                    tokens_before = totals.tokens
                    norms = self._gradients(streams, positions, division, old, totals)
                    measured |= {f"grad_norm_{name}": float(value) for name, value in norms.items()}
                    measured["grad_norm"] = float(norm(self.masters.gradients))
                    measured |= _cosine(list(norms.values()), measured["grad_norm"])
                    finite = "loss" not in totals.sums or bool(torch.isfinite(totals.sums["loss"]))
                    everywhere = self._world.added(
                        {"tokens": float(totals.tokens - tokens_before), "broken": float(not finite)}
                    )
                    if not everywhere["tokens"]:
                        pass  # no sequence has an advantage: not even the optimizer's momentum moves
                    elif math.isfinite(measured["grad_norm"]) and not everywhere["broken"]:
                        clip = min(1.0, options.max_grad_norm / (measured["grad_norm"] + NORM_EPS))
                        self.masters.step(lr, clip)
                        if self.teacher:
                            self.teacher.follow(self.masters.parameters)
                        measured["updates"] += 1
                    else:
                        measured["skipped"] += 1
                        told = self._world.gather(self.masters.not_finite())
                        measured["not_finite"] = next(filter(None, told), "loss")
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

    def _options(self, stream: LossStream) -> Loss:
        return stream.loss or self.config.loss

    def _matters(self, sequence: TrainSequence, options: Loss) -> bool:
        """Whether a sequence goes through the model: one without an advantage has no gradient of its own."""
        return bool(sequence.advantage or options.beta or options.import_)

    def _division(self, stream: LossStream, *, all_pass: bool) -> list[int]:
        """The process that each sequence is trained on in."""
        options = self._options(stream)
        costs = [len(s) if all_pass or self._matters(s, options) else 0 for s in stream.sequences]
        return owners(costs, self._world.size)

    def _gradients(
        self,
        streams: Sequence[LossStream],
        positions: dict[str, list[int]],
        division: dict[str, list[int]],
        old: dict[str, list[torch.Tensor] | None],
        totals: Totals,
    ) -> dict[str, torch.Tensor]:
        """Adds up the gradients of the streams' sequences at these positions, over all processes; the norm of each
        stream's own."""
        apart = self.config.optimizer.stream_norms and len(streams) > 1
        cumulative: list[Kept] = []
        for number, stream in enumerate(streams):
            if apart and number:
                cumulative.append(self._so_far())
            places = positions[stream.name]
            lengths = [len(stream.sequences[i].tokens) for i in places]
            options = self._options(stream)
            shares = weights(lengths, options, self.config.rollout.max_tokens, stream.weight)
            by_position = dict(zip(places, shares, strict=True))
            self._accumulate(stream, by_position, division[stream.name], old[stream.name], totals)
        if not self._sharded:
            self._world.complete(self.masters.parameters)
            self._world.add_up(self.masters.gradients)
        if not apart:
            return {}
        spans = zip(streams, [None, *cumulative], [*cumulative, None], strict=True)
        return {stream.name: self.masters.grown(before, after) for stream, before, after in spans}

    def _so_far(self) -> Kept:
        """Copies of the gradients up to here, summed over all processes, outside the device's memory."""
        if self._sharded or self._world.size == 1:
            return self.masters.kept(on_device=bool(self._sharded))
        self._world.complete(self.masters.parameters)
        copies = self.masters.kept(on_device=True)
        self._world.add_up([g for g in copies if g is not None])
        return [None if g is None else g.cpu() for g in copies]

    def _accumulate(
        self,
        stream: LossStream,
        shares: dict[int, float],
        division: Sequence[int],
        old: Sequence[torch.Tensor] | None,
        totals: Totals,
    ) -> None:
        """Adds the gradients of this process's sequences, one micro-batch after the other. ``shares``: by position in
        the stream, what each token of a sequence weighs."""
        loss_options = self._options(stream)
        wanted = [i for i in shares if self._matters(stream.sequences[i], loss_options)]
        mine = [i for i in wanted if division[i] == self._world.rank]
        plans = self._plans(stream.sequences, mine)
        for positions in plans:
            batch = micro(stream.sequences, positions, self.device, packed=self.packed)
            together = [stream.sequences[i] for i in positions]
            sampled = None
            if together[0].sampled is not None:
                logprobs_then = [x for sequence in together for x in sequence.sampled or ()]
                sampled = torch.tensor(logprobs_then, device=self.device)
            top = loss_options.beta and loss_options.kl == "top"
            reference = self._reference(batch, together) if loss_options.beta and not top else None
            with Packed(self.model, active=self.packed):
                if top:
                    (logp, entropy), distances = self._distances(batch, together, loss_options)
                else:
                    logp, entropy = self._logprobs(batch)
                before = None if old is None else torch.cat([old[i] for i in positions])
                token_losses, counts = self._loss(
                    logp,
                    self._spread([sequence.advantage for sequence in together], batch.segments, logp),
                    batch.segments,
                    loss_options,
                    old=before,
                    reference=reference,
                    sampled=sampled,
                )
                if top:
                    token_losses = token_losses + loss_options.beta * distances
                    counts["kl"] = distances.detach().sum()
                token_weights = self._spread([shares[i] for i in positions], batch.segments, logp)
                total = (token_losses * token_weights).sum()
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            drawn = None if loss_options.kind in OFF_POLICY else sampled
            self._count(totals, together, total, entropy, counts, logp.detach(), drawn)
        for batch in self._fillers(stream.sequences, wanted, division, len(plans)):
            with Packed(self.model, active=self.packed):
                (self._logprobs(batch)[0].sum() * 0.0).backward()  # type: ignore[no-untyped-call]

    def _plans(self, sequences: Sequence[TrainSequence], positions: Sequence[int]) -> list[list[int]]:
        """The sequences at these positions in micro-batches, as lists of positions."""
        chosen = [sequences[i] for i in positions]
        together = plan(chosen, self.config.optimizer.micro_tokens, packed=self.packed)
        return [[positions[place] for place in places] for places in together]

    def _fillers(
        self, sequences: Sequence[TrainSequence], wanted: Sequence[int], division: Sequence[int], done: int
    ) -> Iterator[Micro]:
        """Passes that change nothing, where weights are in parts: all processes must make as many, since each needs
        the others' parts. ``done``: passes that this one has made."""
        if self._sharded is None or not wanted:
            return
        shares = ([i for i in wanted if division[i] == rank] for rank in range(self._world.size))
        most = max(len(self._plans(sequences, share)) for share in shares)
        shortest = min(wanted, key=lambda i: len(sequences[i]))
        for _ in range(most - done):
            yield micro(sequences, [shortest], self.device, packed=self.packed)

    def _logprobs(self, batch: Micro) -> tuple[torch.Tensor, torch.Tensor]:
        """``packing.logprobs`` of the model."""
        chunk = self.config.optimizer.chunk
        return self._sharded.logprobs(batch, chunk) if self._sharded else logprobs(self.model, batch, chunk)

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
    def _old(
        self, sequences: Sequence[TrainSequence], division: Sequence[int], totals: Totals
    ) -> list[torch.Tensor]:
        """Log-probabilities before the first of several updates: of each of this process's sequences, shape (its
        tokens,)."""
        before: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
        plans = self._plans(sequences, [i for i, rank in enumerate(division) if rank == self._world.rank])
        for positions in plans:
            batch = micro(sequences, positions, self.device, packed=self.packed)
            with Packed(self.model, active=self.packed):
                logp, _ = self._logprobs(batch)
            lengths = [len(sequences[i].tokens) for i in positions]
            for position, part in zip(positions, torch.split(logp, lengths), strict=True):
                before[position] = part
            totals.passed += sum(len(sequences[i]) for i in positions)
        for batch in self._fillers(sequences, range(len(sequences)), division, len(plans)):
            with Packed(self.model, active=self.packed):
                self._logprobs(batch)
        return before

    def _distances(
        self, batch: Micro, sequences: Sequence[TrainSequence], options: Loss
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What ``_logprobs`` gives, and how far the distribution that each token came of is from the reference's, shape
        (T,)."""
        scores, ids, ours = top_logprobs(self.model, batch, self.config.optimizer.chunk, options.top)
        theirs = self._reference(batch, sequences, ids)
        whole = ids.shape[1] == self.model.config.get_text_config().vocab_size
        return scores, loss.divergence(ours, theirs, options.alpha, whole=whole)

    @torch.no_grad()
    def _reference(
        self, batch: Micro, sequences: Sequence[TrainSequence], ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The reference's log-probabilities of a batch's tokens, which are those of these sequences, shape (T,); of
        ``ids`` in their places, shape (T, count)."""
        with self._unadapted() as model:
            if all(sequence.reference is None for sequence in sequences):
                return self._scored(model, batch, ids)
            shown = [replace(s, prompt=s.prompt if s.reference is None else s.reference) for s in sequences]
            wanted = None if ids is None else torch.split(ids, [len(s.tokens) for s in shown])
            scored: list[torch.Tensor] = [torch.empty(0)] * len(shown)
            for places in self._plans(shown, range(len(shown))):
                longer = micro(shown, places, self.device, packed=self.packed)
                of_these = None if wanted is None else torch.cat([wanted[i] for i in places])
                theirs = self._scored(model, longer, of_these)
                parts = torch.split(theirs, [len(shown[i].tokens) for i in places])
                for place, part in zip(places, parts, strict=True):
                    scored[place] = part
            return torch.cat(scored)

    def _scored(self, model: Any, batch: Micro, ids: torch.Tensor | None) -> torch.Tensor:
        chunk = self.config.optimizer.chunk
        with Packed(model, active=self.packed):
            return (
                logprobs(model, batch, chunk)[0] if ids is None else given_logprobs(model, batch, chunk, ids)
            )

    def referred(self, sequences: Sequence[TrainSequence]) -> list[float]:
        """The reference's log-probability of each sequence's tokens together, in nats; each process scores its share.
        All processes have to call it."""
        division = owners([len(s) for s in sequences], self._world.size)
        mine = [i for i, rank in enumerate(division) if rank == self._world.rank]
        scored: dict[int, float] = {}
        for positions in self._plans(sequences, mine):
            together = [sequences[i] for i in positions]
            logp = self._reference(micro(sequences, positions, self.device, packed=self.packed), together)
            parts = torch.split(logp, [len(s.tokens) for s in together])
            scored |= {i: float(part.sum()) for i, part in zip(positions, parts, strict=True)}
        everywhere = {i: value for share in self._world.gather(scored) for i, value in share.items()}
        return [everywhere[i] for i in range(len(sequences))]

    @contextlib.contextmanager
    def _unadapted(self) -> Iterator[Any]:
        if self.reference is not None:
            yield self.reference
            return
        with self.model.disable_adapter():
            yield self.model

    def _measured(self, totals: Totals, seconds: float) -> dict[str, float]:
        """Figures of an update, of all processes together; means are over the tokens that were trained on."""
        names = ("trained_tokens", "passed_tokens", "work")
        everywhere = self._world.added(
            {
                **dict(zip(names, (float(totals.tokens), float(totals.passed), totals.work), strict=True)),
                **{f"sum {name}": float(value) for name, value in totals.sums.items()},
            }
        )
        measured = {**{name: everywhere[name] for name in names}, "seconds_train": seconds}
        tokens = everywhere["trained_tokens"]
        if not tokens:
            return measured
        sums = {n.removeprefix("sum "): value for n, value in everywhere.items() if n.startswith("sum ")}
        measured |= {shown: sums[name] / tokens for name, shown in MEANS.items() if name in sums}
        measured |= {name: total / tokens for name, total in sums.items() if name.startswith(OWN)}
        if "loss" in sums:
            updates = self.config.optimizer.epochs * self.config.optimizer.minibatches
            measured["loss"] = sums["loss"] / max(1, updates)
        gaps = self._world.gather(None if totals.largest_gap is None else float(totals.largest_gap))
        if largest := [gap for gap in gaps if gap is not None]:
            measured["mismatch_max"] = max(largest)
        return measured


def _cosine(norms: Sequence[torch.Tensor], total: float) -> dict[str, float]:
    """Cosine between two streams' gradients, of the norms of both and of their sum; in [-1, 1]."""
    if len(norms) != 2 or not all(float(n) for n in norms):
        return {}
    one, other = (float(n) for n in norms)
    return {"stream_cosine": max(-1.0, min(1.0, (total**2 - one**2 - other**2) / (2 * one * other)))}


def rate(step: int, config: Config) -> float:
    """Share of the peak learning rate at a step, counted from 0."""
    options = config.optimizer
    if step < options.warmup:
        return (step + 1) / options.warmup
    end = options.decay_steps or config.steps
    done = min(1.0, (step - options.warmup) / max(1, end - options.warmup))
    if options.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if options.schedule == "linear" else 1.0
