"""The planner's model of time beside published measurements: output tokens per second of one GPU.

    python benchmarks/plan_speed.py

For each measurement what ``cipo_eval.estimate.roofline`` says with the shipped constants, and how far off it is; then
the shares of the peak rates that fit best, and the errors of a fit that has not seen the measurement (one workload left
out at a time). The last line is JSON.

Measurements: vLLM 0.30 with Qwen3-8B in bfloat16 on one H100 SXM, prompts and completions of fixed lengths, a fixed
number of requests at once (github.com/tgarg01/silybench-data, derived/csv/perf_points.csv, CC BY 4.0); and
TensorRT-LLM 1.0 with Llama-3.1-8B in FP8, as many at once as fit (its docs/source/performance/perf-overview.md). The
latter's weights and caches take half as much room and its multiplications are twice as fast; they are not fitted to,
and say how far another engine may be.
"""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from cipo_eval.estimate.constants import Constants, ModelShape, constants
from cipo_eval.estimate.roofline import Replica, Sequences


class Measured(NamedTuple):
    """One measurement."""

    gpu: str
    prompt: int
    new: int
    at_once: int
    tokens_per_second: float


VLLM = tuple(
    Measured("H100", prompt, new, at_once, rate)
    for (prompt, new), rates in {
        (2048, 2048): {1: 142, 4: 506, 16: 1625, 32: 2529, 64: 3463, 128: 3917, 256: 3881, 512: 3901},
        (128, 128): {1: 145, 16: 2156, 64: 6958, 128: 11194, 256: 13093, 512: 14540},
        (128, 1024): {1: 146, 16: 2117, 64: 6597, 128: 10301, 256: 13567, 384: 13591, 512: 13523},
        (8192, 512): {4: 378, 16: 784, 64: 982, 256: 994},
        (1024, 128): {4: 532, 16: 1757, 64: 2847, 128: 3349, 256: 3618},
    }.items()
    for at_once, rate in rates.items()
)
FITTING = 4096
"""Requests at once that are more than have room."""
TENSORRT = tuple(
    Measured(gpu, prompt, new, FITTING, rate)
    for (prompt, new), rates in {
        (128, 128): (28312, 27911),
        (128, 2048): (22714, 26221),
        (128, 4096): (14325, 18027),
        (500, 2000): (17660, 20770),
        (1000, 1000): (15220, 17744),
        (1000, 2000): (13899, 16828),
        (2048, 128): (3450, 3538),
        (2048, 2048): (9305, 12194),
        (5000, 500): (3459, 3902),
        (20000, 2000): (1351, 1804),
    }.items()
    for gpu, rate in zip(("H100", "H200"), rates, strict=True)
)
LLAMA_FP8 = ModelShape(
    parameters=8.03e9,
    multiplied=7.50e9,
    layers=32,
    heads=32,
    key_value_heads=8,
    head_dim=128,
    weight_bytes=1.0,
)


def replica(known: Constants, measured: Measured, *, eight_bit: bool = False) -> Replica:
    """What it was measured on; an engine takes as many sequences as are sent."""
    gpu = known.gpus[measured.gpu]
    if eight_bit:
        gpu = gpu.model_copy(update={"flops": 2 * gpu.flops})
    speed = known.engines["vllm"].model_copy(update={"batch": FITTING})
    return Replica(gpu=gpu, speed=speed, shape=LLAMA_FP8 if eight_bit else known.sizes["8B"])


def calculated(machine: Replica, measured: Measured) -> float:
    """Tokens per second, as the model of time says; samples were drawn without seeds of their own."""
    sequences = Sequences(
        prompt=measured.prompt, computed=measured.prompt, new=measured.new, held=measured.new / 2
    )
    return measured.new / machine.seconds(sequences, measured.at_once, 0.0)


def errors(known: Constants, rows: tuple[Measured, ...], *, eight_bit: bool = False) -> list[float]:
    """Logarithms of calculated by measured rates."""
    return [
        math.log(calculated(replica(known, row, eight_bit=eight_bit), row) / row.tokens_per_second)
        for row in rows
    ]


def fitted(known: Constants, rows: tuple[Measured, ...]) -> Constants:
    """Constants whose shares of the peak rates fit best."""
    from scipy.optimize import least_squares

    names = ("bandwidth_share", "compute_share", "step_seconds")

    def with_(values: list[float]) -> Constants:
        speed = known.engines["vllm"].model_copy(update=dict(zip(names, values, strict=True)))
        return known.model_copy(update={"engines": {**known.engines, "vllm": speed}})

    start = [getattr(known.engines["vllm"], name) for name in names]
    bounds = ([0.1, 0.1, 0.0], [1.0, 1.0, 0.02])
    found = least_squares(lambda values: errors(with_(list(values)), rows), start, bounds=bounds)
    return with_([float(value) for value in found.x])


def main() -> None:
    known = constants()
    for name, rows, eight_bit in (("vLLM", VLLM, False), ("TensorRT-LLM", TENSORRT, True)):
        for row, off in zip(rows, errors(known, rows, eight_bit=eight_bit), strict=True):
            print(f"{name} {row}: off by {math.expm1(off):+.0%}")
    best = fitted(known, VLLM).engines["vllm"]
    workloads = sorted({(row.prompt, row.new) for row in VLLM})
    unseen = []
    for workload in workloads:
        others = tuple(row for row in VLLM if (row.prompt, row.new) != workload)
        left = tuple(row for row in VLLM if (row.prompt, row.new) == workload)
        unseen += errors(fitted(known, others), left)
    shipped, other = errors(known, VLLM), errors(known, TENSORRT, eight_bit=True)
    print(
        json.dumps(
            {
                "fitted": best.model_dump(include={"bandwidth_share", "compute_share", "step_seconds"}),
                "shipped_rms": round(_rms(shipped), 4),
                "shipped_largest": round(max(map(abs, shipped)), 4),
                "unseen_rms": round(_rms(unseen), 4),
                "unseen_largest": round(max(map(abs, unseen)), 4),
                "other_engine_mean": round(sum(other) / len(other), 4),
                "other_engine_largest": round(max(map(abs, other)), 4),
            }
        )
    )


def _rms(values: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))


if __name__ == "__main__":
    main()
