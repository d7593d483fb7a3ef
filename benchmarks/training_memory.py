"""What the training phase of a preset takes, planned (``cipo-eval train PRESET --plan``) and measured.

    python benchmarks/training_memory.py qwen3_4b_math_cipo            # on a GPU
    python benchmarks/training_memory.py --tiny                        # on a CPU, in seconds

A model of the preset's shape with random weights (none is downloaded) gets two streams of made-up sequences, each of
two micro-batches: one update to make the optimizer's state and to compile what is compiled, one that is measured. On a
GPU that is the allocator's peak with everything that stays; on a CPU what the update allocates. The last line is JSON:
``ratio`` is planned by measured bytes, ``mfu`` of dense bfloat16.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from cipo_eval.engines.core.fuse import fuse_norms
from cipo_trainer import measure, memory
from cipo_trainer.config import Config
from cipo_trainer.packing import TrainSequence
from cipo_trainer.policy import LARGE
from cipo_trainer.presets import load
from cipo_trainer.step import Learner, LossStream

GPU = torch.cuda.is_available()
TINY = memory.Architecture(
    vocab=2000, hidden=128, layers=4, heads=4, key_value_heads=2, head_dim=32, inner=384, tied=True
)


def model_of(shape: memory.Architecture, config: Config) -> Any:
    """Random weights of this shape, as the trainer would hold them."""
    settings = AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        **({} if shape.family == "qwen2" else {"head_dim": shape.head_dim}),
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32_768,
    )
    with torch.device("cuda" if GPU else "cpu"):
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16 if GPU else torch.float32)
    if config.lora:
        from peft import LoraConfig, get_peft_model

        options = config.lora
        model = get_peft_model(
            model, LoraConfig(r=options.rank, target_modules=options.targets, task_type="CAUSAL_LM")
        )
    again = config.optimizer.checkpointing
    if again or (again is None and GPU and shape.parameters >= LARGE):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if config.lora:
            model.enable_input_require_grads()
    fuse_norms(model.get_base_model() if config.lora else model)
    return model.eval()


def streams(config: Config) -> list[LossStream]:
    """Two streams of two micro-batches each."""
    length = min(config.optimizer.micro_tokens // 4, config.rollout.max_tokens)
    prompt = max(1, length // 8)
    count = 2 * max(1, config.optimizer.micro_tokens // length)
    rows = [
        TrainSequence(prompt=[5] * prompt, tokens=[7] * (length - prompt), advantage=float((-1) ** i))
        for i in range(count)
    ]
    return [LossStream(name=name, sequences=rows) for name in ("base", "correction")]


def allocated(work: Any) -> float:
    """Bytes that a call allocates at most on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    total = peak = 0
    for _, size in sizes:
        total += size
        peak = max(peak, total)
    return float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", default="smollm2_135m_math_cipo")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--tiny", action="store_true", help="another shape, for a CPU")
    asked = parser.parse_args()
    small = ["optimizer.micro_tokens=1024", "optimizer.chunk=256"] if asked.tiny else []
    config = load(asked.preset, [*small, "loss.beta=0", *asked.overrides])  # the reference is another model
    shape = TINY if asked.tiny else memory.architecture_of(config)
    memory.architecture_of = lambda _: shape  # type: ignore[assignment]
    device_bytes = float(torch.cuda.mem_get_info()[1]) if GPU else None
    plan = memory.planned(config, device_bytes=device_bytes)
    learner = Learner(model_of(shape, config), config)
    batch = streams(config)
    learner.update(batch, step=0, lr=1e-6)
    started = time.perf_counter()
    if GPU:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        figures = learner.update(batch, step=1, lr=1e-6)
        measured = float(torch.cuda.max_memory_allocated())
        planned = plan.training - plan.stays["context"]  # the allocator does not see it
    else:
        measured = allocated(lambda: learner.update(batch, step=1, lr=1e-6))
        figures = learner.update(batch, step=2, lr=1e-6)
        # copies of the first stream's gradients are in the same memory here
        planned = sum(plan.trains.values()) + plan.host["gradients of the first stream"]
    figures |= {"seconds": time.perf_counter() - started}
    line = {
        "device": torch.cuda.get_device_name() if GPU else "cpu",
        "preset": asked.preset,
        "parameters": shape.parameters,
        "planned": planned,
        "measured": measured,
        "ratio": planned / measured,
        "parts": {**plan.stays, **plan.trains},
        "seconds_train": figures["seconds_train"],
    }
    if GPU:
        line["mfu"] = measure.speed(figures, torch.device("cuda")).get("mfu")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
