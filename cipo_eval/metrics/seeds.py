"""Several trainings of one method: figures over seeds and problems at once.

A run has one value per problem (a share of sums, ``top / bottom``, or another form of them); an arm has several runs,
one per seed of the training, on the same problems. Another seed and other problems would both have given another
figure, and the two are crossed: the variance of the mean is that over problems plus that over seeds, less what both
contain (Cameron, Gelbach & Miller 2011, doi:10.1198/jbes.2010.07136; with equal weights the unbiased estimate of a
crossed random-effects model). Degrees of freedom are Satterthwaite's (1946): a handful of seeds makes wide intervals,
as it should.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cipo_eval.metrics.bootstrap import CONFIDENCE, Interval
from cipo_eval.metrics.differences import ALPHA, POWER, Difference
from cipo_eval.metrics.ratios import Form, divided, linearised

FloatArray = NDArray[np.float64]

PAIRED_SEEDS = 4
"""With fewer, what the pairs happen to differ by is too often taken for all that seeds do: in simulations up to 14 of
100 true nulls were significant at 0.05 with two pairs, 10 with three, 7 with four. Seeds then count as independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure of an arm: its mean over the seeds of a training, and its spread."""

    value: float | None
    """Mean of the seeds' figures; None where one of them is undefined."""
    std: float | None
    """Standard deviation between seeds (n − 1); None for a single seed."""
    ci: Interval | None
    """95 % interval over seeds and problems; None where nothing varies, or there is one problem or one seed."""
    seeds: int
    problems: int


class _Parts(NamedTuple):
    """Variances of a mean, and their degrees of freedom."""

    problems: float
    seeds: float
    both: float
    problem_df: int
    seed_df: float

    @property
    def total(self) -> float:
        # The difference may fall below what either alone accounts for, by chance: then that is the better guess.
        return max(self.problems + self.seeds - self.both, self.problems, self.seeds)

    @property
    def df(self) -> float:
        below = self.problems**2 / max(1, self.problem_df)
        if self.seed_df:
            below += self.seeds**2 / self.seed_df
        return self.total**2 / below if below > 0 else 1.0


Table = Sequence[ArrayLike]
"""The sums that a figure of one task is made of, numerators and denominators, shape (seeds, problems) each."""


def spread(top: ArrayLike, bottom: ArrayLike) -> Spread:
    """The spread of Σ top / Σ bottom over seeds and problems. ``top``, ``bottom``: shape (seeds, problems); raises
    ``ValueError`` for another."""
    return spread_mean([(top, bottom)])


def spread_mean(tasks: Sequence[Table], form: Form = divided) -> Spread:
    """The unweighted mean of a figure over tasks, whose seeds are the same trainings in the same order."""
    figures, contributions = _linear(tasks, form)
    seeds, problems = contributions.shape
    if figures is None:
        return Spread(value=None, std=None, ci=None, seeds=seeds, problems=problems)
    value = float(figures.mean())
    std = float(np.std(figures, ddof=1)) if seeds > 1 else None
    ci = None
    if seeds > 1 and problems > 1:
        ci = _interval(value, _variances([(figures, contributions)]))
    return Spread(value=value, std=std, ci=ci, seeds=seeds, problems=problems)


def compare_seeds(
    first_top: ArrayLike,
    first_bottom: ArrayLike,
    second_top: ArrayLike,
    second_bottom: ArrayLike,
    *,
    paired: bool = False,
) -> Difference:
    """Second arm minus first: paired by problem. Seeds are independent (a training of one arm has no partner in the
    other), or ``paired``: the i-th of both began with the same weights, so that what those are worth cancels (from
    ``PAIRED_SEEDS`` on).

    Shapes (seeds, problems), the same problems in both. An arm with a single seed is taken to vary between seeds as
    the other does. Raises ``ValueError`` for shapes that differ, for one seed in each: nothing is known of seeds, and
    where ``paired`` for different numbers of seeds.
    """
    return compare_seed_means([(first_top, first_bottom)], [(second_top, second_bottom)], paired=paired)


def compare_seed_means(
    first: Sequence[Table], second: Sequence[Table], *, form: Form = divided, paired: bool = False
) -> Difference:
    """``compare_seeds`` of the unweighted means over the same tasks, of any ``form`` of the sums."""
    (ours, own), (theirs, other) = _linear(first, form), _linear(second, form)
    if paired and len(own) != len(other):
        raise ValueError("needs as many seeds in both arms")
    problems = own.shape[1]
    if other.shape[1] != problems or len(own) < 2 > len(other):
        raise ValueError("needs the same problems in both arms, and two seeds in one of them")
    if ours is None or theirs is None:
        means = [None if x is None else float(x.mean()) for x in (ours, theirs)]
        return Difference(
            first=means[0], second=means[1], difference=None, ci=None, p=None, mde=None, problems=problems
        )
    difference = float(theirs.mean() - ours.mean())
    arms = (
        [(theirs - ours, other - own)]
        if paired and len(own) >= PAIRED_SEEDS
        else [(ours, -own), (theirs, other)]
    )
    found = _variances(arms)
    ci = _interval(difference, found) if problems > 1 else None
    p = mde = None
    if problems > 1:
        p, mde = _test(difference, found)
    return Difference(
        first=float(ours.mean()),
        second=float(theirs.mean()),
        difference=difference,
        ci=ci,
        p=p,
        mde=mde,
        problems=problems,
    )


def _linear(tasks: Sequence[Table], form: Form) -> tuple[FloatArray | None, FloatArray]:
    """Figures of the seeds (None: undefined), and each problem's part in them, shape (seeds, problems of all tasks),
    weighted so that their mean over all problems is the mean over tasks."""
    tables = [_checked(task) for task in tasks]
    total = sum(sums.shape[-1] for sums in tables)
    figures, parts = [], []
    for sums in tables:
        of_seeds, part = linearised(sums, form)
        figures.append(of_seeds)
        parts.append(part * total / (len(tables) * sums.shape[-1]))
    contributions = np.concatenate(parts, axis=1)
    return None if np.isnan(figures).any() else np.mean(figures, axis=0), contributions


def _checked(table: Table) -> FloatArray:
    parts = [np.asarray(part, dtype=np.float64) for part in table]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1 or parts[0].ndim != 2 or not parts[0].size:
        raise ValueError(f"needs (seeds, problems), got shapes {', '.join(map(str, shapes))}")
    return np.stack(parts)


def _variances(arms: Sequence[tuple[FloatArray, FloatArray]]) -> _Parts:
    """Of the sum of the arms' means, each given as figures (seeds,) and contributions (seeds, problems)."""
    problems = arms[0][1].shape[1]
    together = np.sum([contributions.mean(axis=0) for _, contributions in arms], axis=0)
    by_problem = float((together**2).sum()) / (problems * (problems - 1)) if problems > 1 else 0.0
    # Of one draw of a seed, from the arms that have several.
    several = [(f, c - c.mean(axis=0)) for f, c in arms if len(f) > 1]
    freedom = sum(len(f) - 1 for f, _ in several)
    if not several or problems < 2:
        return _Parts(by_problem, 0.0, 0.0, problems - 1, 0)
    of_seed = [float(np.var(f, ddof=1)) for f, _ in several]
    of_both = [float((e**2).sum()) / ((len(f) - 1) * (problems - 1)) for f, e in several]
    seeds = both = weight = 0.0
    for f, _ in arms:
        at = next((i for i, (g, _) in enumerate(several) if g is f), 0)
        share = of_seed[at] / len(f)
        seeds += share
        both += of_both[at] / (len(f) * problems)
        weight += share**2 / (len(several[at][0]) - 1)
    df = seeds**2 / weight if weight > 0 else float(freedom)
    return _Parts(by_problem, seeds, both, problems - 1, df)


def _interval(value: float, parts: _Parts) -> Interval | None:
    from scipy import special

    if parts.total <= 0:
        return None
    half = float(special.stdtrit(parts.df, (1 + CONFIDENCE) / 2)) * math.sqrt(parts.total)
    return value - half, value + half


def _test(difference: float, parts: _Parts) -> tuple[float | None, float | None]:
    """Two-sided p of Student's t, of the same error and degrees of freedom as the interval, and the minimum detectable
    effect; None where nothing varies, which is too little data to say how sure a difference is."""
    from scipy import special

    if parts.total <= 0:
        return (1.0 if difference == 0 else None), None
    se = math.sqrt(parts.total)
    p = 2 * float(special.stdtr(parts.df, -abs(difference) / se))
    return p, se * float(special.stdtrit(parts.df, 1 - ALPHA / 2) + special.stdtrit(parts.df, POWER))
