"""How often the interval of a difference between two runs holds the truth, and how often a true null is significant.

Pairs of runs on the same problems are simulated. Each problem has a rate of success of its own, which both runs share,
so that they are correlated: Beta with the mean that the columns name and a + b = 2 (at 50 % all rates are as likely).
Of pass@1 the second run is as good, or better by 0.7 in log odds. Of the correction rate the columns name the share of
*failed* attempts; the second run corrects as often, or 0.7 in log odds more often and fails seldomer. The code that
judges a pair is that of ``compare``; only its random sets of problems are the same for all pairs of a size, which is
what makes thousands of them quick. The last line is one JSON object.

    python benchmarks/coverage.py [--repetitions 1000] [--problems 30 100 500]
"""

from __future__ import annotations

import argparse
import functools
import json
import time

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cipo_eval.metrics.differences import SETS, _contributions, _inverted

FloatArray = NDArray[np.float64]
SHARES, ATTEMPTS, FIGURES = (0.05, 0.2, 0.5, 0.8, 0.95), (1, 4, 16), ("pass@1", "correction rate")
BETTER = 0.7
"""In log odds."""


def corrected(rate: FloatArray, better: float) -> FloatArray:
    """Chance that a failed attempt is corrected: easy problems' more often."""
    return np.asarray(special.expit(-0.8 + 1.5 * (rate - 0.5) + better))


def rates(rng: np.random.Generator, share: float, shape: tuple[int, ...], better: float) -> list[FloatArray]:
    """Rates of success of problems in both runs."""
    rate = np.asarray(np.clip(rng.beta(2 * share, 2 * (1 - share), size=shape), 1e-9, 1 - 1e-9))
    return [rate, np.asarray(special.expit(special.logit(rate) + better))]


@functools.cache
def truth(figure: str, share: float, better: float) -> float:
    """Difference over endlessly many problems."""
    if not better:
        return 0.0
    found = []
    for run, rate in enumerate(rates(np.random.default_rng(0), _right(figure, share), (4_000_000,), better)):
        weight = np.ones(rate.shape) if figure == "pass@1" else 1 - rate
        value = rate if figure == "pass@1" else corrected(rate, run * better)
        found.append(float((weight * value).sum() / weight.sum()))
    return found[1] - found[0]


def _right(figure: str, share: float) -> float:
    return share if figure == "pass@1" else 1 - share


def simulate(
    rng: np.random.Generator, figure: str, share: float, shape: tuple[int, int], attempts: int, better: float
) -> FloatArray:
    """Sums above and below the line of both runs, shape (pairs, 4, problems)."""
    parts: list[FloatArray] = []
    for run, rate in enumerate(rates(rng, _right(figure, share), shape, better)):
        right = rng.binomial(attempts, rate)
        if figure == "pass@1":
            parts += [right / attempts, np.ones(shape)]
        else:
            failed = attempts - right
            # both runs find the same problems easy to correct
            parts += [rng.binomial(failed, corrected(rate, run * better)) / attempts, failed / attempts]
    found = np.stack(parts, axis=1)
    defined = (found[:, 1].sum(axis=1) > 0) & (found[:, 3].sum(axis=1) > 0)
    return np.asarray(found[defined])


def judge(pairs: FloatArray, chosen: FloatArray, true: float) -> tuple[int, int, int]:
    """Of the pairs: how many have an interval, of how many it holds the truth, how many are significant."""
    given = held = significant = 0
    columns = np.stack([_contributions(parts) for parts in pairs])
    sums = (chosen @ columns.transpose(1, 0, 2).reshape(columns.shape[1], -1)).reshape(len(chosen), -1, 2)
    for parts, own, of_sets in zip(pairs, columns, sums.transpose(1, 0, 2), strict=True):
        ci, p = _inverted(parts, own, of_sets)
        significant += p < 0.05
        if ci is not None:
            given += 1
            held += ci[0] <= true <= ci[1]
            if (ci[0] > 0 or ci[1] < 0) != (p <= 0.05):
                raise AssertionError(f"interval {ci} beside p = {p}")
    return given, held, significant


def cell(
    figure: str, share: float, problems: int, attempts: int, repetitions: int, chosen: FloatArray
) -> dict[str, float | None]:
    """Coverage where there is an interval, and significance of a true null among pairs that have the figure."""
    rng = np.random.default_rng([problems, attempts, int(100 * share), FIGURES.index(figure)])
    found: dict[str, float | None] = {}
    for name, better in (("equal", 0.0), ("better", BETTER)):
        true, given, held, significant, pairs = truth(figure, share, better), 0, 0, 0, 0
        for start in range(0, repetitions, 100):
            shape = (min(100, repetitions - start), problems)
            drawn = simulate(rng, figure, share, shape, attempts, better)
            if not len(drawn):
                continue
            pairs += len(drawn)
            more = judge(drawn, chosen, true)
            given, held, significant = given + more[0], held + more[1], significant + more[2]
        found[f"given_{name}"] = given / repetitions
        found[f"held_{name}"] = held / given if given >= repetitions / 10 else None
        found[f"significant_{name}"] = significant / max(1, pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 100, 500])
    asked = parser.parse_args()
    started = time.perf_counter()
    cells: dict[str, dict[str, float | None]] = {}
    print(
        "Coverage, %: equal runs / one better; (true nulls that are significant, %). -: under 10 % have an interval"
    )
    for figure in FIGURES:
        print(f"\n| {figure}, problems x attempts |", " | ".join(f"{share:.0%}" for share in SHARES), "|")
        print("|---" * (len(SHARES) + 1) + "|")
        for problems in asked.problems:
            chosen = np.random.default_rng(problems).integers(2, size=(SETS + 1, problems)).astype(np.float64)
            chosen[0] = 0
            for attempts in ATTEMPTS:
                row = []
                for share in SHARES:
                    found = cell(figure, share, problems, attempts, asked.repetitions, chosen)
                    cells[f"{figure} {problems}x{attempts} {share}"] = found
                    row.append(_text(found))
                print(f"| {problems} x {attempts} | {' | '.join(row)} |", flush=True)
    held = [v for c in cells.values() for k, v in c.items() if k.startswith("held") and v is not None]
    within = sum(0.93 <= value <= 0.97 for value in held)
    print(
        json.dumps(
            {
                "benchmark": "coverage",
                "repetitions": asked.repetitions,
                "intervals_within_93_to_97": [within, len(held)],
                "coverage_min": min(held),
                "coverage_max": max(held),
                "significant_nulls_max": max(c["significant_equal"] or 0 for c in cells.values()),
                "seconds": round(time.perf_counter() - started, 1),
                "cells": cells,
            }
        )
    )


def _text(found: dict[str, float | None]) -> str:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    return f"{percent(found['held_equal'])} / {percent(found['held_better'])} ({percent(found['significant_equal'])})"


if __name__ == "__main__":
    main()
