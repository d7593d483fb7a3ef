"""The ratio of two means that were measured on the same units, with an interval that says when there is none.

Fieller's interval (1954, doi:10.1111/j.2517-6161.1954.tb00159.x; von Luxburg & Franz 2009, arXiv:0711.0198): all ratios
θ for which the mean of (top - θ·bottom) is not significantly different from 0 by Student's t. Where the bottom's mean
itself is not, every ratio far enough out is among them, and there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cipo_eval.metrics.bootstrap import CONFIDENCE, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of two means of the same units, with Fieller's interval."""

    value: float | None
    """None where the bottom's mean is 0."""
    ci: Interval | None
    """95 %; None for fewer than two units, and where the bottom's mean cannot be told from 0."""
    units: int


def ratio_of_means(top: Sequence[float], bottom: Sequence[float]) -> Ratio:
    """Mean of ``top`` by mean of ``bottom``, of the same units (seeds) in the same order. Raises ``ValueError`` for
    lengths that differ."""
    from scipy import special

    a, b = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"needs as many values above as below, got shapes {a.shape} and {b.shape}")
    n, above, below = len(a), float(a.mean()), float(b.mean())
    value = above / below if below else None
    if n < 2 or value is None:
        return Ratio(value=value, ci=None, units=n)
    (of_top, shared), (_, of_bottom) = np.cov(a, b, ddof=1) / n
    t2 = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) ** 2
    square = below**2 - t2 * of_bottom
    if square <= 0:
        return Ratio(value=value, ci=None, units=n)
    middle = above * below - t2 * shared
    spread = math.sqrt(max(0.0, middle**2 - square * (above**2 - t2 * of_top)))
    return Ratio(value=value, ci=((middle - spread) / square, (middle + spread) / square), units=n)
