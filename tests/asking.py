"""Requests for engines, and what comes back by problem and sample."""

from __future__ import annotations

from cipo_eval.engines.engine import Engine
from cipo_eval.records import Completion, Problem, Request, Sampling

GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=24)
SAMPLED = Sampling(temperature=1.0, top_p=0.95, top_k=0, min_p=0.0, max_tokens=24)


def request(text: str, seeds: tuple[int, ...] = (1,), sampling: Sampling = GREEDY) -> Request:
    problem = Problem(task="t", id=text, index=0, question=text, prompt=text, gold="1")
    return Request(
        problem=problem,
        messages=({"role": "user", "content": text},),
        samples=tuple(range(len(seeds))),
        seeds=seeds,
        sampling=sampling,
    )


def outputs(engine: Engine, *requests: Request) -> dict[tuple[str, int], Completion]:
    return {(r.problem.id, s): c for r, s, c in engine.generate(requests)}
