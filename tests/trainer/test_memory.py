"""The plan of a training's memory: known shapes are the models', sums are what a training allocates, presets fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Commands
from test_step import graded
from torch.profiler import ProfilerActivity, profile

from cipo_eval.engines.core.fuse import fuse_norms
from cipo_eval.errors import UsageError
from cipo_eval.estimate.constants import constants
from cipo_eval.settings import read_yaml
from cipo_trainer.__main__ import main
from cipo_trainer.config import Config
from cipo_trainer.memory import Architecture, architecture_of, of_config, planned
from cipo_trainer.packing import TrainSequence
from cipo_trainer.presets import build, load
from cipo_trainer.sections import config_dir
from cipo_trainer.step import Learner, LossStream

KNOWN = {
    name: Architecture(**values) for name, values in read_yaml(config_dir() / "models" / "known.yaml").items()
}
TOLERANCE = 0.2
"""Between the plan's sum and what was allocated at most, both of a whole update on the CPU."""


def made(family: str, **changes: Any) -> tuple[Any, Architecture]:
    """A small model with random weights, and its shape as the planner reads it off its configuration."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
        **changes,
    }
    if family == "qwen2":
        del values["head_dim"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **values)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), of_config(
        config.to_dict(), "here"
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_parameters_are_counted_to_the_last(family: str, tied: bool) -> None:
    model, shape = made(family, tie_word_embeddings=tied)
    assert shape.parameters == sum(p.numel() for p in model.parameters())


def test_known_shapes_have_the_published_number_of_parameters() -> None:
    published = {f"Qwen/{shape.source}": shape.parameters for shape in constants().sizes.values()}
    published |= {
        f"{name}-Instruct": number for name, number in published.items() if name.startswith("Qwen/Qwen2.5")
    }
    published |= {
        "Qwen/Qwen3-4B-Instruct-2507": 4.022e9,
        "Qwen/Qwen2.5-Math-1.5B-Instruct": 1.544e9,
        "HuggingFaceTB/SmolLM2-135M-Instruct": 134.5e6,
        "ByteDance-Seed/Seed-Coder-8B-Instruct": 8.25e9,
    }
    for name, shape in KNOWN.items():
        assert shape.parameters == pytest.approx(published[name], rel=2e-3), name


def allocated(model: Any, config: Config, streams: list[LossStream]) -> tuple[int, int]:
    """Bytes that an update allocates at most beside what is there, once the optimizer has its moments; and theirs."""
    learner = Learner(model, config)

    def traced() -> list[int]:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            learner.update(streams, step=0, lr=1e-4)
        events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
        sizes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        total, totals = 0, [0]
        for _, size in sizes:
            totals.append(total := total + size)
        return totals

    left = traced()[-1]
    return max(traced()), left


@pytest.mark.parametrize(
    ("family", "shape", "options"),
    [
        ("llama", {}, {}),
        ("llama", {"num_hidden_layers": 6}, {"checkpointing": True}),
        pytest.param("llama", {"intermediate_size": 512}, {}, marks=pytest.mark.exhaustive),
        pytest.param("llama", {"vocab_size": 6000}, {"chunk": 256}, marks=pytest.mark.slow),
        pytest.param("qwen3", {"head_dim": 32}, {}, marks=pytest.mark.exhaustive),
        pytest.param("qwen2", {"num_hidden_layers": 8}, {"checkpointing": True}, marks=pytest.mark.slow),
    ],
)
def test_the_plan_is_what_a_training_allocates(
    family: str, shape: dict[str, Any], options: dict[str, Any]
) -> None:
    """Two micro-batches of 512 tokens, so that gradients are there beside the activations of the second."""
    model, architecture = made(family, **shape)
    config = build(
        {
            "model": "x",
            "algorithm": "dr_grpo",
            "rollout": {"max_tokens": 112},
            "optimizer": {"micro_tokens": 512, "chunk": 128, **options},
        }
    )
    if config.optimizer.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    fuse_norms(model)
    rows = [TrainSequence(prompt=[5] * 16, tokens=[7] * 112, advantage=1.0) for _ in range(8)]
    peak, left = allocated(model, config, [LossStream(name="base", sequences=graded(rows))])
    plan = planned_for(architecture, config)
    assert left == pytest.approx(plan.stays["moments of AdamW"], rel=0.02)
    assert peak == pytest.approx(sum(plan.trains.values()), rel=TOLERANCE)


def planned_for(shape: Architecture, config: Config) -> Any:
    import cipo_trainer.memory as planner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "architecture_of", lambda _: shape)
        return planned(config, device_bytes=None)


CARDS = {
    "qwen3_4b_math_grpo": 80e9,
    "qwen3_4b_math_cipo": 80e9,
    "seed_coder_8b_code_grpo": 80e9,
    "seed_coder_8b_code_cipo": 80e9,
    "qwen3_0.6b_math_grpo": 24e9,
    "qwen3_0.6b_math_cipo": 24e9,
    "qwen2.5_1.5b_math_grpo": 24e9,
    "qwen2.5_1.5b_math_cipo": 24e9,
    "smollm2_135m_math_grpo": 24e9,
    "smollm2_135m_math_cipo": 24e9,
}


@pytest.mark.parametrize("name", CARDS)
def test_presets_fit_their_card_and_say_whose_they_are(name: str) -> None:
    config = load(name)
    plan = planned(config, device_bytes=CARDS[name])
    assert plan.peak <= CARDS[name]
    assert plan.host.get("vLLM's weights while it sleeps", 0) > 0 or config.rollout.engine == "hf"
    text = (config_dir() / f"{name}.yaml").read_text()
    assert "Provenance" in text
    if "Qwen/Qwen3" in text:
        assert config.chat.enable_thinking is False
        assert "ithout thinking" in text


def test_parts_shrink_with_the_ranks_that_share_them() -> None:
    config = load("qwen3_4b_math_grpo", ["optimizer.moments=float32"])
    one, four = (planned(config, device_bytes=80e9, ranks=n) for n in (1, 4))
    for part in ("float32 masters", "moments of AdamW"):
        assert four.stays[part] == pytest.approx(one.stays[part] / 4)
    assert four.trains["gradients"] == pytest.approx(one.trains["gradients"] / 4)
    for part in ("weights", "reference"):  # what generates is whole
        assert four.stays[part] == one.stays[part]
    assert four.samples["vLLM: weights"] == one.samples["vLLM: weights"]
    whole = planned(load("qwen3_4b_math_grpo", ["parallel=ddp"]), device_bytes=80e9, ranks=4)
    assert whole.trains["gradients"] == one.trains["gradients"]
    assert one.peak > 80e9 > four.peak
    eight = planned(load("qwen3_4b_math_grpo", []), device_bytes=80e9, ranks=4)  # moments of 8 bits are whole
    assert eight.trains["gradients"] == one.trains["gradients"]


def test_the_command_says_what_it_takes(cipo: Commands) -> None:
    outcome = cipo("train", "qwen3_4b_math_cipo", "--plan")
    assert outcome.code == 0, outcome.err
    for part in ("float32 masters", "moments of AdamW", "vLLM: keys and values", "fits", "(estimate)"):
        assert part in outcome.out
    too_large = cipo("train", "qwen3_4b_math_cipo", "--plan", "--json", "optimizer.moments=float32")
    assert too_large.code == 1
    assert too_large.json["fits"] is False
    known, unknown = too_large.json["step"]["seconds"], cipo("train", "grpo", "--plan", "model=no/such")
    assert known["low"] < known["value"] < known["high"]
    assert unknown.code == 2
    assert "give a folder with its config.json" in unknown.err
    assert cipo("train", "grpo", "--plan", "--gpu", "H1000").code == 2


def test_the_module_plans_as_the_command_does(
    cipo: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m cipo_trainer``, alone and for as many processes as a launcher starts, of which the first speaks."""
    asked = ("qwen3_4b_math_cipo", "rollout.engine=hf", "--plan", "--gpu", "L4", "--json")
    for ranks in (1, 4):
        expected = cipo("train", *asked, "--nproc", str(ranks))
        for rank in range(ranks):
            if ranks > 1:
                for name, value in {
                    "RANK": rank,
                    "WORLD_SIZE": ranks,
                    "MASTER_ADDR": "",
                    "MASTER_PORT": 0,
                }.items():
                    monkeypatch.setenv(name, str(value))
            code, said = main(asked), capsys.readouterr().out
            assert said == ("" if rank else expected.out)
            assert code == (0 if rank else expected.code)


def test_a_checkpoint_s_own_configuration_counts(tmp_path: Path) -> None:
    _, shape = made("llama")
    values = {
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = architecture_of(build({"model": str(tmp_path)}))
    assert found.parameters == shape.parameters
    (tmp_path / "config.json").write_text(json.dumps({**values, "num_experts": 8}))
    with pytest.raises(UsageError, match="mixture of experts"):
        architecture_of(build({"model": str(tmp_path)}))


def test_servers_take_the_sampling_off_the_gpus_that_train(cipo: Commands) -> None:
    """Nothing of theirs is planned there, and two of them sample in half the time that one takes."""
    plans = [
        cipo(
            "train",
            "qwen3_4b_math_cipo",
            "--plan",
            "--json",
            "rollout.engine=vllm_server",
            f"rollout.servers={urls}",
        )
        for urls in ('["http://a:8000"]', '["http://a:8000", "http://b:8000"]')
    ]
    one, two = (plan.json for plan in plans)
    assert one["bytes"]["sampling"] == {}
    assert one["sampling_bytes"] < one["training_bytes"] == two["peak_bytes"]
    assert one["step"]["training_seconds"] == two["step"]["training_seconds"]
    assert 1.5 < one["step"]["sampling_seconds"] / two["step"]["sampling_seconds"] < 2.01
