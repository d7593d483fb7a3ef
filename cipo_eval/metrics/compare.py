"""Is one run better than another? Differences that are paired by problem, with what their noise allows to say.

All arrays have one entry per problem that both runs attempted. Positive: the second run is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cipo_eval.metrics.bootstrap import FEW, RESAMPLES, ClusterBootstrap, Interval

FloatArray = NDArray[np.float64]

EXACT_FLIPS = 14
"""Up to so many problems that differ, all assignments of signs are counted: 16,384."""
FLIPS = 9_999
"""Random assignments otherwise: the smallest p-value is one in ten thousand."""
ALPHA, POWER = 0.05, 0.8
"""Of the minimum detectable effect."""
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is known about the difference of a figure between two runs."""

    first: float | None
    second: float | None
    """The figure of each run; None where it is undefined (no failed attempt to correct, say)."""
    difference: float | None
    ci: Interval | None
    """95 % percentile interval of resampled problems; None where fewer than ``FEW`` problems differ."""
    p: float | None
    """Of a permutation test: how often chance alone, which gives each problem's results to either run, makes a
    difference as large."""
    mde: float | None
    """The smallest true difference that a set of problems like this shows with probability ``POWER`` at ``ALPHA``."""
    problems: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded."""

        def plain(value: float | None) -> float | None:
            return None if value is None else round(value, 10)

        return {
            "first": plain(self.first),
            "second": plain(self.second),
            "difference": plain(self.difference),
            "ci": None if self.ci is None else [round(end, 10) for end in self.ci],
            "p": plain(self.p),
            "mde": plain(self.mde),
            "problems": self.problems,
        }


def compare_means(
    first: ArrayLike, second: ArrayLike, *, bootstrap: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Difference of the means of two runs' problem scores. Raises ``ValueError`` for shapes that differ."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    ones = np.ones(a.shape)
    return compare_ratios(a, ones, b, ones, bootstrap=bootstrap, seed=seed)


def compare_ratios(
    first_top: ArrayLike,
    first_bottom: ArrayLike,
    second_top: ArrayLike,
    second_bottom: ArrayLike,
    *,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Difference of two ratios Σ top / Σ bottom over problems (a correction rate: corrected over failed attempts).

    The interval and the test keep each problem's results together. Raises ``ValueError`` for shapes that differ.
    """
    parts = np.stack(
        [np.asarray(x, dtype=np.float64) for x in (first_top, first_bottom, second_top, second_bottom)]
    )
    if parts.ndim != 2 or not parts.shape[1]:
        raise ValueError(f"needs one value per problem, got shape {parts.shape}")
    problems = parts.shape[1]
    first, second = (_ratio(parts[i].sum(), parts[i + 1].sum()) for i in (0, 2))
    if first is None or second is None:
        return Difference(
            first=first, second=second, difference=None, ci=None, p=None, mde=None, problems=problems
        )
    difference = second - first
    # Linearised contribution of each problem: its residual from the ratio, over the mean denominator.
    a, b, c, d = parts
    contribution = (c - second * d) / d.mean() - (a - first * b) / b.mean()
    se = float(np.std(contribution, ddof=1) / math.sqrt(problems)) if problems > 1 else 0.0
    (differing,) = np.nonzero((np.abs(a - c) > _TIE) | (np.abs(b - d) > _TIE))
    ci = None
    if len(differing) >= FEW:

        def statistic(weights: FloatArray) -> FloatArray:
            return _difference(weights @ parts.T)

        ci = ClusterBootstrap(problems, bootstrap, seed).interval(statistic)
    return Difference(
        first=first,
        second=second,
        difference=difference,
        ci=ci,
        p=_permutation(parts, differing, seed),
        mde=(_z(1 - ALPHA / 2) + _z(POWER)) * se if se > 0 else None,
        problems=problems,
    )


def _ratio(top: float, bottom: float) -> float | None:
    return float(top / bottom) if bottom > 0 else None


def _permutation(parts: FloatArray, differing: NDArray[np.int64], seed: int) -> float:
    """Two-sided p of swapping the runs' results within problems: all ways, or (b + 1) / (m + 1) of m random ones
    (Phipson & Smyth 2010).

    Where the denominators differ, so does how sure each ratio is, and swapping evens that out: differences are then
    taken over their standard errors, swap by swap, which keeps the test right (Chung & Romano 2013).
    """
    if not len(differing):
        return 1.0
    studentised = bool((np.abs(parts[1] - parts[3]) > _TIE).any())
    sums = _products(parts) if studentised else parts
    swapped_sums = _products(parts[[2, 3, 0, 1]]) if studentised else parts[[2, 3, 0, 1]]
    totals, change = sums.sum(axis=1), (swapped_sums - sums)[:, differing].T
    statistic = _studentised if studentised else _difference
    observed = abs(float(statistic(totals[None, :])[0]))
    if not np.isfinite(observed):
        return 1.0
    exact = len(differing) <= EXACT_FLIPS
    count = 1 << len(differing) if exact else FLIPS
    rng = np.random.default_rng(seed)
    as_large = valid = 0
    size = max(1, 4_000_000 // len(differing))
    for start in range(0, count, size):
        rows = min(size, count - start)
        if exact:
            numbers = np.arange(start, start + rows)
            swapped = (numbers[:, None] >> np.arange(len(differing))) & 1
        else:
            swapped = rng.integers(0, 2, size=(rows, len(differing)))
        found = np.abs(statistic(totals + swapped @ change))
        found = found[np.isfinite(found)]
        valid += len(found)
        as_large += int((found >= observed - _TIE).sum())
    return as_large / valid if exact else (as_large + 1) / (valid + 1)


def _difference(sums: FloatArray) -> FloatArray:
    """Second ratio minus first; ``sums``: shape (…, 4)."""
    with np.errstate(all="ignore"):
        return np.asarray(sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1])


def _products(parts: FloatArray) -> FloatArray:
    """Per problem a, b, c, d and the products that the variance of c/d − a/b is made of."""
    a, b, c, d = parts
    return np.stack([a, b, c, d, a * a, a * b, b * b, c * c, c * d, d * d, a * c, b * c, a * d, b * d])


def _studentised(sums: FloatArray) -> FloatArray:
    """Difference of the ratios over its linearised standard error, up to a constant; ``sums``: (…, 14)."""
    a, b, c, d, aa, ab, bb, cc, cd, dd, ac, bc, ad, bd = sums.T
    with np.errstate(all="ignore"):
        first, second = a / b, c / d
        variance = (
            (cc - 2 * second * cd + second**2 * dd) / d**2
            + (aa - 2 * first * ab + first**2 * bb) / b**2
            - 2 * (ac - first * bc - second * ad + first * second * bd) / (b * d)
        )
        return np.asarray((second - first) / np.sqrt(np.maximum(variance, 0)))


def mcnemar(first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """Exact McNemar test of single attempts, right or wrong: of the problems on which the runs differ, are as many won
    as lost? (McNemar 1947, binomial form.)"""
    from scipy.stats import binomtest

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    gained, lost = int((~a & b).sum()), int((a & ~b).sum())
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return {"gained": gained, "lost": lost, "p": round(p, 10)}


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Holm 1979); None stays, and does not count."""
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _z(probability: float) -> float:
    from scipy import special

    return float(special.ndtri(probability))
