"""Where the noise of a score comes from: the choice of problems (data) or the model's draws (sampling)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceSplit:
    """The law of total variance, total = data + sampling: ``ValueError`` where the parts do not add up.

    Each part is None where the attempts cannot tell it. Unbiased estimates of a small variance can fall below
    0; they are left as they are, because cutting them would break the identity and bias their averages.
    """

    total: float | None
    data: float | None
    """Between problems: the variance of the problems' true rates."""
    sampling: float | None
    """Within problems: the mean variance of attempts at one problem."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.sampling is None) or (self.total is None and self.data is not None):
            raise ValueError(f"one part of a split is not known without the others: {self}")
        if self.total is None or self.data is None or self.sampling is None:
            return
        if not math.isclose(self.total, self.data + self.sampling, rel_tol=1e-9, abs_tol=1e-12):
            raise ValueError(f"total is not data + sampling: {self}")

    def to_json(self) -> dict[str, Any]:
        return {name: None if value is None else round(value, 12) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreVariance:
    """The split on two scales."""

    attempt: VarianceSplit
    """The variance of the score of one attempt at one random problem: a property of the model and the task."""
    mean: VarianceSplit
    """The variance of the benchmark's score: total is its squared standard error, and more samples shrink
    ``sampling``."""


def variance_split(attempts: ArrayLike, correct: ArrayLike) -> ScoreVariance:
    """Splits the variance of right-or-wrong scores, given n and c of each problem, shape (problems,).

    With rates p̂ = c/n over P problems, unbiased for problems drawn at random (the law of total variance as
    used by Miller 2024, arXiv:2411.00640, and by eval-arena, arXiv:2512.21326):

    - sampling variance within a problem: w = p̂ (1 − p̂) n / (n − 1)
    - mean scale: total = var(p̂)/P, sampling = Σ w/n / P², data = total − sampling
    - attempt scale: sampling = mean w, data = var(p̂) − mean w/n, total = their sum

    One problem has no variance to show, so all is None; where some problem has a single attempt the parts are
    None.
    """
    n, c = np.asarray(attempts, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if n.ndim != 1 or n.shape != c.shape or (n < 1).any() or (c < 0).any() or (c > n).any():
        raise ValueError("needs 0 ≤ correct ≤ attempts and attempts ≥ 1 for every problem")
    problems = n.size
    if problems < 2:
        unknown = VarianceSplit(total=None, data=None, sampling=None)
        return ScoreVariance(attempt=unknown, mean=unknown)
    rates = c / n
    of_rates = float(np.var(rates, ddof=1))
    if (n < 2).any():
        # A single draw mixes both parts; and unless all problems have one, rates are not single attempts.
        single = of_rates if (n == 1).all() else None
        return ScoreVariance(
            attempt=VarianceSplit(total=single, data=None, sampling=None),
            mean=VarianceSplit(total=of_rates / problems, data=None, sampling=None),
        )
    within = rates * (1 - rates) * n / (n - 1)
    noise = float(np.mean(within / n))
    sampling, data = float(np.mean(within)), of_rates - noise
    return ScoreVariance(
        attempt=VarianceSplit(total=data + sampling, data=data, sampling=sampling),
        mean=VarianceSplit(total=of_rates / problems, data=data / problems, sampling=noise / problems),
    )
