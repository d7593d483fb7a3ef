"""Rewards per processor second, and agreement: ``math_reward`` beside math-verify and TRL's ``accuracy_reward``.

Judges the real outputs in ``model_outputs/math`` of the data mirror (``--data-dir``, ``CIPO_EVAL_DATA``) in batches, as
a trainer does, all methods on the same rows in one run:

- ``math_verify``: ``verify(parse(gold), parse(response))``, its own time limits on
- ``accuracy_reward``: TRL's, where TRL is installed; rows where it gives no reward count as disagreement
- ``math_reward``: ours, worker processes, time limits and all

Seconds are processor time of this process and its running workers, so that what runs beside does not count;
each method has judged a row before. Golds are given in a box, which all three read. ``ordinary`` are the rows on which
math-verify takes at most a second: texts that repeat themselves run into its limits, and would count for most of its
time. The published verdict, which agreement is measured against, is another grader's: not the truth. The last line is
one JSON object.

    python benchmarks/reward_speed.py --rows 2000 --workers 2
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from math_verifier import pairs

from cipo_eval.rewards import math_reward
from cipo_eval.sandbox.kernel import cpu_clock
from cipo_eval.verifiers.pool import shared_pool

Rewards = list[float | None]
Method = Callable[[list[str], list[str]], Rewards]
BATCH = 64
SLOW = 1.0
"""Processor seconds of math-verify on a row that is not ordinary."""


def math_verify(completions: list[str], solutions: list[str]) -> Rewards:
    from math_verify import parse, verify

    return [
        float(verify(parse(gold), parse(text))) for text, gold in zip(completions, solutions, strict=True)
    ]


def accuracy_reward(completions: list[str], solutions: list[str]) -> Rewards:
    from trl.rewards import accuracy_reward

    return list(
        accuracy_reward([[{"role": "assistant", "content": text}] for text in completions], solutions)
    )


def ours(completions: list[str], solutions: list[str]) -> Rewards:
    return math_reward(completions, solutions)


def processor_seconds() -> float:
    """Of this process and of the pool's workers that run."""
    workers = getattr(shared_pool()._pool, "_members", [])
    running = sum(time.clock_gettime_ns(cpu_clock(worker.pid)) / 1e9 for worker in workers if worker.pid)
    return time.process_time() + running


def timed(method: Method, rows: Sequence[tuple[str, str]]) -> tuple[Rewards, float, float]:
    """Rewards, processor seconds and seconds by the clock."""
    method([r"\boxed{1}"], [r"\boxed{2}"])
    rewards: Rewards = []
    cpu, clock = processor_seconds(), time.perf_counter()
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        rewards += method([text for text, _ in batch], [gold for _, gold in batch])
    return rewards, processor_seconds() - cpu, time.perf_counter() - clock


def agreement(one: Rewards, other: Sequence[float | None]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def measured(
    methods: dict[str, Method], rows: Sequence[tuple[str, str]], published: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Speed and agreement of each method. ``math_reward`` starts without what it remembers of other rows."""
    rewards, report = {}, {}
    for name, method in methods.items():
        shared_pool().close()
        rewards[name], cpu, clock = timed(method, rows)
        report[name] = {
            "rows_per_processor_second": round(len(rows) / cpu, 1),
            "rows_per_second": round(len(rows) / clock, 1),
            "agrees_with_published": round(agreement(rewards[name], published), 4),
            "no_reward": sum(reward is None for reward in rewards[name]),
        }
    for name in methods:
        report[name]["agrees_with_math_reward"] = round(agreement(rewards[name], rewards["math_reward"]), 4)
        ratio = report["math_reward"]["rows_per_processor_second"] / report[name]["rows_per_processor_second"]
        report[name]["math_reward_is_faster_by"] = round(ratio, 2)
        print(name, report[name], flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CIPO_EVAL_DATA"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    os.environ["CIPO_EVAL_WORKERS"] = str(given.workers)
    every = pairs(Path(given.data_dir), None)
    chosen = every[:: max(1, len(every) // given.rows)][: given.rows]
    rows = [(text, f"\\boxed{{{problem.gold}}}") for problem, text, _ in chosen]
    published = [float(right) for *_, right in chosen]
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it prints whole texts
    methods: dict[str, Method] = {"math_verify": math_verify, "math_reward": ours}
    try:
        versions = {name: version(name) for name in ("math-verify", "trl")}
        methods["accuracy_reward"] = accuracy_reward
    except PackageNotFoundError:
        versions = {"math-verify": version("math-verify")}
    report: dict[str, object] = {"rows": len(rows), "workers": given.workers, "versions": versions}
    ordinary = [at for at, row in enumerate(rows) if timed(math_verify, [row])[1] <= SLOW]
    report["ordinary_rows"] = len(ordinary)
    report["all"] = measured(methods, rows, published)
    report["ordinary"] = measured(methods, [rows[at] for at in ordinary], [published[at] for at in ordinary])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
