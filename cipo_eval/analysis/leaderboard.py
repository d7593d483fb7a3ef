"""Many runs in one order: their mean accuracy over tasks, which of them can be told apart, and their ranks.

Each pair is tested by the permutation test of ``cipo-eval compare``, paired by problem, and Holm's correction is over
all pairs. What a run's rank can be follows from the pairs that differ, so that all ranks hold at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.chains import FloatArray
from cipo_eval.analysis.comparison import shared_mode, shared_tasks, unlike
from cipo_eval.analysis.selection import selected_attempts
from cipo_eval.analysis.sums import aligned, chains_of_run, sums_of
from cipo_eval.errors import UsageError
from cipo_eval.metrics.bootstrap import (
    RESAMPLES,
    Interval,
    clopper_pearson,
    clustered_standard_error,
    mean_interval,
    t_interval,
)
from cipo_eval.metrics.differences import ALPHA, compare_means, holm
from cipo_eval.records import Mode, derive_seed
from cipo_eval.storage.store import read_info
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

Pairs = dict[tuple[int, int], float]
"""Adjusted p of the difference of two runs, by their positions in the leaderboard, the smaller one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One run in the leaderboard: its mean accuracy and the ranks that it can have."""

    run: Path
    value: float
    """pass@1, the unweighted mean over tasks, in [0, 1]."""
    interval: Interval
    """95 % interval of the value, over problems."""
    rank: int
    best_rank: int
    worst_rank: int
    """The ranks that the run can have at 95 %, for all runs at once."""
    letters: str
    """Runs that share a letter cannot be told apart."""
    by_task: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Runs in the order of their mean pass@1, the best first."""

    mode: Mode
    tasks: tuple[str, ...]
    problems: tuple[int, ...]
    """Number of problems of each task that all runs attempted."""
    standings: tuple[Standing, ...]
    p_holm: Pairs
    """p of each pair after Holm's correction, by positions in ``standings``."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON form; a pair has the paths of its runs."""
        runs = [str(standing.run) for standing in self.standings]
        return {
            "mode": self.mode.value,
            "tasks": dict(zip(self.tasks, self.problems, strict=True)),
            "runs": [
                {
                    "run": str(s.run),
                    "value": round(s.value, 10),
                    "ci": [round(end, 10) for end in s.interval],
                    "rank": s.rank,
                    "rank_ci": [s.best_rank, s.worst_rank],
                    "letters": s.letters,
                    "tasks": {t: round(v, 10) for t, v in zip(self.tasks, s.by_task, strict=True)},
                }
                for s in self.standings
            ],
            "pairs": [
                {"first": runs[a], "second": runs[b], "p_holm": round(p, 10)}
                for (a, b), p in self.p_holm.items()
            ],
            "notes": list(self.notes),
        }


def leaderboard(
    runs: Sequence[Path], *, mode: Mode | None = None, bootstrap: int = RESAMPLES, force: bool = False
) -> Leaderboard:
    """Runs by their mean pass@1 over the tasks that all have, at the problems that all attempted.

    Raises ``UsageError`` for runs without a common task or problem, and, unless ``force``, for runs that were asked
    different things.
    """
    infos = {run: read_info(run) for run in runs}
    tasks = shared_tasks(infos)
    judged = shared_mode(infos, mode)
    notes = [
        note for run in runs[1:] for task in tasks for note in unlike((infos[runs[0]], infos[run]), task)
    ]
    notes = list(dict.fromkeys(notes))
    if notes and not force:
        raise UsageError(
            f"the runs were asked different things: {'; '.join(notes[:4])}{' …' if len(notes) > 4 else ''}. "
            "--force compares them all the same, and says so"
        )
    scores = []
    for task in tasks:
        table, remark = _scores(runs, task, judged)
        scores.append(table)
        notes += remark
    values = np.array([[table[i].mean() for table in scores] for i in range(len(runs))])
    order = sorted(range(len(runs)), key=lambda i: -values[i].mean())
    pairs = _tested([table[order] for table in scores], bootstrap)
    letters = letter_display(len(runs), {pair for pair, p in pairs.items() if p < ALPHA})
    means = [float(values[i].mean()) for i in order]
    standings = []
    for place, i in enumerate(order):
        above = sum(p < ALPHA for (_, b), p in pairs.items() if b == place)
        below = sum(p < ALPHA for (a, _), p in pairs.items() if a == place)
        standings.append(
            Standing(
                run=runs[i],
                value=means[place],
                interval=_interval([table[i] for table in scores]),
                rank=means.index(means[place]) + 1,  # equal ones share it
                best_rank=1 + above,
                worst_rank=len(runs) - below,
                letters=letters[place],
                by_task=tuple(float(value) for value in values[i]),
            )
        )
    return Leaderboard(
        mode=judged,
        tasks=tuple(tasks),
        problems=tuple(table.shape[1] for table in scores),
        standings=tuple(standings),
        p_holm=pairs,
        notes=tuple(notes),
    )


def _scores(runs: Sequence[Path], task: str, mode: Mode) -> tuple[FloatArray, list[str]]:
    """pass@1 of every run at every problem that all of them attempted, shape (runs, problems)."""
    direct = PROTOCOLS[DIRECT]
    sums = [
        sums_of(f.PASS.at(1), chains_of_run(selected_attempts(run, task), direct, mode, 1)) for run in runs
    ]
    problems, table = aligned(sums)
    if not problems:
        raise UsageError(f"{task}: no problem was attempted in all of the runs")
    left = len(set().union(*sums)) - len(problems)
    notes = [f"{task}: {left} problem(s) that not all of the runs attempted are left out"] if left else []
    return table[..., 0] / table[..., 1], notes


def _tested(scores: Sequence[FloatArray], bootstrap: int) -> Pairs:
    """Adjusted p of every pair. Problems weigh so that their mean is the mean over tasks."""
    every = sum(table.shape[1] for table in scores)
    weighed = np.concatenate([t * (every / (len(scores) * t.shape[1])) for t in scores], axis=1)
    pairs = list(itertools.combinations(range(len(weighed)), 2))
    seed = derive_seed("leaderboard")
    found = [compare_means(weighed[a], weighed[b], bootstrap=bootstrap, seed=seed).p for a, b in pairs]
    adjusted = holm([1.0 if p is None else p for p in found])
    return {pair: 1.0 if p is None else p for pair, p in zip(pairs, adjusted, strict=True)}


def _interval(scores: Sequence[FloatArray]) -> Interval:
    values, intervals = [], []
    for of_task in scores:
        value, error = float(of_task.mean()), clustered_standard_error(of_task)
        size = len(of_task)
        values.append(value)
        intervals.append(clopper_pearson(value, size) if error is None else t_interval(value, error, size))
    low, high = mean_interval(values, intervals)
    return max(0.0, low), min(1.0, high)


def letter_display(count: int, different: set[tuple[int, int]]) -> list[str]:
    """Compact letter display: two of ``count`` things share a letter exactly where their pair is not in
    ``different`` (Piepho 2004, J. Comput. Graph. Stat. 13:456: insert and absorb)."""
    columns: list[frozenset[int]] = [frozenset(range(count))]
    for pair in sorted(different):
        split: list[frozenset[int]] = []
        for column in columns:
            split += [column - {one} for one in pair] if column.issuperset(pair) else [column]
        unique = list(dict.fromkeys(split))
        columns = [column for column in unique if not any(column < other for other in unique)]
    columns.sort(key=sorted)
    return [
        "".join(_letter(i) for i, column in enumerate(columns) if place in column) for place in range(count)
    ]


def _letter(number: int) -> str:
    """a … z, then a2 … z2 and so on."""
    turn, place = divmod(number, 26)
    return chr(ord("a") + place) + (str(turn + 1) if turn else "")
