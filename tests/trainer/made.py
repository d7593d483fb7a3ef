"""Made-up samples and groups, tiny models and configurations for tests of the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cipo_eval.records import Problem, State, Verdict
from cipo_trainer.config import Config
from cipo_trainer.presets import build
from cipo_trainer.rollout import Group, Sample


def problem(name: str = "p") -> Problem:
    return Problem(
        task="t", id=name, index=0, question=f"question {name}", prompt=f"question {name}", gold="1"
    )


def sample(right: bool, number: int = 0, *, name: str = "p", cut: bool = False, text: str = "") -> Sample:
    state = State.CORRECT if right else State.INCORRECT
    return Sample(
        problem=problem(name),
        number=number,
        prompt=(5, 6),
        tokens=(7, 8, 1),
        logprobs=(-0.5, -0.5, -0.5),
        text=text or f"{name} {number} {right}",
        finish_reason="length" if cut else "stop",
        verdict=Verdict(
            correct=right, state=state, extracted="1", canonical="1" if right else f"no {number}"
        ),
    )


def group(pattern: str, name: str = "p", anchor: Sample | None = None) -> Group:
    """``+`` right, ``-`` wrong, ``~`` wrong and cut off."""
    samples = [sample(c == "+", i, name=name, cut=c == "~") for i, c in enumerate(pattern)]
    return Group(samples=tuple(samples), anchor=anchor)


DIGITS = "0123456789"
TASK = """
task: bandit
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
"""Judged by equality."""


def make_bandit(folder: Path, *, seed: int = 0, spread: float = 0.02) -> Path:
    """A checkpoint whose vocabulary is ten digits and two questions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<end>", *DIGITS, "a", "b"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=spread,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bandit(
    folder: Path, algorithm: str, *, verifier: str = "verifiers.faulty:FaultyVerifier", **more: Any
) -> Config:
    """Two questions, each with one right digit out of fourteen tokens."""
    model = folder / "model"
    if not model.is_dir():
        make_bandit(model)
    pairs = [("a", "3"), ("b", "5")]
    path = write_rows(
        folder / "rows.jsonl", [{"question": q, "answer": a, "completion": a} for q, a in pairs]
    )
    (folder / "bandit.yaml").write_text(TASK.format(verifier=verifier))
    data: dict[str, Any] = {"task": str(folder / "bandit.yaml")}
    if algorithm == "sft":
        data = {"path": str(path), "prompt": "{{ question }}"}
    values: dict[str, Any] = {
        "model": str(model),
        "output": str(folder / "out"),
        "algorithm": algorithm,
        "steps": 40,
        "data": data,
        "rollout": {"problems": 4, "samples": 32, "max_tokens": 1},
        "optimizer": {"lr": 0.02, "batch": 4},
        "checkpoint": {"every": 1000},
        "log": {"samples": 0},
        "reward": {"workers": 1},
        "device": "cpu",
    }
    for key, value in more.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return build(values)
