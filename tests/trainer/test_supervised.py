"""Supervised training: rows as they are generated from, learning to answer and to stop, orders and rates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import cipo_trainer
from cipo_eval.errors import UsageError
from cipo_eval.files import read_json_lines
from cipo_trainer.config import Config
from cipo_trainer.own_attempts import FILE, rows_of
from cipo_trainer.presets import build
from cipo_trainer.problems import Draws, encoded
from cipo_trainer.saving import newest
from cipo_trainer.step import Learner, LossStream, rate
from cipo_trainer.worlds import arithmetic
from cipo_trainer.worlds.registry import family

TOKENIZER = arithmetic.build_tokenizer()
PAIRS = [("1+2=", "3"), ("37+48=", "7+8=15 3+4+1=8 \\boxed{85}"), ("", "x"), ("a long prompt", "")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(model: Any, pairs: Sequence[tuple[str, str]], steps: int) -> list[float]:
    """Losses by step, as the trainer's loop makes them."""
    options = {"lr": 4e-3, "betas": [0.9, 0.98], "warmup": 4, "schedule": "cosine", "batch": 32}
    config = build({"algorithm": "sft", "steps": steps, "optimizer": options})
    draws, learner, losses = Draws(pairs, 0, ""), Learner(model, config), []
    for step in range(steps):
        items = encoded(TOKENIZER, draws.take(32 * step, 32))
        lr = 4e-3 * rate(step, config)
        losses.append(learner.update([LossStream(name="rows", sequences=items)], step=step, lr=lr)["loss"])
    return losses


@pytest.mark.parametrize("which", ["own", "bytes"])
def test_rows_are_prompt_completion_and_end(which: str, tiny_checkpoint: Path) -> None:
    tokenizer = TOKENIZER if which == "own" else AutoTokenizer.from_pretrained(tiny_checkpoint)
    for (prompt, completion), item in zip(PAIRS, encoded(tokenizer, PAIRS), strict=True):
        assert list(item.prompt) == tokenizer(prompt)["input_ids"]
        assert list(item.tokens) == [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = arithmetic.build_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UsageError, match="no end token"):
        encoded(tokenizer, PAIRS)


@pytest.mark.slow
def test_it_learns_to_answer_and_to_stop() -> None:
    pairs = [("1+2=", "\\boxed{3}"), ("4+3=", "\\boxed{7}"), ("9-8=", "\\boxed{1}")]
    model = arithmetic.build_model(TOKENIZER, 0)
    losses = train(model, pairs, 80)
    assert losses[0] == pytest.approx(math.log(len(TOKENIZER)), rel=0.2)
    assert sum(losses[-4:]) / 4 < 0.05
    for prompt, completion in pairs:
        ids = TOKENIZER(prompt, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=20, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert TOKENIZER.decode(written) == completion + "<eos>"


def test_draws_visit_everything_once_in_changing_order() -> None:
    draws = Draws(list(range(20)), 0, "")
    parts = [draws.take(start, 20) for start in (0, 20, 40)]
    assert all(sorted(part) == list(range(20)) for part in parts)
    assert all(a != b for a, b in pairwise([list(range(20)), *parts]))
    assert draws.take(15, 10) == [*parts[0][15:], *parts[1][:5]]


def schedule(steps: int, warmup: int, name: str) -> Config:
    return build({"algorithm": "sft", "steps": steps, "optimizer": {"warmup": warmup, "schedule": name}})


@pytest.mark.parametrize(("steps", "warmup"), [(1, 1), (10, 1), (1000, 50)])
@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_to_its_peak_and_falls(steps: int, warmup: int, name: str) -> None:
    rates = [rate(step, schedule(steps, warmup, name)) for step in range(steps)]
    peak = rates.index(1.0)
    assert peak == warmup - 1
    assert all(a <= b for a, b in pairwise(rates[: peak + 1]))
    assert all(a >= b for a, b in pairwise(rates[peak:]))
    assert min(rates) > 0
    assert steps < 100 or (rates[-1] < 2e-3) is (name != "constant")


OWN: dict[str, Any] = {
    "algorithm": "sft",
    "model": "new:chains",
    "seed": 1,
    "shape": {"layers": 1, "hidden": 16, "inner": 16, "heads": 1},
    "data": {"generator": "chains", "dial": {"modulus": 5, "steps": 2}},
    "optimizer": {"lr": 1e-2, "batch": 16},
    "rollout": {"max_tokens": 4},
    "device": "cpu",
}


def test_corrections_are_of_the_model_s_own_attempts(tmp_path: Path) -> None:
    """Those that it makes before it learns; a training that goes on shows the same ones, to the last weight; a model
    that writes no attempts at all is refused."""
    cipo_trainer.train(build({**OWN, "steps": 80, "output": str(tmp_path / "first")}))
    start = newest(str(tmp_path / "first"))

    def asked(folder: str, steps: int) -> Config:
        data = {**OWN["data"], "corrections": 1.0, "own_attempts": 60}
        return build({**OWN, "model": start, "data": data, "steps": steps, "output": str(tmp_path / folder)})

    cipo_trainer.train(asked("whole", 4))
    attempts = [
        (row.value["problem"], row.value["attempt"]) for row in read_json_lines(tmp_path / "whole" / FILE)
    ]
    assert len(attempts) == 60
    taken = rows_of(asked("whole", 4), attempts).take(0, 40)
    assert all(
        any(f"{problem}\n" in shown and text in shown for problem, text in attempts) for shown, _ in taken
    )
    made = family("chains", OWN["data"]["dial"])
    seen = [made.judged(*attempt) for attempt in attempts]
    assert {True, False} <= set(seen)
    for steps in (2, 4):
        cipo_trainer.train(asked("broken off", steps))
    ends = [
        load_file(tmp_path / folder / "checkpoints/step-000004/model.safetensors")
        for folder in ("whole", "broken off")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    fresh = {
        **OWN,
        "data": {**OWN["data"], "corrections": 0.5, "own_attempts": 8},
        "output": str(tmp_path / "new"),
    }
    with pytest.raises(UsageError, match=r"of 8 attempts 0 are right"):
        cipo_trainer.train(build({**fresh, "rollout": {"max_tokens": 1}}))
    with pytest.raises(UsageError, match=r"arithmetic does not correct a model's attempts"):
        rows_of(
            build({**fresh, "data": {"generator": "arithmetic", "corrections": 0.5, "own_attempts": 8}}),
            attempts,
        )
    with pytest.raises(UsageError, match=r"data\.own_attempts: only for sft"):
        build({**fresh, "algorithm": "grpo"})
