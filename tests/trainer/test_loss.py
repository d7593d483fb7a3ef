"""The policy loss against a reference that is written with loops, in float64; and what must hold of it by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from cipo_trainer import loss as losses
from cipo_trainer.config import Loss

KINDS, RATIOS = ("clip", "cispo", "reinforce"), ("token", "sequence")
AGGREGATES, ESTIMATORS = ("sequence_mean", "token_mean", "constant"), ("k1", "k2", "k3")
MOST = 7
"""Most new tokens."""


class Batch:
    """Random sequences of several lengths, flat, with everything that a loss may need."""

    def __init__(self, seed: int = 0, lengths: Sequence[int] = (3, 1, 5, 2), spread: float = 0.4) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.lengths = list(lengths)
        total = sum(lengths)
        self.segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        self.logp = -draw(total).abs() - 0.1
        self.old = self.logp + spread * draw(total)
        self.reference = self.logp + spread * draw(total)
        self.sampled = self.logp + spread * draw(total)
        self.advantages = draw(len(lengths))

    def loss(self, config: Loss, logp: torch.Tensor, *, old: bool = True) -> torch.Tensor:
        each, _ = losses.policy_loss(
            logp,
            self.advantages[self.segments],
            self.segments,
            config,
            old=self.old if old else None,
            reference=self.reference,
            sampled=self.sampled,
        )
        share = torch.tensor(losses.weights(self.lengths, config, MOST), dtype=torch.float64)
        return (each * share[self.segments]).sum()


def by_loops(batch: Batch, config: Loss, logp: Sequence[float], old: Sequence[float]) -> float:
    """The same from the papers' formulas, one number at a time. A stop-gradient is what ``frozen`` values are for: they
    are those of ``batch.logp``, whatever ``logp`` is."""
    total, at = 0.0, 0
    for sequence, length in enumerate(batch.lengths):
        places = range(at, at + length)
        advantage = float(batch.advantages[sequence])
        frozen = [float(batch.logp[i]) - old[i] for i in places]
        live = [logp[i] - old[i] for i in places]
        if config.ratio == "sequence":
            frozen, live = [sum(frozen) / length] * length, [sum(live) / length] * length
        summed = 0.0
        for number, i in enumerate(places):
            ratio = math.exp(live[number])
            low, high = 1 - config.clip_low, 1 + config.clip_high
            if config.kind == "clip":
                value = -min(ratio * advantage, min(max(ratio, low), high) * advantage)
            elif config.kind == "cispo":
                value = -min(max(math.exp(frozen[number]), low), high) * advantage * logp[i]
            else:
                value = -advantage * logp[i]
            if config.importance_cap is not None:
                value *= min(math.exp(old[i] - float(batch.sampled[i])), config.importance_cap)
            if config.beta:
                x = float(batch.reference[i]) - logp[i]
                value += config.beta * {"k1": -x, "k2": x * x / 2, "k3": math.exp(x) - 1 - x}[config.kl]
            summed += value
        if config.aggregate == "sequence_mean":
            total += summed / length / len(batch.lengths)
        elif config.aggregate == "token_mean":
            total += summed / sum(batch.lengths)
        else:
            total += summed / (config.constant or MOST) / len(batch.lengths)
        at += length
    return total


COMBINATIONS = [
    Loss(kind=kind, ratio=ratio, aggregate=aggregate, kl=kl, beta=beta, importance_cap=cap, clip_high=0.28)
    for kind, ratio, aggregate, (kl, beta), cap in itertools.product(
        KINDS, RATIOS, AGGREGATES, [("k1", 0.1), ("k2", 0.1), ("k3", 0.1), ("k3", 0.0)], [None, 1.2]
    )
]


def name(config: Loss) -> str:
    parts = [
        config.kind,
        config.ratio,
        config.aggregate,
        config.kl if config.beta else "",
        config.importance_cap,
    ]
    return "-".join(str(part) for part in parts if part)


@pytest.mark.parametrize("config", COMBINATIONS, ids=name)
def test_values_and_gradients_are_those_of_loops(config: Loss) -> None:
    batch = Batch()
    logp = batch.logp.clone().requires_grad_()
    loss = batch.loss(config, logp)
    loss.backward()
    numbers, old = batch.logp.tolist(), batch.old.tolist()
    assert float(loss.detach()) == pytest.approx(by_loops(batch, config, numbers, old), abs=1e-12)
    step = 1e-6
    for i in range(len(numbers)):
        up, down = ([*numbers[:i], numbers[i] + s, *numbers[i + 1 :]] for s in (step, -step))
        slope = (by_loops(batch, config, up, old) - by_loops(batch, config, down, old)) / (2 * step)
        assert logp.grad is not None
        assert float(logp.grad[i]) == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("config", [c for c in COMBINATIONS if c.kind != "cispo"][::5], ids=name)
def test_gradcheck(config: Loss) -> None:
    """cispo has a stop-gradient, which finite differences do not see."""
    batch = Batch(seed=3)
    logp = batch.logp.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: batch.loss(config, x), (logp,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_on_policy_every_kind_has_the_gradient_of_reinforce(kind: str, ratio: str) -> None:
    """Without an old policy the ratio is 1, the loss is minus the advantage, its gradient that of -A log π."""
    batch = Batch(seed=1)
    config = Loss.model_validate({"kind": kind, "ratio": ratio, "aggregate": "token_mean"})
    logp, plain = batch.logp.clone().requires_grad_(), batch.logp.clone().requires_grad_()
    loss = batch.loss(config, logp, old=False)
    loss.backward()
    each = batch.advantages[batch.segments] / len(logp)
    (-each * plain).sum().backward()
    assert logp.grad is not None
    assert plain.grad is not None
    if ratio == "token" or kind == "reinforce":
        assert torch.allclose(logp.grad, plain.grad, atol=1e-15)
    if kind == "clip":
        assert float(loss.detach()) == pytest.approx(float(-each.sum()))
    # of a sequence's ratio, tokens share the gradient evenly: the sum is the same
    sums = [x.new_zeros(len(batch.lengths)).index_add(0, batch.segments, x) for x in (logp.grad, plain.grad)]
    assert torch.allclose(*sums, atol=1e-15)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "flows"),
    [
        (1.1, 1.0, -1.1, True),
        (1.3, 1.0, -1.2, False),  # above the range, and to go further up
        (0.7, 1.0, -0.7, True),  # below it, and to come back
        (0.9, -1.0, 0.9, True),
        (0.7, -1.0, 0.8, False),  # below it, and to go further down
        (1.3, -1.0, 1.3, True),
        (0.5, -2.0, 1.6, False),
    ],
)
def test_clip_by_hand(ratio: float, advantage: float, loss: float, flows: bool) -> None:
    """Both signs of the advantage, on both sides of the range [0.8, 1.2]."""
    logp = torch.tensor([math.log(ratio) - 1.0], dtype=torch.float64, requires_grad=True)
    old, segments = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([0])
    each, counts = losses.policy_loss(logp, torch.tensor([advantage]), segments, Loss(), old=old)
    each.sum().backward()  # type: ignore[no-untyped-call]
    assert float(each.detach()) == pytest.approx(loss)
    assert logp.grad is not None
    assert bool(logp.grad[0]) is flows
    assert int(counts["clip_low"] + counts["clip_high"]) == (not flows)


def test_cispo_keeps_the_gradient_of_what_it_clips() -> None:
    """The weight is bounded, the token still learns: arXiv:2506.13585, section 3.1."""
    logp = torch.tensor([math.log(3.0)], dtype=torch.float64, requires_grad=True)
    config = Loss(kind="cispo", clip_low=1.0, clip_high=0.28)
    each, _ = losses.policy_loss(
        logp, torch.tensor([1.0]), torch.tensor([0]), config, old=torch.zeros(1, dtype=torch.float64)
    )
    each.sum().backward()  # type: ignore[no-untyped-call]
    assert logp.grad is not None
    assert float(logp.grad[0]) == pytest.approx(-1.28)


def test_gspo_by_hand() -> None:
    """Ratios 2 and 1/2 of two tokens: their geometric mean is 1, so nothing is clipped."""
    logp = torch.tensor([math.log(2.0), -math.log(2.0)], dtype=torch.float64)
    zeros, segments = torch.zeros(2, dtype=torch.float64), torch.tensor([0, 0])
    each, counts = losses.policy_loss(logp, torch.ones(2), segments, Loss(ratio="sequence"), old=zeros)
    assert each.tolist() == pytest.approx([-1.0, -1.0])
    assert int(counts["clip_high"]) == 0
    apart, clipped = losses.policy_loss(logp, torch.ones(2), segments, Loss(), old=zeros)
    assert apart.tolist() == pytest.approx([-1.2, -0.5])
    assert int(clipped["clip_high"]) == 1


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_partition_and_order_change_nothing(aggregate: str) -> None:
    """A batch's loss is the sum over any parts of it, in any order, with the whole batch's weights."""
    config = Loss.model_validate({"aggregate": aggregate, "beta": 0.1, "ratio": "sequence"})
    whole = Batch(seed=2, lengths=(4, 1, 2, 6, 3))
    share = losses.weights(whole.lengths, config, MOST)
    total = 0.0
    for places in ([3], [0, 4], [2, 1]):
        keep = [i for s in places for i in range(len(whole.segments)) if int(whole.segments[i]) == s]
        local = torch.tensor([places.index(int(whole.segments[i])) for i in keep])
        each, _ = losses.policy_loss(
            whole.logp[keep],
            whole.advantages[torch.tensor(places)][local],
            local,
            config,
            old=whole.old[keep],
            reference=whole.reference[keep],
        )
        total += float((each * torch.tensor([share[s] for s in places], dtype=torch.float64)[local]).sum())
    assert total == pytest.approx(float(whole.loss(config, whole.logp)), abs=1e-12)


def test_weights_by_hand() -> None:
    lengths = [2, 4]
    assert losses.weights(lengths, Loss(aggregate="sequence_mean"), 10) == [1 / 4, 1 / 8]
    assert losses.weights(lengths, Loss(aggregate="token_mean"), 10) == [1 / 6, 1 / 6]
    assert losses.weights(lengths, Loss(aggregate="constant"), 10) == [1 / 20, 1 / 20]
    assert losses.weights(lengths, Loss(aggregate="constant", constant=1), 10, 0.5) == [1 / 4, 1 / 4]
    assert losses.weights([], Loss(), 10) == []


def test_estimators_have_the_expectations_that_they_should() -> None:
    """Over an enumerated vocabulary: k1 and k3 have the divergence as their mean, k3 is never negative; k2's gradient
    is in expectation the divergence's (its mean is not)."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(11, generator=generator, dtype=torch.float64).log_softmax(-1)
    policy = scores.log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    each = {kind: losses.kl(policy, reference, kind) for kind in ESTIMATORS}
    mean = {kind: float((policy.exp() * values).sum().detach()) for kind, values in each.items()}
    assert mean["k1"] == pytest.approx(float(exact.detach()))
    assert mean["k3"] == pytest.approx(float(exact.detach()))
    assert bool((each["k3"] >= 0).all())
    assert mean["k2"] != pytest.approx(float(exact.detach()), rel=0.01)
    (true,) = torch.autograd.grad(exact, scores, retain_graph=True)
    (found,) = torch.autograd.grad((policy.exp().detach() * each["k2"]).sum(), scores)
    assert torch.allclose(true, found)


def test_truncated_importance_weights_have_no_gradient_and_a_bound() -> None:
    batch = Batch(seed=4)
    logp = batch.logp.clone().requires_grad_()
    config = Loss(kind="reinforce", aggregate="constant", constant=1.0, importance_cap=1.5)
    batch.loss(config, logp).backward()
    weight = (batch.old - batch.sampled).exp().clamp(max=1.5)
    assert logp.grad is not None
    assert torch.allclose(logp.grad, -weight * batch.advantages[batch.segments] / len(batch.lengths))
    assert float(weight.max()) == 1.5
