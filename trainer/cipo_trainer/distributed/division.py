"""Who does what: requests to generate for, and sequences to train on, among the processes of a training.

What is divided is known in every process, and so is the division. It decides who works, never what is computed: seeds
belong to (seed, step, problem, number), and each token's weight in the loss is made of the whole batch.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Sequence
from typing import Any

from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Mode, Request, Verdict
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer.config import Config
from cipo_trainer.distributed.world import World
from cipo_trainer.rollout import Group, Judge, Sample, roll_out

MOST_JUDGES = 16
"""Most processes that judge, by default."""
Judged = list[tuple[Any, ...]]
"""What is sent of a group: of each sample, number, prompt, tokens, log-probabilities, text, finish reason, verdict."""


def owners(costs: Sequence[int], size: int) -> list[int]:
    """The process of each of these pieces of work: the largest first, each to the process with the least to do so
    far. ``costs``: in any unit; 0: nothing has to be done."""
    if size == 1:
        return [0] * len(costs)
    loads = [(0, 0, rank) for rank in range(size)]
    chosen = [0] * len(costs)
    for at in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, count, rank = heapq.heappop(loads)
        chosen[at] = rank
        heapq.heappush(loads, (load + costs[at], count + 1, rank))
    return chosen


def roll_out_together(
    world: World,
    engine: Any,
    pool: VerifierPool,
    verifier: str,
    requests: Sequence[Request],
    anchors: Sequence[Sample] | None,
    *,
    interrupts: Interrupts,
    judge: Judge | None = None,
) -> tuple[list[Group], float]:
    """As ``rollout.roll_out``, in all processes together: each of n takes every n-th request, and all of them return
    all groups."""
    if world.size == 1:
        return roll_out(engine, pool, verifier, requests, anchors, interrupts=interrupts, judge=judge)

    def share() -> tuple[list[Judged], float]:
        mine = requests[world.rank :: world.size]
        if not mine:
            return [], 0.0
        groups, waited = roll_out(engine, pool, verifier, mine, interrupts=interrupts, judge=judge)
        return [_sent(group) for group in groups], waited

    shares = world.together(share)
    groups = [
        Group(
            samples=_received(request, shares[at % world.size][0][at // world.size]),
            anchor=anchors[at] if anchors else None,
        )
        for at, request in enumerate(requests)
    ]
    return groups, max(waited for _, waited in shares)


def judge_together(
    world: World, pool: VerifierPool, verifier: str, samples: Sequence[Sample], interrupts: Interrupts
) -> tuple[list[Verdict], float]:
    """The verifier's verdicts on the texts of these samples, which all processes have, and the seconds that they took:
    each process judges every n-th."""

    def share() -> list[Verdict]:
        mine = samples[world.rank :: world.size]
        asked = [pool.submit(verifier, s.problem, s.text, s.finish_reason, (Mode.FIXED,)) for s in mine]
        with interrupts.allowed():
            return [future.result()[Mode.FIXED] for future in asked]

    started = time.perf_counter()
    shares = world.together(share)
    verdicts = [shares[at % world.size][at // world.size] for at in range(len(samples))]
    return verdicts, time.perf_counter() - started


def judges(config: Config, world: World) -> int | None:
    """Processes that judge, beside this one; several processes on a machine share its cores."""
    if config.reward.workers or world.local_size == 1:
        return config.reward.workers
    return max(1, min(MOST_JUDGES, (os.cpu_count() or 1) // world.local_size))


def _sent(group: Group) -> Judged:
    return [
        (s.number, s.prompt, s.tokens, s.logprobs, s.text, s.finish_reason, s.verdict) for s in group.samples
    ]


def _received(request: Request, judged: Judged) -> tuple[Sample, ...]:
    names = ("number", "prompt", "tokens", "logprobs", "text", "finish_reason", "verdict")
    return tuple(
        Sample(problem=request.problem, **dict(zip(names, values, strict=True))) for values in judged
    )
