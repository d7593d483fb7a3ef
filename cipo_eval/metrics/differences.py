"""Is one run better than another? Differences that are paired by problem, with what their noise allows to say.

All arrays have one entry per problem that both runs attempted. Positive: the second run is better.

Interval and p come from one test, so they never contradict each other: the interval excludes 0 exactly where p ≤ 0.05.
Under a true difference δ the problems' contributions e − δ·f to the estimating equation Σ (e − δ·f) = 0 are as likely
to be positive as negative, so each may be given either sign (Hemerik, Goeman & Finos 2020, doi:10.1111/rssb.12369;
for means it is Fisher's paired test). Assignments that are as large as what was seen are those whose flipped problems
have Σ e / Σ f on the other side of δ (Hartigan 1969, "typical values"), so the values of Σ e / Σ f over random sets of
problems show p at every δ, and their quantiles are the interval. A figure that is no ratio (``compare_figures``) is
taken to the first order: a problem contributes its part in the second run's figure less that in the first's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cipo_eval.metrics.bootstrap import FEW, RESAMPLES, Interval
from cipo_eval.metrics.ratios import Form, divided, linearised

FloatArray = NDArray[np.float64]

EXACT = 14
"""Up to so many problems that contribute, all sets of them are counted: 16,384."""
SETS = 9_999
"""Random sets otherwise, at least: the smallest p-value is one in ten thousand."""
ALPHA, POWER = 0.05, 0.8
"""Level of the tests and intervals, and power of the minimum detectable effect (``Difference.mde``)."""
_TIE = 1e-9
_CHUNK = 4_000_000  # entries of a matrix that are held at once: 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is known about the difference of a figure between two runs."""

    first: float | None
    second: float | None
    """The figure of each run; None where it is undefined (no failed attempt to correct, say)."""
    difference: float | None
    ci: Interval | None
    """95 %: the differences that the test which gives ``p`` does not reject at ``ALPHA``. None where fewer than ``FEW``
    problems differ between the runs, or all but a few differ by the same."""
    p: float | None
    """Two-sided, of no difference; what is seen counts half (mid-p), as do others just as large."""
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

    Interval and test keep each problem's results together. The test of a difference δ takes the ratios to be r and
    r + δ, with r = (Σ tops − δ · Σ second bottoms) / Σ bottoms. Where there are too many sets of problems to count,
    ``bootstrap`` random ones are drawn, at least ``SETS``. Raises ``ValueError`` for shapes that differ.
    """
    parts = np.stack(
        [np.asarray(x, dtype=np.float64) for x in (first_top, first_bottom, second_top, second_bottom)]
    )
    if parts.ndim != 2 or not parts.shape[1]:
        raise ValueError(f"needs one value per problem, got shape {parts.shape}")
    first, second = (_ratio(parts[i].sum(), parts[i + 1].sum()) for i in (0, 2))
    if first is None or second is None:
        return _undefined(first, second, parts.shape[1])
    sets = max(SETS, bootstrap)
    return _tested(first, second, _contributions(parts), _differing(parts), sets=sets, seed=seed)


def compare_figures(
    first: ArrayLike, second: ArrayLike, form: Form, *, bootstrap: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Difference of two figures that are any ``form`` of means of sums over problems; of ratios ``compare_ratios``.

    ``first``, ``second``: the sums of each run, shape (parts, problems). A problem at which any of them differs tells
    the runs apart. Raises ``ValueError`` for shapes that differ.
    """
    runs = np.stack([np.asarray(of_run, dtype=np.float64) for of_run in (first, second)], axis=1)
    if runs.ndim != 3 or not runs.shape[2]:
        raise ValueError(f"needs the parts of each problem, got shape {runs.shape}")
    if form is divided:
        return compare_ratios(*runs[:, 0], *runs[:, 1], bootstrap=bootstrap, seed=seed)
    values, parts = linearised(runs, form)
    ours, theirs = (None if np.isnan(value) else float(value) for value in values)
    if ours is None or theirs is None:
        return _undefined(ours, theirs, runs.shape[2])
    top = theirs - ours + parts[1] - parts[0]
    columns = np.stack([top, np.ones(top.shape)], axis=1)
    differing = int((np.abs(runs[:, 0] - runs[:, 1]) > _TIE).any(axis=0).sum())
    return _tested(ours, theirs, columns, differing, sets=max(SETS, bootstrap), seed=seed)


def _ratio(top: float, bottom: float) -> float | None:
    return float(top / bottom) if bottom > 0 else None


def _undefined(first: float | None, second: float | None, problems: int) -> Difference:
    return Difference(
        first=first, second=second, difference=None, ci=None, p=None, mde=None, problems=problems
    )


def _tested(
    first: float, second: float, columns: FloatArray, differing: int, *, sets: int, seed: int
) -> Difference:
    """From the contributions, shape (problems, 2), and how many problems tell the runs apart."""
    problems, difference = len(columns), second - first
    part = columns @ [1, -difference]
    se = float(np.std(part, ddof=1) / math.sqrt(problems)) if problems > 1 else 0.0
    ci, p = _inverted(columns, differing, _sums_of_sets(columns, sets, seed))
    return Difference(
        first=first,
        second=second,
        difference=difference,
        ci=ci,
        p=p,
        mde=(_z(1 - ALPHA / 2) + _z(POWER)) * se if se > 0 else None,
        problems=problems,
    )


def _inverted(columns: FloatArray, differing: int, sums: FloatArray) -> tuple[Interval | None, float]:
    """Interval and p from the contributions and their sums over sets of problems."""
    typical = _TypicalValues.of(sums)
    counted = columns[:, 1] > 0
    own = _rounded(columns[counted, 0] / columns[counted, 1])
    varied = own.size - np.unique(own, return_counts=True)[1].max()
    ci = typical.interval() if min(differing, varied) >= FEW else None
    # No test of signs can say more with so many problems; only that of a ratio with few events would.
    return ci, max(typical.p(0.0), 0.5**differing)


def _contributions(parts: FloatArray) -> FloatArray:
    """e and f of each problem, shape (problems, 2). Σ (e − δ·f) is 0 at the difference that was seen; f is ≥ 0.

    e − δ·f is (c − (r + δ)·d) / mean d − (a − r·b) / mean b with the r of ``compare_ratios``. At the difference that
    was seen this is the linearised difference's part that is due to the problem.
    """
    a, b, c, d = parts
    before, after = b.mean(), d.mean()
    common = (a.sum() + c.sum()) / (b.sum() + d.sum())
    share = after / (before + after)
    top = (c - common * d) / after - (a - common * b) / before
    return np.stack([top, (1 - share) * d / after + share * b / before], axis=1)


def _differing(parts: FloatArray) -> int:
    """How many problems tell the runs apart: their results differ, and are not all of the most common kind (problems
    that only failed more or less often, with nothing corrected, say nothing about a correction rate)."""
    a, b, c, d = parts
    ratios = [
        _rounded(np.divide(x, y, out=np.full(x.shape, np.nan), where=y > 0)) for x, y in ((a, b), (c, d))
    ]
    found, counts = np.unique(np.concatenate(ratios), return_counts=True, equal_nan=True)
    usual = found[np.argmax(np.where(np.isnan(found), 0, counts))]
    unusual = [~np.isnan(ratio) & (ratio != usual) for ratio in ratios]
    differ = (np.abs(a - c) > _TIE) | (np.abs(b - d) > _TIE)
    return int((differ & (unusual[0] | unusual[1])).sum())


def _rounded(values: FloatArray) -> FloatArray:
    """So that equal values are equal, whatever the last bits of their sums."""
    return np.asarray(np.round(values, 9) + 0.0)


@dataclass(frozen=True, slots=True)
class _TypicalValues:
    """Distribution of Σ e / Σ f over sets of problems, read between its steps (mid-distribution function: Parzen 2004),
    so that p falls to 0.05 at the ends of the interval and nowhere jumps across it."""

    values: FloatArray
    """Ascending, each once."""
    middles: FloatArray
    """Share of sets below each value, with half of those that have it."""
    empty: float
    """Share of sets without an attempt: they agree with every difference, and count half on either side."""

    @classmethod
    def of(cls, sums: FloatArray) -> _TypicalValues:
        """From Σ e and Σ f of sets, shape (sets, 2)."""
        tops, bottoms = sums.T
        filled = bottoms > 0
        values, counts = np.unique(_rounded(tops[filled] / bottoms[filled]), return_counts=True)
        empty = 1 - filled.mean()
        return cls(values, empty / 2 + (np.cumsum(counts) - counts / 2) / len(tops), empty)

    def p(self, difference: float) -> float:
        """Two-sided p of a true difference."""
        ends = self.empty / 2, 1 - self.empty / 2
        below = float(np.interp(difference, self.values, self.middles, left=ends[0], right=ends[1]))
        return min(1.0, 2 * min(below, 1 - below))

    def interval(self) -> Interval:
        """The differences of which p is above ``ALPHA``. It has bounds where five problems have attempts."""
        low, high = np.interp([ALPHA / 2, 1 - ALPHA / 2], self.middles, self.values)
        return float(low), float(high)


def _sums_of_sets(columns: FloatArray, sets: int, seed: int) -> FloatArray:
    """Sums of the columns, shape (problems, 2), over sets of problems, shape (sets, 2): all sets of the problems whose
    first column is not nought, with the others at random; or, where those are many, random sets and the empty one."""
    rng = np.random.default_rng(seed)
    (deciding,) = np.nonzero(np.abs(columns[:, 0]) > _TIE)
    exact = len(deciding) <= EXACT
    count = 1 << EXACT if exact else sets
    size = max(1, _CHUNK // len(columns))
    found = [] if exact else [np.zeros((1, columns.shape[1]))]
    for start in range(0, count, size):
        rows = min(size, count - start)
        drawn = rng.integers(256, size=(rows, -(-len(columns) // 8)), dtype=np.uint8)
        chosen = np.unpackbits(drawn, axis=1, count=len(columns))
        if exact:
            chosen[:, deciding] = (np.arange(start, start + rows)[:, None] >> np.arange(len(deciding))) & 1
        found.append(chosen.astype(np.float64) @ columns)
    return np.concatenate(found)


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
