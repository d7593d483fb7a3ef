"""Ratios of sums over problems, with intervals from resampled problems: arrays in, plain values out.

A figure is Σ top / Σ bottom over problems (or another ``form`` of the two means). Problems are the unit: they are drawn
with replacement, each with its top and its bottom, and all figures come from the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.bootstrap import CONFIDENCE, FEW, RESAMPLES, ClusterBootstrap, clopper_pearson

FloatArray = NDArray[np.float64]
Form = Callable[..., FloatArray]
"""A figure from the means of its top and its bottom, and of a second top and bottom where it has them, elementwise; NaN
where it is undefined."""
NOUGHT = 1e-12
"""Denominators up to this size count as zero: the figure is undefined."""
DIGITS = 10
"""Decimals of stored values: far below any meaning, so that the last bits of a sum never show."""


_STEP = 1e-5  # of the central differences by which a form's slopes are found: exact to some ten digits


def divided(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """top / bottom, elementwise; NaN where the bottom is nought."""
    with np.errstate(all="ignore"):
        return np.where(np.abs(bottom) > NOUGHT, top / bottom, np.nan)


def harmonic(
    top: FloatArray, bottom: FloatArray, other_top: FloatArray, other_bottom: FloatArray
) -> FloatArray:
    """The harmonic mean of two shares, elementwise: 0 where either is; NaN where either is undefined."""
    first, second = divided(top, bottom), divided(other_top, other_bottom)
    mean = divided(2 * first * second, first + second)
    return np.where(np.isnan(first) | np.isnan(second), np.nan, np.nan_to_num(mean))


def linearised(sums: FloatArray, form: Form = divided) -> tuple[FloatArray, FloatArray]:
    """Figures of several runs, shape (runs,), and each problem's part in them, shape (runs, problems): to the first
    order a figure is its value plus the mean of such parts, which is nought. ``sums``: shape (parts, runs, problems).

    Where a form has no slope (a harmonic mean of two noughts) the parts are nought. NaN where a figure is undefined.
    """
    means = sums.mean(axis=-1)
    values = np.asarray(form(*means), dtype=np.float64)
    if form is divided:
        top, bottom = sums
        with np.errstate(all="ignore"):
            return values, (top - values[:, None] * bottom) / means[1][:, None]
    parts = np.zeros(sums.shape[1:])
    for place, part in enumerate(sums):
        step = np.zeros(means.shape)
        step[place] = _STEP
        slope = (form(*(means + step)) - form(*(means - step))) / (2 * _STEP)
        parts += np.nan_to_num(slope)[:, None] * (part - means[place][:, None])
    return values, np.where(np.isnan(values)[:, None], np.nan, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The sums at each problem that one figure is a ratio of."""

    top: FloatArray
    """Numerator of each problem, shape (problems,)."""
    bottom: FloatArray
    """Denominator of each problem, shape (problems,); problems where it is zero do not count."""
    share: bool = True
    """Whether it is a share of attempts, for which a binomial bound holds where too few problems differ for a
    bootstrap."""
    form: Form = divided
    other: tuple[FloatArray, FloatArray] | None = None
    """A second top and bottom, for forms that have such; a problem has something in one of the two only."""

    @property
    def sums(self) -> tuple[FloatArray, ...]:
        """The arguments of ``form``, shape (problems,) each."""
        return (self.top, self.bottom, *(self.other or ()))

    @property
    def value(self) -> float | None:
        """The figure; None where it is undefined."""
        value = float(self.form(*(part.mean(keepdims=True) for part in self.sums))[0])
        return None if np.isnan(value) else value

    @property
    def of_problems(self) -> FloatArray:
        """The figure of each single problem, of those that have it; of one with two tops, the share that a problem
        has."""
        with np.errstate(all="ignore"):
            if self.other is None:
                single = self.form(self.top, self.bottom)
            else:
                single = divided(self.top + self.other[0], self.bottom + self.other[1])
        return single[~np.isnan(single)]


def estimates(
    ratios: Mapping[str, Ratio], *, bootstrap: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Each figure's value with its 95 % interval, the interval's method and how many problems have the figure.

    Intervals are percentiles of ``bootstrap`` resamples of problems, the same for all figures that are given the same
    number of problems and the same ``seed``; for a share where few problems differ, a binomial bound; else None.
    """
    if not ratios:
        return {}
    columns = np.concatenate([ratio.sums for ratio in ratios.values()])
    ends = np.cumsum([len(ratio.sums) for ratio in ratios.values()]).tolist()
    problems = columns.shape[1]
    drawn: dict[str, list[FloatArray]] = {name: [] for name in ratios}
    for weights in ClusterBootstrap(problems, bootstrap, seed).weights():
        means = (weights @ columns.T).T / problems
        for end, (name, ratio) in zip(ends, ratios.items(), strict=True):
            drawn[name].append(ratio.form(*means[end - len(ratio.sums) : end]))
    return {name: _entry(ratio, np.concatenate(drawn[name])) for name, ratio in ratios.items()}


def _entry(ratio: Ratio, drawn: FloatArray) -> dict[str, Any]:
    """``drawn``: the figure in each resample, shape (resamples,)."""
    value, single = ratio.value, ratio.of_problems
    entry: dict[str, Any] = {"value": value, "ci": None, "method": "none", "problems": int(single.size)}
    if value is None:
        return entry
    entry["value"] = round(value, DIGITS) + 0.0  # nought has no sign
    drawn = drawn[~np.isnan(drawn)]
    counts = np.unique(np.round(single, DIGITS), return_counts=True)[1]
    differing = single.size - counts.max() if single.size else 0
    if differing >= FEW and drawn.size:
        ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        method = "cluster_bootstrap"
    elif ratio.share and single.size > 1:
        ends, method = np.array(clopper_pearson(value, int(single.size))), "clopper_pearson"
    else:
        return entry
    return {**entry, "ci": [round(float(end), DIGITS) + 0.0 for end in ends], "method": method}
