"""How long the statistics of a large run take: 500 problems, 32 samples, two turns, 2,000 resamples.

Times the figures of first attempts (``summarise``'s parts aside), of the turns, and the comparison of two such runs, on
made-up verdicts. The last line is one JSON object.

    python benchmarks/statistics.py
"""

from __future__ import annotations

import json
import time

import numpy as np

from cipo_eval.metrics.compare import compare_means, compare_ratios
from cipo_eval.metrics.correction import Trajectories, summarise_turns

PROBLEMS, SAMPLES, RESAMPLES = 500, 32, 2000


def main() -> None:
    rng = np.random.default_rng(0)
    rate = rng.beta(0.7, 0.7, size=PROBLEMS)
    problem = np.repeat(np.arange(PROBLEMS), SAMPLES)
    right = rng.random((len(problem), 2)) < rate[problem, None]
    same = rng.random((len(problem), 1)) < 0.5
    tokens = rng.integers(100, 2000, size=right.shape)
    chains = Trajectories(problem=problem, right=right, asked=np.ones_like(right), same=same, tokens=tokens)
    started = time.perf_counter()
    found = summarise_turns(chains, bootstrap=RESAMPLES)
    turns = time.perf_counter() - started
    a, b = (np.bincount(problem, weights=right[:, i]) / SAMPLES for i in (0, 1))
    started = time.perf_counter()
    compare_means(a, b, bootstrap=RESAMPLES)
    compare_ratios(a * (1 - a), 1 - a, b * (1 - b), 1 - b, bootstrap=RESAMPLES)
    comparison = time.perf_counter() - started
    print(
        f"turns: {turns:.2f} s (lift {found['lift']['correction_lift']['value']:+.4f}); comparison: {comparison:.2f} s"
    )
    print(
        json.dumps(
            {
                "benchmark": "statistics",
                "problems": PROBLEMS,
                "samples": SAMPLES,
                "resamples": RESAMPLES,
                "turns_seconds": round(turns, 2),
                "comparison_seconds": round(comparison, 2),
                "goal_seconds": 3,
            }
        )
    )


if __name__ == "__main__":
    main()
