"""What only a GPU can show of engine and trainer: packed ≡ padded in bfloat16, graphs ≡ eager, and their speed.

    python benchmarks/device.py

The last line is one JSON object.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import beside_trl as training
import torch


def packed_is_padded(kind: str, **sizes: Any) -> dict[str, float]:
    """Log-probabilities and gradients in bfloat16, packed through FlashAttention and padded, beside float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from cipo_trainer.packing import Packed, TrainSequence, logprobs, micro

    torch.manual_seed(0)
    shape = {
        "vocab_size": 5000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "initializer_range": 0.05, **sizes,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **shape, max_position_embeddings=4096)
    with torch.device("cuda"):
        exact = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    items = [
        TrainSequence(
            prompt=torch.randint(2, 5000, (p,)).tolist(),
            tokens=torch.randint(2, 5000, (n,)).tolist(),
            advantage=1.0,
        )
        for p, n in ((3, 40), (100, 7), (64, 300), (1, 1), (17, 129))
    ]
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, packed, dtype in (
        ("exact", False, torch.float32),
        ("padded", False, torch.bfloat16),
        ("packed", True, torch.bfloat16),
    ):
        model: Any = exact.to(dtype)
        batch = micro(items, range(len(items)), torch.device("cuda"), packed=packed)
        with Packed(model, active=packed):
            said, _ = logprobs(model, batch, 64)
            gradient = torch.autograd.grad(said.mean(), model.model.layers[0].self_attn.q_proj.weight)[0]
        found[name] = said.detach().float(), gradient.float()
    said, gradient = found["exact"]
    return {
        f"{name}_{what}": float((found[name][i] - (said, gradient)[i]).norm() / (said, gradient)[i].norm())
        for name in ("padded", "packed")
        for i, what in enumerate(("logprobs", "gradient"))
    }


def generation(
    folder: Path, graphs: bool, problems: int, samples: int, most: int
) -> tuple[dict[str, float], Any]:
    """Tokens per second of the core on a 0.5B shape, and what it said."""
    from transformers import AutoModelForCausalLM

    from cipo_eval.engines.core.fuse import fuse_norms
    from cipo_eval.engines.core.loop import Core
    from cipo_eval.engines.core.request import GenRequest
    from cipo_trainer.rollout import sampling

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to("cuda").eval()
    fuse_norms(model)
    core = Core(model, ends=model.generation_config.eos_token_id, tokens=1_500_000)
    if not graphs:
        core.runner.graphs = None
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(40_000, 150_000, (n,), generator=generator).tolist()
        for n in range(64, 64 + 4 * problems, 4)
    ]
    asks = [
        GenRequest(prompt=p, seeds=range(1000 * i, 1000 * i + samples), sampling=sampling(most), max_new=most)
        for i, p in enumerate(prompts)
    ]
    seconds, rows = 0.0, {}
    for _ in range(2):
        feed = [asks]
        torch.cuda.synchronize()
        started = time.perf_counter()
        for sample in core.run(lambda _wait, feed=feed: feed.pop() if feed else []):
            rows[id(sample.request), sample.number] = sample.tokens
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    tokens = sum(map(len, rows.values()))
    config = model.config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * 64 * 2
    weights = sum(p.numel() for p in model.parameters()) * 2
    mean = tokens / len(rows)
    least = tokens * (weights / min(core.width, len(rows)) + per_token * (mean / 2 + 64 + 2 * problems))
    figures = {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "width": float(core.width),
        "mean": mean,
    }
    figures["roofline"] = least / training.bandwidth() / seconds
    said = [rows[id(ask), n] for ask in asks for n in range(samples)]
    return figures, said


def main() -> None:
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for kind, more in (
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 64}),
        ("mistral", {"sliding_window": 50}),
    ):
        figures[f"packed {kind}"] = packed_is_padded(kind, **more)
        print(kind, figures[f"packed {kind}"], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        model = training.make_checkpoint(Path(scratch) / "model", "0.5b", 512)
        eager, one = generation(model, False, 8, 8, 64)
        graphs, other = generation(model, True, 8, 8, 64)
        figures["graphs_are_eager"] = one == other
        figures["share_of_equal_samples"] = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
        print(figures["graphs_are_eager"], figures["share_of_equal_samples"], eager, graphs, flush=True)
        figures["generation"], _ = generation(model, True, 64, 16, 1024)
        print(figures["generation"], flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
