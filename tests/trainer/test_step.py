"""One update: what must not matter (how it is cut up), what must (λ, masters), and what must not hurt (NaN)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import request
from made import bandit, make_bandit
from test_packing import SIZES, items, make_model, one_by_one

from cipo_eval.errors import MissingError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Failure
from cipo_trainer.config import Config
from cipo_trainer.dropout import training
from cipo_trainer.masters import Masters
from cipo_trainer.packing import TrainSequence
from cipo_trainer.presets import build
from cipo_trainer.rollout import roll_out
from cipo_trainer.step import Learner, LossStream


def config(**values: Any) -> Config:
    return build({"model": "x", "rollout": {"max_tokens": 16}, "algorithm": "dr_grpo", **values})


def graded(sequences: Sequence[TrainSequence], seed: int = 0) -> list[TrainSequence]:
    generator = torch.Generator().manual_seed(seed)
    return [
        TrainSequence(
            prompt=item.prompt,
            tokens=item.tokens,
            advantage=float(torch.randn(1, generator=generator)),
            sampled=(-1.0 - torch.rand(len(item.tokens), generator=generator)).tolist(),
        )
        for item in sequences
    ]


def gradient(
    streams: Sequence[LossStream], family: str = "llama", **values: Any
) -> tuple[list[torch.Tensor], dict[str, float]]:
    """What one update's gradient is, and what it measures; the weights stay."""
    model = make_model(family)
    learner = Learner(model, config(**values), copy.deepcopy(model).requires_grad_(False))
    kept: list[torch.Tensor] = []
    learner.masters.step = lambda lr, scale: kept.extend(g.clone() for g in learner.masters.gradients)  # type: ignore[method-assign]
    measured = learner.update(streams, step=0, lr=1.0)
    return kept, measured


def close(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor], atol: float = 1e-10) -> bool:
    return len(one) == len(other) > 0 and all(
        torch.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True)
    )


BASE, CORRECTIONS = graded(items(*SIZES)), graded(items((4, 3), (6, 8), seed=9), seed=5)


@pytest.mark.parametrize("algorithm", ["grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo"])
def test_micro_batches_and_order_change_nothing(algorithm: str) -> None:
    """Gradient accumulation is a matter of memory, not of results."""
    whole, measured = gradient([LossStream(name="base", sequences=BASE)], algorithm=algorithm)
    for most, sequences in ((1, BASE), (25, BASE), (10_000, BASE[::-1])):
        found, again = gradient(
            [LossStream(name="base", sequences=sequences)],
            algorithm=algorithm,
            optimizer={"micro_tokens": most, "chunk": 5},
        )
        assert close(whole, found)
        for name in ("loss", "entropy", "grad_norm", "mismatch", "mismatch_kl", "mismatch_max"):
            assert again[name] == pytest.approx(measured[name])


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("aggregate", ["sequence_mean", "token_mean", "constant"])
def test_the_joint_gradient_is_that_of_the_base_and_lambda_times_the_corrections(
    weight: float, aggregate: str
) -> None:
    """Each stream with its own normaliser: J = J(base) + λ·J(corrections)."""
    loss = {"loss": {"aggregate": aggregate}}
    base, corrections = (
        LossStream(name="base", sequences=BASE),
        LossStream(name="correction", sequences=CORRECTIONS),
    )
    scaled = LossStream(name="correction", sequences=CORRECTIONS, weight=weight)
    one, alone = gradient([base], **loss)
    two, _ = gradient([corrections], **loss)
    both, joint = gradient([base, scaled], **loss)
    assert close(both, [a + weight * b for a, b in zip(one, two, strict=True)])
    assert joint["grad_norm_base"] == pytest.approx(alone["grad_norm"])
    assert joint["grad_norm_correction"] == pytest.approx(weight * float(torch.nn.utils.get_total_norm(two)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_a_stream_needs_no_second_copy_of_its_gradients(dtype: torch.dtype) -> None:
    """Tensor by tensor, from copies in the host's memory: the norm of the difference, also where a parameter had no
    gradient before."""
    model = make_model("llama").to(dtype)
    masters = Masters(model, config().optimizer)
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(p.shape, generator=generator) for p in masters.parameters]
    second = [torch.randn(p.shape, generator=generator) for p in masters.parameters]
    for parameter, gradient in zip(masters.parameters[1:], first[1:], strict=True):
        parameter.grad = gradient.clone()
    kept = masters.kept()
    assert kept[0] is None
    masters.parameters[0].grad = torch.zeros_like(second[0])
    for parameter, gradient in zip(masters.parameters, second, strict=True):
        assert parameter.grad is not None
        parameter.grad += gradient
    assert float(masters.grown(kept, None)) == pytest.approx(
        float(torch.nn.utils.get_total_norm(second)), rel=1e-5
    )


def test_lambda_0_is_the_base_bit_for_bit() -> None:
    base = LossStream(name="base", sequences=BASE)
    one, _ = gradient([base])
    both, _ = gradient([base, LossStream(name="correction", sequences=CORRECTIONS, weight=0.0)])
    assert all(torch.equal(a, b) for a, b in zip(one, both, strict=True))


def test_sequences_without_advantage_count_but_are_not_computed() -> None:
    zeros = [
        TrainSequence(prompt=i.prompt, tokens=i.tokens, advantage=0.0, sampled=i.sampled) for i in CORRECTIONS
    ]
    without, measured = gradient([LossStream(name="base", sequences=[*BASE, *zeros])])
    alone, _ = gradient([LossStream(name="base", sequences=BASE)])
    share = len(BASE) / (len(BASE) + len(zeros))
    assert close(without, [share * g for g in alone], atol=1e-6)  # norms are computed in float32
    assert measured["trained_tokens"] == sum(len(i.tokens) for i in BASE)
    none, nothing = gradient([LossStream(name="base", sequences=zeros)])
    assert none == []
    rested = Learner(make_model("llama").to(torch.bfloat16), config())
    rested.update([LossStream(name="base", sequences=BASE)], step=0, lr=1e-3)
    before = [p.clone() for p in rested.masters.parameters]
    assert rested.update([LossStream(name="base", sequences=zeros)], step=1, lr=1e-3)["updates"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, rested.masters.parameters, strict=True))
    assert nothing["updates"] == nothing["skipped"] == 0
    _, pulled = gradient([LossStream(name="base", sequences=zeros)], loss={"beta": 0.1})
    assert pulled["trained_tokens"] == sum(len(i.tokens) for i in zeros)


@pytest.mark.parametrize("what", ["minibatches", "epochs"])
def test_several_updates_take_their_ratio_to_the_policy_before_the_first(what: str) -> None:
    """At the first update the ratio is 1 and nothing is clipped; later ones move away from it."""
    model = make_model("llama").float()
    options = {"optimizer": {what: 4, "lr": 0.05}, "loss": {"clip_low": 0.01, "clip_high": 0.01}}
    learner = Learner(model, config(**options))
    measured = learner.update([LossStream(name="base", sequences=BASE)], step=0, lr=0.05)
    assert measured["updates"] == 4
    assert measured["clip_low"] + measured["clip_high"] > 0
    once = Learner(make_model("llama").float(), config(loss={"clip_low": 0.01, "clip_high": 0.01}))
    measured = once.update([LossStream(name="base", sequences=BASE)], step=0, lr=0.05)
    assert measured["clip_low"] + measured["clip_high"] == 0


def test_minibatches_are_a_partition() -> None:
    learner = Learner(make_model("llama"), config(optimizer={"minibatches": 2}))
    parts = [learner._share(LossStream(name="base", sequences=BASE), 3, 0, part) for part in range(2)]
    assert sorted([*parts[0], *parts[1]]) == list(range(len(BASE)))
    assert parts[0] == learner._share(LossStream(name="base", sequences=BASE), 3, 0, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_changes_nothing(value: float) -> None:
    """NaN in one sequence of many skips the update; the next one goes as if it had not been."""
    model, other = make_model("llama").float(), make_model("llama").float()
    learner, calm = Learner(model, config()), Learner(other, config())
    bad = [*BASE, TrainSequence(prompt=[5], tokens=[6], advantage=value, sampled=[-1.0])]
    before = [p.detach().clone() for p in model.parameters()]
    measured = learner.update([LossStream(name="base", sequences=bad)], step=0, lr=1e-2)
    assert measured["skipped"] == 1
    assert measured["updates"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for each in (learner, calm):
        assert each.update([LossStream(name="base", sequences=BASE)], step=1, lr=1e-2)["updates"] == 1
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_masters_keep_what_bfloat16_cannot_hold() -> None:
    """A hundred updates of a tenth of bfloat16's resolution each: the weights move only where masters are float32."""
    options = config(optimizer={"lr": 1e-5}).optimizer
    weight = torch.nn.Parameter(torch.full((4, 4), 1.0, dtype=torch.bfloat16))
    layer = torch.nn.Module()
    layer.register_parameter("weight", weight)
    masters = Masters(layer, options)
    for _ in range(2000):
        (weight.float().sum()).backward()  # type: ignore[no-untyped-call]
        masters.step(1e-5, 1.0)
        masters.clear()
    assert masters.parameters[0].dtype == torch.float32
    assert masters.parameters[0][0, 0].item() == pytest.approx(1 - 0.02, rel=1e-3)
    assert weight[0, 0].item() == pytest.approx(0.98, abs=0.004)
    assert weight.dtype == torch.bfloat16


def test_gradients_in_bfloat16_add_up_in_float32() -> None:
    """1 + 256 small parts: in bfloat16 the sum would stay where it was."""
    weight = torch.nn.Parameter(torch.ones(1, 1, dtype=torch.bfloat16))
    layer = torch.nn.Module()
    layer.register_parameter("weight", weight)
    masters = Masters(layer, config().optimizer)
    for scale in [1.0] + [1 / 512] * 256:
        (weight * scale).sum().backward()  # type: ignore[no-untyped-call]
    assert masters.gradients[0].item() == pytest.approx(1.5)


def test_masters_state_gives_the_same_next_update() -> None:
    made = [make_model("llama").to(torch.bfloat16) for _ in range(2)]
    one, other = (Learner(model, config()) for model in made)
    one.update([LossStream(name="base", sequences=BASE)], step=0, lr=1e-3)
    made[1].load_state_dict(made[0].state_dict())
    other.masters.load(copy.deepcopy(one.masters.state()))
    for learner in (one, other):
        learner.update([LossStream(name="base", sequences=BASE[:3])], step=1, lr=1e-3)
    assert all(
        torch.equal(a, b) for a, b in zip(one.masters.parameters, other.masters.parameters, strict=True)
    )


def test_lora_trains_adapters_only_and_its_base_is_the_reference(tmp_path: Path) -> None:
    from cipo_trainer.policy import Policy

    make_bandit(tmp_path / "model")
    asked = bandit(tmp_path, "grpo", lora={"rank": 4}, loss={"beta": 0.5})
    policy = Policy(asked)
    learner = Learner(policy.model, asked, policy.reference)
    assert policy.reference is None
    frozen = {n: p.detach().clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    sequence = [TrainSequence(prompt=[12], tokens=[5], advantage=1.0, sampled=[-2.0])]
    first = learner.update([LossStream(name="base", sequences=sequence)], step=0, lr=0.01)
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    second = learner.update([LossStream(name="base", sequences=sequence)], step=1, lr=0.01)
    assert second["kl"] > 0
    assert second["logp"] > first["logp"]
    for name, parameter in policy.model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name])


DROPOUTS = {
    "gpt2": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    "llama": {"attention_dropout": 0.3},
    "opt": {
        "dropout": 0.3,
        "attention_dropout": 0.3,
        "layerdrop": 0.5,
        "ffn_dim": 32,
        "word_embed_proj_dim": 16,
    },
    "phi": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attention_dropout": 0.3},
}
"""Families that keep their rates in modules, as attributes for functional dropout, or in the configuration."""


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", DROPOUTS)
def test_at_learning_rate_0_a_model_with_dropout_is_its_own_reference(family: str, adapted: bool) -> None:
    model = make_model(family, **DROPOUTS[family])
    reference = None if adapted else copy.deepcopy(model).requires_grad_(False)
    if adapted:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        ).eval()
        for name, parameter in model.named_parameters():  # adapters that do something
            torch.nn.init.normal_(parameter, std=0.1) if "lora_B" in name else None
    kept = model.config.to_dict()
    sequences = items(*SIZES)
    with torch.no_grad():
        sampled = [logprobs.tolist() for logprobs in one_by_one(model, sequences)]
    sequences = [replace(item, sampled=own) for item, own in zip(sequences, sampled, strict=True)]
    learner = Learner(model, config(loss={"beta": 0.04}, optimizer={"checkpointing": False}), reference)
    found = learner.update([LossStream(name="base", sequences=sequences)], step=0, lr=0.0)
    assert found["mismatch"] == pytest.approx(0.0, abs=1e-5)
    if not adapted:  # with adapters, the reference is the base without them
        assert found["kl"] == pytest.approx(0.0, abs=1e-5)
    assert found["grad_norm"] > 0
    assert model.config.to_dict() == kept
    assert not model.training


def test_the_dropout_of_adapters_is_asked_for_and_stays(tmp_path: Path) -> None:
    from cipo_trainer.policy import Policy

    make_bandit(tmp_path / "model")
    policy = Policy(bandit(tmp_path, "grpo", lora={"rank": 4, "dropout": 0.5}))
    with training(policy.model):
        rates = {m.p for n, m in policy.model.named_modules() if "lora_dropout.default" in n}
        assert rates == {0.5}


def test_a_sample_that_the_engine_cannot_get_ends_the_training() -> None:
    """A step without it would train on another mixture."""

    class Giving:
        def generate(self, requests: Any) -> Any:
            return iter([(requests[0], 0, Failure(why="vLLM's finish reason abort (2 tries)"))])

    with pytest.raises(MissingError, match="cannot roll out: vLLM's finish reason abort"):
        roll_out(Giving(), None, "math", [request("q")], interrupts=Interrupts())  # type: ignore[arg-type]
