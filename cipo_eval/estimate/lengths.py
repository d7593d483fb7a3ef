"""How many tokens a completion has on average, where a limit cuts the long ones off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cipo_eval.errors import UsageError, nearest
from cipo_eval.estimate.constants import LEVELS, Length

STANDARD_ERRORS = 2.0
"""Standard errors to either side of an interval."""
MOST_TOKENS = 10_000_000
"""Most tokens of a completion that are accepted as a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Completions of one kind under one limit."""

    mean: float
    """Tokens of a completion."""
    held: float
    """Tokens that a completion has on average at a moment at which it is being generated."""
    long: float
    """Tokens of one of the longest: of a hundred."""


def expected(length: Length, limit: int, scale: float = 1.0) -> Expected:
    """Expected lengths of completions that are ``scale`` times as long as measured, and at most ``limit`` tokens.

    Under the limit that they were measured under, or a higher one, the mean is what was measured; under a lower one
    the quantile function (a line between its known points) tells how much of it is cut off.
    """
    unit = (
        scale * length.mean / _integral(length.quantiles, math.inf, 1)
    )  # few points miss the stated mean a bit
    longest = length.quantiles[LEVELS.index(0.99)] * unit
    mean, square = (unit**power * _integral(length.quantiles, limit / unit, power) for power in (1, 2))
    if length.limit is not None and limit >= length.limit:
        mean = scale * length.mean
    mean = min(max(mean, 1.0), limit)
    return Expected(mean=mean, held=min(square / mean / 2, limit), long=min(max(longest, mean), limit))


def _integral(quantiles: tuple[float, ...], limit: float, power: int) -> float:
    """Of the quantile function, cut off at a limit, to a power (1, 2), from 0 to 1."""
    total = 0.0
    for (left, low), (right, high) in pairwise(zip(LEVELS, quantiles, strict=True)):
        if high <= limit or high == low:
            total += (right - left) * _mean_of_power(min(low, limit), min(high, limit), power)
            continue
        inside = min(max((limit - low) / (high - low), 0.0), 1.0)  # share of the piece below the limit
        below = _mean_of_power(min(low, limit), limit, power)
        total += (right - left) * (inside * below + (1 - inside) * limit**power)
    return total


def _mean_of_power(low: float, high: float, power: int) -> float:
    """Of a number that is anywhere between two others."""
    return (low + high) / 2 if power == 1 else (low * low + low * high + high * high) / 3


def scale(length: Length, level: int, problems: int, attempts: float, beyond: float = 0.0) -> float:
    """The mean at an end of its interval (``level`` -1 or 1; 0: 1) by the mean: the interval of what was measured, and
    beside it what so many attempts at so many problems are off by chance.

    ``beyond``: tokens that each of those which were cut off may have more under a higher limit.
    """
    if not level:
        return 1.0
    chance = STANDARD_ERRORS * math.sqrt(
        length.between**2 / max(problems, 1) + length.within**2 / max(attempts, 1)
    )
    if level < 0:
        return max(1 - math.hypot(1 - length.low / length.mean, chance), length.low / length.mean / 2)
    return 1 + math.hypot(length.high / length.mean - 1, chance) + length.cut * beyond / length.mean


def with_mean(mean: float, limit: int, like: Length) -> Length:
    """Lengths whose mean under a limit is so many tokens, as a user says, distributed as others are (``like``)."""
    mean = min(mean, limit)
    return like.model_copy(
        update={
            "mean": mean,
            "low": mean,
            "high": mean,
            "limit": limit,
            "cut": 0.0,
            "source": "--mean-tokens",
        }
    )


def stated_means(text: str | None, tasks: Sequence[str]) -> dict[str, float]:
    """By task, what ``--mean-tokens`` says; under the empty name, of all. Raises ``UsageError``."""
    means: dict[str, float] = {}
    for part in text.split(",") if text is not None else ():
        task, _, number = (word.strip() for word in part.rpartition("="))
        try:
            means[task] = float(number)
        except ValueError:
            raise UsageError(f"--mean-tokens {text}: 3000, or aime24=9000,math500=3000") from None
        if not 1 <= means[task] <= MOST_TOKENS:
            raise UsageError(f"--mean-tokens {text}: from 1 to {MOST_TOKENS:,}")
        if task and task not in tasks:
            raise UsageError(f"--mean-tokens {task}: {nearest(task, tasks)}")
    return means
