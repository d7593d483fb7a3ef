"""maj@k: how often a majority vote among k attempts is right, as an expectation over which k of the n
attempts vote.

The vote is over answer classes. All correct attempts are one class, whatever they wrote; wrong ones form one
class per label; attempts without an answer abstain, but take up one of the k places. Tied classes share the
win evenly, and a vote that nobody takes part in is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.passk import check_ks

COST_LIMIT = 20_000_000
"""Most multiplications for the exact expectation of one problem (about 0.1 s); beyond it the vote is
simulated."""
EXACT_ATTEMPTS = 1000
"""Most attempts for the exact expectation: it counts subsets in float64, and C(1000, 500) ≈ 3e299 still
fits."""
DRAWS = 10_000
"""Simulated votes per problem and k: a standard error of at most 0.005 on one problem's score."""

Votes = Sequence[tuple[str | None, bool]]
"""The attempts at one problem, each (label of its answer or None, is it correct)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The classes of one problem, by size only: the vote depends on nothing else, so the order of attempts
    cannot matter.
    """

    correct: int
    wrong: tuple[int, ...]
    """Sizes of the wrong classes, largest first."""
    abstain: int

    @classmethod
    def of(cls, votes: Votes) -> Tally:
        wrong = Counter(label for label, correct in votes if not correct and label is not None)
        right = sum(correct for _, correct in votes)
        sizes = tuple(sorted(wrong.values(), reverse=True))
        return cls(right, sizes, len(votes) - right - sum(sizes))

    @property
    def attempts(self) -> int:
        return self.correct + sum(self.wrong) + self.abstain

    def cost(self, k: int) -> int:
        """Multiplications that ``exact_vote`` needs for all votes of up to k attempts."""
        tops = range(1, min(self.correct, k, max(self.wrong, default=0)) + 1)
        rivals = ((t, sum(size >= t for size in self.wrong)) for t in tops)
        return sum(count * (t + 1) * (k + 1) * (k // t + 1) for t, count in rivals)


@dataclass(frozen=True, slots=True)
class MajorityScores:
    """maj@k of each problem."""

    scores: dict[int, NDArray[np.float64]]
    """By k: shape (problems,)."""
    exact: bool
    """False where some problem's expectation was simulated."""


def majority_at_k(
    problems: Sequence[Votes | Tally],
    ks: Sequence[int],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    cost_limit: int = COST_LIMIT,
) -> MajorityScores:
    """maj@k of each problem for every k in ``ks``, exact unless that costs more than ``cost_limit`` (see
    ``Tally.cost``). ``problems``: the votes at each, or how they divide.

    Above the limit the score of that problem is the mean of ``draws`` simulated votes. Raises ``ValueError``
    where a k is below 1 or above the fewest attempts at a problem.
    """
    tallies = [votes if isinstance(votes, Tally) else Tally.of(votes) for votes in problems]
    if not tallies:
        raise ValueError("no problem to vote on")
    check_ks(ks, min(tally.attempts for tally in tallies))
    known: dict[Tally, NDArray[np.float64]] = {}
    exact = True
    for tally in tallies:
        # Problems with equal tallies share one result; a simulated one is seeded by the tally, not by its
        # place.
        if tally in known:
            continue
        if tally.attempts <= EXACT_ATTEMPTS and tally.cost(max(ks)) <= cost_limit:
            known[tally] = exact_vote(tally, ks)
        else:
            known[tally] = simulated_vote(tally, ks, seed=seed, draws=draws)
            exact = False
    table = np.array([known[tally] for tally in tallies])
    return MajorityScores({k: table[:, i] for i, k in enumerate(ks)}, exact)


def exact_vote(tally: Tally, ks: Sequence[int]) -> NDArray[np.float64]:
    """P(the vote of k attempts drawn without replacement is right) for each k, shape (len(ks),).

    Counts subsets by the correct class's votes t. No rival may have more than t votes, so the rivals'
    generating function is Π_j (Σ_{i<t} C(m_j, i) x^i + y C(m_j, t) x^t), with x counting votes and y ties;
    classes smaller than t and abstentions cannot tie and go together as (1 + x)^rest. The coefficient of
    x^(k−t) y^s then wins 1/(s + 1).
    """
    top_k = max(ks)
    wins = np.zeros(top_k + 1)
    for t in range(1, min(tally.correct, top_k) + 1):
        rivals = [size for size in tally.wrong if size >= t]
        rest = tally.attempts - tally.correct - sum(rivals)
        room = top_k - t
        # counts[s, v]: ways for the rivals so far to take v votes in all, with s of them at t votes.
        counts = np.zeros((min(len(rivals), room // t) + 1, room + 1))
        counts[0] = [float(comb(rest, v)) for v in range(room + 1)]
        for size in rivals:
            grown = counts.copy()
            for i in range(1, min(t - 1, room) + 1):
                grown[:, i:] += comb(size, i) * counts[:, : room + 1 - i]
            if t <= room:
                grown[1:, t:] += comb(size, t) * counts[:-1, : room + 1 - t]
            counts = grown
        shares = 1.0 / np.arange(1, len(counts) + 1)
        wins[t:] += comb(tally.correct, t) * (shares @ counts)
    # The sums carry rounding in their last bits; certain votes must be 0 or 1 and equal ones must stay equal.
    return np.array([round(wins[k] / comb(tally.attempts, k), 12) for k in ks])


def simulated_vote(tally: Tally, ks: Sequence[int], *, seed: int, draws: int) -> NDArray[np.float64]:
    """P(the vote of k attempts is right) for each k, shape (len(ks),), as the mean over ``draws`` simulated votes."""
    sizes = [tally.correct, *tally.wrong, tally.abstain]
    scores = []
    for k in ks:
        rng = np.random.default_rng([seed, k, *sizes])
        votes = rng.multivariate_hypergeometric(sizes, k, size=draws)[:, :-1]
        top = votes.max(axis=1)
        won = (votes[:, 0] == top) & (top > 0)
        scores.append(float(np.mean(won / (votes == top[:, None]).sum(axis=1))))
    return np.array(scores)
