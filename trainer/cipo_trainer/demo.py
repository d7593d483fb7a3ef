"""The recipe of ``cipo-eval demo``: from nothing to an ordinary Hugging Face checkpoint that does some arithmetic.

The figures below are chosen so that a CPU core is done in about a minute and the model is good but not perfect: its
samples differ, levels differ, and there is something left to learn.
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_trainer.config import Config

STEPS = 1000
BATCH_SIZE = 32
PEAK_RATE = 4e-3

COOLDOWN = 0.2
"""Last share of the time limit in which the learning rate falls to 0 if the schedule has not brought it there: a cosine
cut off in the middle would leave the weights as noisy as a high rate makes them."""

THREADS = 1
"""More threads wait for each other after every small operation: on two free cores the second one gains little, and on
busy ones it makes a step ten times slower. A fixed number also gives the same weights on machines of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did."""

    steps: int
    loss: float
    """Mean cross-entropy (nats per trained token) over the last twentieth of the steps; NaN when there was none."""
    seconds: float
    stopped_early: bool
    """Fewer steps than asked for: the time was up."""
    cooled_down: bool
    """The time limit lowered the learning rate: the result depends on the machine's speed, not on the seed alone."""


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Saving a megabyte needs none, and standard error belongs to the caller."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def demo_checkpoint(
    output_dir: Path,
    *,
    seed: int = 0,
    steps: int = STEPS,
    max_seconds: float | None = 100.0,
    on_step: Callable[[int, float], None] | None = None,
) -> Trained:
    """Trains the demo model from scratch on the CPU and writes model and tokenizer to ``output_dir``.

    The folder appears whole or not at all: it is written beside its place and renamed. Training stops at
    ``max_seconds`` at the latest, with what it has learned by then; the result says so. ``on_step(steps done, loss)``
    is called after each step. The evaluation items are never trained on.

    Raises ``UsageError``, before training, when ``output_dir`` exists and is not an empty folder.
    """
    from cipo_trainer import arithmetic

    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise UsageError(f"{output_dir} is in use; remove it or name another folder for the checkpoint")
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = arithmetic.build_tokenizer()
    model = arithmetic.build_model(tokenizer, seed)
    with _threads(THREADS):
        result = train(model, tokenizer, recipe(steps, seed), max_seconds, on_step)
    partial = output_dir.parent / f".{output_dir.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with _no_progress_bars():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        partial.replace(output_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return result


def recipe(steps: int, seed: int) -> Config:
    """As ``cipo-eval train sft`` has it."""
    from cipo_trainer.settings import build

    return build(
        {
            "algorithm": "sft",
            "steps": steps,
            "seed": seed,
            "optimizer": {
                "lr": PEAK_RATE,
                "betas": [0.9, 0.98],
                "weight_decay": 0.01,
                "warmup": max(1, steps // 20),
                "schedule": "cosine",
                "batch": BATCH_SIZE,
            },
        }
    )


def train(
    model: Any,
    tokenizer: Any,
    config: Config,
    max_seconds: float | None,
    on_step: Callable[[int, float], None] | None,
) -> Trained:
    """The trainer's own updates, without its checkpoints, and with a limit of time."""
    from cipo_trainer.loop import rate
    from cipo_trainer.problems import encoded, rows
    from cipo_trainer.step import Learner, Stream

    draws, learner = rows(config), Learner(model, config)
    losses: list[float] = []
    options, cooled_down, started = config.optimizer, False, time.monotonic()
    while len(losses) < config.steps:
        done, allowed = len(losses), 1.0
        if max_seconds is not None:
            allowed = min(1.0, (max_seconds - time.monotonic() + started) / (COOLDOWN * max_seconds))
        if allowed <= 0:
            break
        share = rate(done, config)
        cooled_down |= allowed < share
        items = encoded(tokenizer, draws.take(done * options.batch, options.batch))
        lr = options.lr * min(share, allowed)
        losses.append(learner.update([Stream(name="rows", items=items)], step=done, lr=lr)["loss"])
        if on_step is not None:
            on_step(done + 1, losses[-1])
    tail = losses[-max(1, len(losses) // 20) :]
    return Trained(
        steps=len(losses),
        loss=sum(tail) / len(tail) if tail else math.nan,
        seconds=time.monotonic() - started,
        stopped_early=len(losses) < config.steps,
        cooled_down=cooled_down,
    )
