"""What a step says of itself: figures of its streams, speed, and some attempts in full."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cipo_eval.analysis.measures import TRAINING
from cipo_trainer.logs import Log
from cipo_trainer.reward import Rewards
from cipo_trainer.rollout import Group

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bfloat16 operations per second by part of a GPU's name (vendors' datasheets)."""


GENERATED = ("base", "dropped", "correction", "hinted", "judgement")
"""Streams whose tokens were generated in a step, used or not."""


def stream(name: str, groups: Sequence[Group], given: Rewards) -> dict[str, float]:
    """Figures of a stream by their names in the log, which begin with ``name``: accuracies from verdicts, rewards
    (``given``) with their shaping, lengths in tokens."""
    samples = [s for g in groups for s in g.samples]
    if not samples:
        return {f"{name}_attempts": 0.0, f"{name}_failed": 0.0}
    lengths = np.array([len(s.tokens) for s in samples])
    logprobs = np.concatenate([np.array(s.logprobs, dtype=np.float64) for s in samples])
    return {
        f"{name}_attempts": float(len(samples)),
        f"{name}_accuracy": float(np.mean([s.correct for s in samples])),
        f"{name}_reward": float(np.mean(np.concatenate(given))),
        f"{name}_solved": float(np.mean([g.accuracy > 0 for g in groups])),
        f"{name}_zero_variance": float(np.mean([g.decided for g in groups])),
        f"{name}_length": float(lengths.mean()),
        f"{name}_length_max": float(lengths.max()),
        f"{name}_truncated": float(np.mean([s.truncated for s in samples])),
        f"{name}_entropy": float(-logprobs.mean()) if logprobs.size else 0.0,
        f"{name}_failed": float(sum(s.failed for s in samples)),
        f"{name}_tokens": float(lengths.sum()),
    }


def speed(measured: Mapping[str, Any], device: torch.device, processes: int = 1) -> dict[str, float]:
    """The speed of a step with these figures: tokens per second, model FLOP/s utilisation of as many devices as there
    are processes (a share of ``PEAK``), peak memory of this one."""
    generated = sum(measured.get(f"{part}_tokens", 0.0) for part in GENERATED)
    values = {
        "generated_tokens": generated,
        "train_tokens_per_second": measured["passed_tokens"] / max(1e-9, measured["seconds_train"]),
    }
    values["tokens_per_second"] = (generated or measured["trained_tokens"]) / max(1e-9, measured["seconds"])
    if rolled := measured.get("seconds_rollout"):
        values["rollout_tokens_per_second"] = generated / rolled
    if device.type == "cuda":
        values["memory_peak"] = float(torch.cuda.max_memory_allocated(device))
        torch.cuda.reset_peak_memory_stats(device)
        name = torch.cuda.get_device_name(device)
        if peak := next((value for part, value in PEAK.items() if part in name), None):
            values["mfu"] = measured["work"] / max(1e-9, measured["seconds_train"]) / (peak * processes)
    else:
        values["memory_peak"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return values


def write_samples(log: Log, step: int, streams: Mapping[str, Sequence[Group]], count: int) -> None:
    """Logs the first ``count`` attempts of each stream of a step in full, with what they correct."""
    for name, groups in streams.items():
        for group in groups[:count]:
            sample = group.samples[0]
            row: dict[str, Any] = {
                "stream": name,
                "problem": sample.problem.id,
                "question": sample.problem.question,
                "text": sample.text,
                "state": sample.verdict.state.value,
                "extracted": sample.verdict.extracted,
            }
            if group.anchor:
                row |= {"anchor": group.anchor.text, "anchor_right": group.anchor.correct}
            log.sample(step, row)


def headline(measured: Mapping[str, Any]) -> str:
    """The key figures of a step or an evaluation, in a line."""
    if "seconds_train" not in measured:
        return "eval " + ", ".join(
            f"{name} {value:.3f}" for name, value in list(measured.items())[:4] if value is not None
        )
    parts = [
        f"{value.short} {measured[name]:.3g}"
        for name, value in TRAINING.items()
        if value.short and measured.get(name) is not None
    ]
    return ", ".join([*parts, f"{measured['tokens_per_second']:,.0f} tokens/s"])
