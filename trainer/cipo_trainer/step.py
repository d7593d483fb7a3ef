"""One optimizer step: the streams' losses, their gradients, one update.

The joint objective J = J(base) + λ·J(corrections) needs no second pass: λ and each stream's own normaliser are in its
tokens' weights. Sequences whose advantage is 0 give no gradient; where there is no KL term either, they do not go
through the model, but count in the normalisers. A step whose loss or gradient is not finite changes nothing.
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
from cipo_trainer.config import Config
from cipo_trainer.dropout import training
from cipo_trainer.loss import policy_loss, weights
from cipo_trainer.masters import Masters, norm
from cipo_trainer.packing import Item, Packed, can_pack, logprobs, micro, plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Sequences with a normaliser of their own."""

    name: str
    items: Sequence[Item]
    scale: float = 1.0
    """λ; 0: they have no part in the update."""


@dataclass(slots=True)
class Totals:
    """Sums over the tokens of an update, on the device: nothing waits for it before the end."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    most: torch.Tensor | None = None
    tokens: int = 0
    work: float = 0.0
    """Operations of forward and backward passes, without any that are repeated."""
    passed: int = 0
    """Tokens that went through the model, prompts included."""

    def add(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value


class Learner:
    """Owns the model's gradients. ``reference``: a frozen model, or None where the policy's own adapters can be off."""

    def __init__(self, model: Any, config: Config, reference: Any = None) -> None:
        self.model, self.config, self.reference = model, config, reference
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

    def update(self, streams: Sequence[Stream], *, step: int, lr: float) -> dict[str, float]:
        """Trains on the streams; what was measured on the way. ``step`` chooses the mini-batches."""
        started = time.perf_counter()
        options = self.config.optimizer
        streams = [s for s in streams if s.items and s.scale]
        totals, found = Totals(), {"updates": 0.0, "skipped": 0.0}
        several = options.minibatches * options.epochs > 1
        old = {s.name: self._old(s.items, totals) if several else None for s in streams}
        with training(self.model):
            for epoch in range(options.epochs):
                for part in range(options.minibatches):
                    chosen = {s.name: self._share(s, step, epoch, part) for s in streams}
                    before = totals.tokens
                    norms = self._gradients(streams, chosen, old, totals)
                    total = norm(self.masters.gradients)
                    found |= {f"grad_norm_{name}": float(value) for name, value in norms.items()}
                    found["grad_norm"] = float(total)
                    loss = totals.sums.get("loss")
                    if totals.tokens == before:
                        pass  # no sequence has an advantage: not even the optimizer's momentum moves
                    elif (
                        math.isfinite(found["grad_norm"]) and loss is not None and bool(torch.isfinite(loss))
                    ):
                        self.masters.step(lr, min(1.0, options.max_grad_norm / (found["grad_norm"] + 1e-6)))
                        found["updates"] += 1
                    else:
                        found["skipped"] += 1
                        totals.sums.pop("loss", None)
                    self.masters.clear()
        return {**found, **self._measured(totals, time.perf_counter() - started)}

    def _share(self, stream: Stream, step: int, epoch: int, part: int) -> list[int]:
        """Positions of the sequences in a mini-batch: all, or every n-th of an order that depends on the seed."""
        count = self.config.optimizer.minibatches
        if count == 1:
            return list(range(len(stream.items)))
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, step, epoch, stream.name))
        return sorted(torch.randperm(len(stream.items), generator=generator).tolist()[part::count])

    def _gradients(
        self,
        streams: Sequence[Stream],
        chosen: dict[str, list[int]],
        old: dict[str, list[torch.Tensor] | None],
        totals: Totals,
    ) -> dict[str, torch.Tensor]:
        """Adds up gradients; the norm of each stream's own."""
        norms: dict[str, torch.Tensor] = {}
        for number, stream in enumerate(streams):
            before: list[torch.Tensor] = []
            apart = self.config.optimizer.stream_norms and len(streams) > 1
            if apart and number:
                before = [g.clone() for g in self.masters.gradients]
            items = [stream.items[i] for i in chosen[stream.name]]
            lengths = [len(item.tokens) for item in items]
            share = weights(lengths, self.config.loss, self.config.rollout.max_tokens, stream.scale)
            known = old[stream.name]
            past = None if known is None else [known[i] for i in chosen[stream.name]]
            self._accumulate(items, share, past, totals)
            if apart:
                now = self.masters.gradients
                own = now if not before else [a - b for a, b in zip(now, before, strict=True)]
                norms[stream.name] = norm(own)
        return norms

    def _accumulate(
        self,
        items: Sequence[Item],
        share: Sequence[float],
        old: Sequence[torch.Tensor] | None,
        totals: Totals,
    ) -> None:
        loss_options, options = self.config.loss, self.config.optimizer
        kept = [i for i, item in enumerate(items) if item.advantage or loss_options.beta]
        chosen = [items[i] for i in kept]
        for places in plan(chosen, options.micro_tokens, packed=self.packed):
            batch = micro(chosen, places, self.device, packed=self.packed)
            own = [chosen[i] for i in places]
            sampled = None
            if own[0].sampled is not None:
                sampled = torch.tensor([x for item in own for x in item.sampled or ()], device=self.device)
            reference = self._reference(batch) if loss_options.beta else None
            with Packed(self.model, active=self.packed):
                logp, entropy = logprobs(self.model, batch, options.chunk)
                before = None if old is None else torch.cat([old[kept[i]] for i in places])
                loss, counts = policy_loss(
                    logp,
                    self._spread([item.advantage for item in own], batch.segments, logp),
                    batch.segments,
                    loss_options,
                    old=before,
                    reference=reference,
                    sampled=sampled,
                )
                total = (loss * self._spread([share[kept[i]] for i in places], batch.segments, logp)).sum()
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._count(totals, own, total, entropy, counts, logp.detach(), sampled)

    def _spread(self, values: Sequence[float], segments: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[segments]

    def _count(
        self,
        totals: Totals,
        own: Sequence[Item],
        loss: torch.Tensor,
        entropy: torch.Tensor,
        counts: dict[str, torch.Tensor],
        logp: torch.Tensor,
        sampled: torch.Tensor | None,
    ) -> None:
        totals.add(loss=loss.detach(), entropy=entropy.sum(), logp=logp.sum(), **counts)
        if sampled is not None:
            gap = logp - sampled
            totals.add(gap=gap.abs().sum(), divergence=(gap.exp() - 1 - gap).sum())
            most = gap.abs().amax()
            totals.most = most if totals.most is None else torch.maximum(totals.most, most)
        totals.tokens += len(logp)
        passed = sum(map(len, own))
        totals.passed += passed
        backward = 2 if self.config.lora else 3  # weights that are frozen have no gradient
        squares = sum(len(item) ** 2 for item in own)
        totals.work += (
            2 * backward * (self._body * passed + self._head * len(logp)) + 6 * self._wide * squares
        )

    @torch.no_grad()
    def _old(self, items: Sequence[Item], totals: Totals) -> list[torch.Tensor]:
        """Log-probabilities before the first of several updates, by sequence."""
        found: list[torch.Tensor] = [torch.empty(0)] * len(items)
        options = self.config.optimizer
        for places in plan(items, options.micro_tokens, packed=self.packed):
            batch = micro(items, places, self.device, packed=self.packed)
            with Packed(self.model, active=self.packed):
                said, _ = logprobs(self.model, batch, options.chunk)
            for place, part in zip(
                places, torch.split(said, [len(items[i].tokens) for i in places]), strict=True
            ):
                found[place] = part
            totals.passed += sum(len(items[i]) for i in places)
        return found

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
        found = {
            "trained_tokens": float(totals.tokens),
            "passed_tokens": float(totals.passed),
            "work": totals.work,
        }
        found["seconds_train"] = seconds
        if not totals.tokens:
            return found
        names = {
            "gap": "mismatch",
            "divergence": "mismatch_kl",
            "logp": "logp",
            "entropy": "entropy",
            "kl": "kl",
        }
        sums = {name: float(value) for name, value in totals.sums.items()}
        found |= {names[name]: sums[name] / totals.tokens for name in names if name in sums}
        found |= {name: sums[name] / totals.tokens for name in ("clip_low", "clip_high")}
        if "loss" in sums:
            found["loss"] = sums["loss"] / max(
                1, self.config.optimizer.epochs * self.config.optimizer.minibatches
            )
        if totals.most is not None:
            found["mismatch_max"] = float(totals.most)
        return found
