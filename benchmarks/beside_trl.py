"""The parts of ``training.py``: the model, the two trainers, what is counted."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

GPU = torch.cuda.is_available()
SHAPES: dict[str, dict[str, Any]] = {
    "cpu": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "0.5b": {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "4b": {
        "vocab_size": 151_936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    },
}  # fmt: skip


def make_checkpoint(folder: Path, shape: str, mean: int) -> Path:
    """Random weights; so many end tokens that a random sample meets one after ``mean`` tokens on average."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    sizes = SHAPES[shape]
    words = {"<pad>": 0, "<end>": 1, **{f"w{i}": i for i in range(2, sizes["vocab_size"])}}
    core = Tokenizer(models.WordLevel(vocab=words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
    ends = list(range(1, 1 + max(1, round(sizes["vocab_size"] / mean))))
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        **sizes,
        max_position_embeddings=32_768,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=0,
    )
    with torch.device("cuda" if GPU else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if GPU else torch.float32)
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prompts(count: int, vocab: int, length: int) -> list[str]:
    generator = torch.Generator().manual_seed(1)
    lengths = (length * (0.5 + torch.rand(count, generator=generator))).int().tolist()
    low = vocab // 8  # none that ends
    return [
        " ".join(f"w{i}" for i in torch.randint(low, vocab, (n,), generator=generator).tolist())
        for n in lengths
    ]


TASK = """
task: parity
doc_to_text: "{{{{question}}}}"
metadata:
  cipo:
    verifier: {verifier}
    metrics: [pass@k]
    presets: {{}}
    columns: {{question: question, gold: answer}}
    sources:
      - {{kind: embedded, path: rows.jsonl}}
"""


def configuration(
    folder: Path, model: Path, args: argparse.Namespace, shape: str, most: int, **more: Any
) -> Any:
    from cipo_trainer.presets import build

    asked = prompts(args.problems * (args.steps + 1), SHAPES[shape]["vocab_size"], args.prompt)
    rows = "".join(json.dumps({"question": p, "answer": "0"}) + "\n" for p in asked)
    (folder / "rows.jsonl").write_text(rows)
    (folder / "parity.yaml").write_text(TASK.format(verifier="parity:Reward"))
    options = {"lr": 1e-6, "micro_tokens": args.micro, "stream_norms": False, **more}
    return build(
        {
            "model": str(model),
            "output": str(folder / f"out-{shape}"),
            "algorithm": "dr_grpo",
            "steps": args.steps + 1,
            "data": {"task": str(folder / "parity.yaml")},
            "rollout": {"problems": args.problems, "samples": args.samples, "max_tokens": most},
            "optimizer": options,
            "checkpoint": {"every": 10**6},
            "log": {"samples": 0},
        }
    )


def ours(
    folder: Path, model: Path, args: argparse.Namespace, shape: str, most: int, **more: Any
) -> dict[str, Any]:
    from cipo_eval.interrupts import Interrupts
    from cipo_trainer import measure
    from cipo_trainer.loop import Trainer

    trainer = Trainer(configuration(folder, model, args, shape, most, **more))
    rows = []
    with Interrupts() as interrupts:
        for number in range(args.steps + 1):
            synchronize()
            started = time.perf_counter()
            measured = trainer.step(number, None, interrupts)
            synchronize()
            measured["seconds"] = time.perf_counter() - started
            measured |= measure.speed(measured, trainer.policy.device)
            trainer.state.position += int(measured["drawn"])
            rows.append(measured)
            shown = ", ".join(f"{k} {measured[k]:.4g}" for k in SHOWN if k in measured)
            print(f"  ours, step {number}: {shown}", flush=True)
    trainer.close()
    counted = rows[1:] or rows
    found = {name: sum(r.get(name, 0.0) for r in counted) / len(counted) for name in SHOWN}
    found["samples_per_second"] = args.problems * args.samples / found["seconds"]
    found["memory_peak"] = max(r["memory_peak"] for r in counted)
    found["roofline"] = roofline(trainer, found) if GPU else None
    del trainer
    clean()
    return found


SHOWN = (
    "seconds", "seconds_rollout", "seconds_train", "seconds_verify", "base_tokens", "base_length",
    "rollout_tokens_per_second", "mfu", "memory_peak", "mismatch", "mismatch_max", "loss", "grad_norm",
)  # fmt: skip


def roofline(trainer: Any, found: dict[str, Any]) -> float:
    """Share of the memory bandwidth that was measured just now: what decoding reads at the least (weights once a step
    for all rows, keys and values of the mean length) over the time that it took."""
    model = trainer.policy.model
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = min(512, trainer.config.rollout.problems * trainer.config.rollout.samples)
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * 2
    weights = sum(p.numel() for p in model.parameters()) * 2
    length = found["base_length"] / 2 + 128
    least = found["base_tokens"] * (weights / width + per_token * length)
    return float(least / bandwidth() / found["seconds_rollout"])


def bandwidth() -> float:
    """Bytes per second that a copy on the device reads and writes."""
    one = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(one)
    seconds = 0.0
    for _ in range(2):  # once to warm up
        synchronize()
        started = time.perf_counter()
        for _ in range(20):
            other.copy_(one)
        synchronize()
        seconds = time.perf_counter() - started
    return 20 * 2 * one.numel() / seconds


def trl(folder: Path, model: Path, args: argparse.Namespace, most: int) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [json.loads(line)["question"] for line in (folder / "rows.jsonl").read_text().splitlines()]
    times: list[float] = []
    tokens: list[int] = []

    def reward(completions: list[str], **more: Any) -> list[float]:
        tokens.append(sum(len(ids) for ids in more["completion_ids"]))
        return [float(int((c.split() or ["w1"])[-1][1:] or 1) % 2 == 0) for c in completions]

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronize()
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize()
            times[-1] = time.perf_counter() - times[-1]
            print(f"  trl, step {len(times) - 1}: {times[-1]:.4g} s, {sum(tokens)} tokens so far", flush=True)
            if len(times) == 1 and GPU:
                torch.cuda.reset_peak_memory_stats()

    total = args.problems * args.samples
    options = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=args.trl_rows,
        gradient_accumulation_steps=total // args.trl_rows,
        num_generations=args.samples,
        max_completion_length=most,
        max_steps=args.steps + 1,
        learning_rate=1e-6,
        beta=0.0,
        loss_type="dr_grpo",
        scale_rewards="none",
        num_iterations=1,
        temperature=1.0,
        bf16=GPU,
        gradient_checkpointing=GPU,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        use_cpu=not GPU,
        disable_tqdm=True,
        shuffle_dataset=False,
        model_init_kwargs={"dtype": "float32"},  # masters in float32 under autocast, as ours has them
    )
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=reward,
        args=options,
        train_dataset=Dataset.from_list([{"prompt": p} for p in rows]),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    with contextlib.redirect_stderr(None):
        trainer.train()
    seconds = sum(times[1:]) / max(1, len(times) - 1)
    found = {
        "seconds": seconds,
        "samples_per_second": total / seconds,
        "tokens": sum(tokens) / len(times),
        "memory_peak": torch.cuda.max_memory_allocated() if GPU else None,
    }
    del trainer
    clean()
    return found


def synchronize() -> None:
    if GPU:
        torch.cuda.synchronize()


def clean() -> None:
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def longest(folder: Path, model: Path, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens of the longest completion whose training step fits, by doubling: one group of two, nothing generated."""
    from cipo_trainer.packing import TrainSequence
    from cipo_trainer.policy import Policy
    from cipo_trainer.step import Learner, LossStream

    found = {}
    args = argparse.Namespace(**{**vars(args), "micro": 1})
    for saving in (False, True):
        config = configuration(folder, model, args, shape, 64, checkpointing=saving)
        policy = Policy(config)
        learner = Learner(policy.model, config)
        length = 4096
        while length <= 1 << 19:
            item = TrainSequence(prompt=[5] * 16, tokens=[7] * length, advantage=1.0, sampled=[-1.0] * length)
            try:
                learner.update([LossStream(name="base", sequences=[item])], step=0, lr=1e-6)
            except torch.OutOfMemoryError:
                break
            length *= 2
        found["checkpointing" if saving else "plain"] = length // 2
        del policy, learner
        clean()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The trainer beside TRL's GRPOTrainer")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="ours,trl")
    parser.add_argument("--problems", type=int, default=32 if GPU else 8)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--most", type=int, default=1024 if GPU else 256, help="most new tokens")
    parser.add_argument("--mean", type=int, default=512 if GPU else 64, help="new tokens, without a limit")
    parser.add_argument(
        "--prompt", type=int, default=128 if GPU else 48, help="tokens of a prompt on average"
    )
    parser.add_argument("--micro", type=int, default=16_384 if GPU else 8192)
    parser.add_argument("--trl-rows", type=int, default=16 if GPU else 128, help="sequences at once in TRL")
    parser.add_argument("--longest", action="store_true")
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    shape = "0.5b" if GPU else "cpu"
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if GPU else "cpu",
        "shape": shape,
        **vars(args),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_checkpoint(folder / "model", shape, args.mean)
        clean()
        configuration(folder, model, args, shape, args.most)
        for name in args.only.split(","):
            if name == "ours":
                figures["ours"] = ours(folder, model, args, shape, args.most)
            elif name == "trl":
                figures["trl"] = trl(folder, model, args, args.most)
        if args.longest:
            figures["longest"] = longest(folder, model, shape, args)
        if args.large:
            big = make_checkpoint(folder / "big", "4b", args.mean)
            clean()
            few = argparse.Namespace(**{**vars(args), "problems": 16, "samples": 8, "steps": 1})
            figures["large"] = ours(folder, big, few, "4b", args.most)
    if "ours" in figures and "trl" in figures:
        figures["speedup"] = figures["ours"]["samples_per_second"] / figures["trl"]["samples_per_second"]
        if GPU:
            figures["memory_ratio"] = figures["ours"]["memory_peak"] / figures["trl"]["memory_peak"]
    print(json.dumps(figures))
