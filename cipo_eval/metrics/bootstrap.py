"""How sure a figure is: intervals by resampling problems, and the analytic clustered standard error.

The problem is the unit everywhere, because attempts at one problem are not independent. A percentile
bootstrap needs problems that differ: with 30 of 30 wrong every resample is 0, and an interval of no width
would claim certainty. Where fewer than ``FEW`` problems differ from the rest, a binomial bound over problems
takes its place, and ``Estimate.method`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Interval = tuple[float, float]
Method = Literal["cluster_bootstrap", "clopper_pearson", "none"]
Statistic = Callable[[FloatArray], FloatArray]
"""A figure of resamples: takes how often each problem was drawn, shape (resamples, problems), and returns one value for
each resample, shape (resamples,)."""

CONFIDENCE = 0.95
RESAMPLES = 2000
FEW = 5
"""Fewest problems that must differ from the most common score for the bootstrap to be used (docs/metrics.md)."""
_CHUNK = 4_000_000  # entries of a weight matrix that are held at once: 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with what is known about its error. All parts are in the figure's own unit."""

    value: float
    ci: Interval | None
    """95 % interval by ``method``; None for a single problem."""
    ci_t: Interval | None
    """value ± t(problems − 1) · se, cut to [0, 1]; None wherever ``se`` is."""
    se: float | None
    """Clustered standard error; None for a single problem or where all problems score the same."""
    method: Method

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded far below any meaning so that the last bits of a sum never show."""
        return {
            "value": round(self.value, 10),
            "ci": None if self.ci is None else [round(end, 10) for end in self.ci],
            "ci_t": None if self.ci_t is None else [round(end, 10) for end in self.ci_t],
            "se": None if self.se is None else round(self.se, 10),
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class ClusterBootstrap:
    """Resamples of whole problems with replacement, the same for every statistic: figures stay paired."""

    problems: int
    resamples: int = RESAMPLES
    seed: int = 0
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.problems < 1 or self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(f"needs problems ≥ 1, resamples ≥ 1 and 0 < confidence < 1: {self}")

    def weights(self) -> Iterator[FloatArray]:
        """How often each problem is drawn (multinomial): chunks of shape (some resamples, problems)."""
        rng = np.random.default_rng(self.seed)
        size = max(1, _CHUNK // self.problems)
        for start in range(0, self.resamples, size):
            rows = min(size, self.resamples - start)
            drawn = rng.integers(self.problems, size=(rows, self.problems))
            drawn += np.arange(rows)[:, None] * self.problems
            counts = np.bincount(drawn.ravel(), minlength=rows * self.problems)
            yield counts.reshape(rows, self.problems).astype(np.float64)

    def interval(self, statistic: Statistic) -> Interval | None:
        """Percentile interval (Efron 1979) of any statistic of the drawn problems.

        Resamples where the statistic is undefined (NaN) are left out. None for a single problem, and where
        all resamples agree: that is too little data, not certainty.
        """
        if self.problems == 1:
            return None
        values = np.concatenate([statistic(weights) for weights in self.weights()])
        values = values[~np.isnan(values)]
        if not values.size or values.min() == values.max():
            return None
        low, high = np.quantile(values, self._ends())
        return float(low), float(high)

    def mean(self, scores: ArrayLike) -> Estimate:
        """``means`` of one figure, given as scores of shape (problems,)."""
        return self.means([scores])[0]

    def means(self, figures: Sequence[ArrayLike]) -> list[Estimate]:
        """For each figure the mean of its problem scores in [0, 1], with interval and standard error.

        ``figures``: shape (figures, problems); the resamples are drawn once for all of them. Raises
        ``ValueError`` for another shape and for scores outside [0, 1], where no binomial bound holds.
        """
        table = np.asarray(figures, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != self.problems or not ((table >= 0) & (table <= 1)).all():
            raise ValueError(
                f"needs {self.problems} scores between 0 and 1 a figure, got shape {table.shape}"
            )
        differing = np.array([self.problems - np.unique(x, return_counts=True)[1].max() for x in table])
        intervals: list[Interval | None] = [None] * len(table)
        (rows,) = np.nonzero(differing >= FEW)
        if rows.size:
            drawn = np.concatenate([weights @ table[rows].T for weights in self.weights()]) / self.problems
            for row, (low, high) in zip(rows, np.quantile(drawn, self._ends(), axis=0).T, strict=True):
                intervals[row] = (float(low), float(high))
        return [self._estimate(x, ci) for x, ci in zip(table, intervals, strict=True)]

    def _estimate(self, x: FloatArray, ci: Interval | None) -> Estimate:
        """The mean of ``x`` with its bootstrap interval; without one the binomial bound stands in."""
        value = math.fsum(x) / self.problems
        se = clustered_standard_error(x)
        ci_t = None if se is None else t_interval(value, se, self.problems, self.confidence)
        method: Method = "cluster_bootstrap"
        if ci is None and self.problems > 1:
            method, ci = "clopper_pearson", clopper_pearson(value, self.problems, self.confidence)
        elif ci is None:
            method = "none"
        return Estimate(value=value, ci=ci, ci_t=ci_t, se=se, method=method)

    def _ends(self) -> list[float]:
        tail = (1 - self.confidence) / 2
        return [tail, 1 - tail]


def clustered_standard_error(scores: ArrayLike) -> float | None:
    """Standard error of the mean of problem scores, shape (problems,): their sample deviation over √problems.

    Equal to the cluster-robust error over attempts where all problems have equally many (Miller 2024,
    arXiv:2411.00640), times √(P / (P − 1)) for P clusters. None where P is 1 or all scores are equal:
    then the data cannot tell.
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.size < 2 or x.min() == x.max():
        return None
    return float(np.std(x, ddof=1) / math.sqrt(x.size))


def t_interval(value: float, se: float, problems: int, confidence: float = CONFIDENCE) -> Interval:
    """Value ± t · se with the quantile of Student's t for problems − 1 degrees of freedom, cut to [0, 1]."""
    from scipy import special

    half = float(special.stdtrit(problems - 1, (1 + confidence) / 2)) * se
    return max(0.0, value - half), min(1.0, value + half)


def clopper_pearson(value: float, problems: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper & Pearson's (1934) bounds on a mean of scores in [0, 1] over ``problems`` problems.

    Exact for scores of 0 and 1. For others value · problems stands for the number of successes; that widens
    the bounds, because no score in [0, 1] with the same mean varies more than one of 0 and 1.
    """
    from scipy import special

    successes, tail = value * problems, (1 - confidence) / 2
    failures = problems - successes
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def mean_interval(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Interval of the unweighted mean of independent figures, from their own (possibly lopsided) intervals.

    The distances to each end are combined as root sums of squares (Zou & Donner 2008, Statistics in Medicine
    27:1693).
    """
    mean = math.fsum(values) / len(values)
    below = math.sqrt(math.fsum((v - low) ** 2 for v, (low, _) in zip(values, intervals, strict=True)))
    above = math.sqrt(math.fsum((high - v) ** 2 for v, (_, high) in zip(values, intervals, strict=True)))
    return mean - below / len(values), mean + above / len(values)
