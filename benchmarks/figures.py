"""How long the statistics of a large run take: 500 problems, 32 samples, two turns, 2,000 resamples.

Times what ``run`` and ``score`` do when the last verdict is in: the figures of first attempts and of turns, from the
stored attempts on; and the statistics of comparing two such runs. Verdicts are made up. The last line is one JSON
object.

    python benchmarks/figures.py
"""

from __future__ import annotations

import json
import time

import numpy as np

from cipo_eval.analysis.revisions import revisions
from cipo_eval.analysis.summary import summarise
from cipo_eval.metrics.differences import compare_means, compare_ratios
from cipo_eval.records import Attempt, Mode, State, Verdict
from cipo_eval.turns.protocols import PROTOCOLS

PROBLEMS, SAMPLES, RESAMPLES = 500, 32, 2000


def attempt(problem: int, sample: int, turn: int, right: bool, answer: int, tokens: int) -> Attempt:
    said = "right" if right else str(answer)
    state = State.CORRECT if right else State.INCORRECT
    return Attempt(
        task="t",
        problem=f"p{problem:03}",
        protocol="direct" if turn == 1 else "self",
        sample=sample,
        turn=turn,
        prompt_hash="",
        seed=0,
        text="",
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=tokens,
        seconds=1.0,
        verdicts={"fixed": Verdict(correct=right, state=state, extracted=said, canonical=said)},
    )


def main() -> None:
    rng = np.random.default_rng(0)
    rate = rng.beta(0.7, 0.7, size=PROBLEMS)
    problem = np.repeat(np.arange(PROBLEMS), SAMPLES)
    right = rng.random((len(problem), 2)) < rate[problem, None]
    answers, tokens = rng.integers(0, 6, size=right.shape), rng.integers(100, 2000, size=right.shape)
    attempts = [
        attempt(p, i % SAMPLES, turn + 1, bool(right[i, turn]), int(answers[i, turn]), int(tokens[i, turn]))
        for i, p in enumerate(problem.tolist())
        for turn in range(2)
    ]
    first = [a for a in attempts if a.turn == 1]
    levels = {f"p{i:03}": {"level": i % 5} for i in range(PROBLEMS)}
    started = time.perf_counter()
    summarise("t", first, levels, mode=Mode.FIXED, bootstrap=RESAMPLES, breakdown=("level",))
    single = time.perf_counter() - started
    started = time.perf_counter()
    found = revisions(
        "t",
        attempts,
        PROTOCOLS["self"],
        mode=Mode.FIXED,
        turns=2,
        bootstrap=RESAMPLES,
        first=first,
        votes=True,
        metadata=levels,
        breakdown=("level",),
    )
    turns = time.perf_counter() - started
    a, b = (np.bincount(problem, weights=right[:, i]) / SAMPLES for i in (0, 1))
    started = time.perf_counter()
    compare_means(a, b, bootstrap=RESAMPLES)
    compare_ratios(a * (1 - a), 1 - a, b * (1 - b), 1 - b, bootstrap=RESAMPLES)
    comparison = time.perf_counter() - started
    lift = found["lift"]["correction_lift"]["value"]
    print(
        f"first attempts: {single:.2f} s; turns: {turns:.2f} s (lift {lift:+.4f}); comparison: {comparison:.2f} s"
    )
    print(
        json.dumps(
            {
                "benchmark": "statistics",
                "problems": PROBLEMS,
                "samples": SAMPLES,
                "resamples": RESAMPLES,
                "first_attempts_seconds": round(single, 2),
                "turns_seconds": round(turns, 2),
                "comparison_seconds": round(comparison, 2),
                "goal_seconds": 3,
            }
        )
    )


if __name__ == "__main__":
    main()
