"""By problem, the two sums that each figure is a ratio of: what comparisons and reports are made of.

A figure of a run is Σ top / Σ bottom over its problems, exactly as in ``results.json``. The sums of each problem are
what two runs, or several seeds of one, are paired and resampled by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.chains import chains, judged, trajectories
from cipo_eval.analysis.selection import Selected
from cipo_eval.metrics.correction import Trajectories, either_right
from cipo_eval.metrics.passk import default_ks, pass_at_k
from cipo_eval.records import Attempt, Mode
from cipo_eval.turns.protocols import Protocol

FloatArray = NDArray[np.float64]
Sums = Mapping[str, FloatArray]
"""By problem, shape (2,): what is above and what is below the line."""


def by_problem(first: Sequence[Attempt], mode: Mode) -> dict[str, list[bool]]:
    """Of each problem, whether these first attempts at it are right, in the order of the samples."""
    found: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for attempt in first:
        found[attempt.problem].append((attempt.sample, attempt.verdicts[mode.value].correct))
    return {problem: [right for _, right in sorted(rows)] for problem, rows in found.items()}


def first_turn(selected: Selected, mode: Mode, ks: Sequence[int]) -> dict[str, Sums]:
    """pass@k of first attempts for each k. Raises ``ValueError`` for a k above the fewest attempts at a problem."""
    table = by_problem(selected.first, mode)
    if not table:
        return {}
    n = np.array([len(rights) for rights in table.values()])
    c = np.array([sum(rights) for rights in table.values()])
    return {
        f"pass@{k}": {
            problem: np.array([score, 1.0]) for problem, score in zip(table, pass_at_k(n, c, k), strict=True)
        }
        for k in ks
    }


def revised(
    selected: Selected,
    protocol: Protocol,
    mode: Mode,
    turns: int,
    names: Sequence[str] | None = None,
) -> dict[str, Sums]:
    """Figures of a protocol by name: accuracy after each turn and its change, what went each way in the first step,
    lift; of judgements, accuracy and F1. ``names``: only these."""
    arrays, kept = trajectories(chains(selected.of(protocol.name), protocol), protocol, mode, turns)
    if not kept:
        return {}
    own = by_problem(selected.fresh(protocol.name), mode)
    state = arrays.state
    everything = np.ones(len(state))
    first, second = state[:, 0], state[:, min(1, turns - 1)]
    parts = {
        **{f"acc@t{turn}": (state[:, turn - 1], everything) for turn in range(1, turns + 1)},
        **{
            f"Δ(t1,t{turn})": (state[:, turn - 1] - first.astype(float), everything)
            for turn in range(2, turns + 1)
        },
        "Δ(i→c)": (~first & second, everything),
        "Δ(c→i)": (first & ~second, everything),
        "correction_rate": (~first & second, ~first),
    }
    if not protocol.only_wrong:  # else right attempts are not asked again
        parts["retention"] = (first & second, first)
    parts["correction_lift"] = _lift(own, arrays, kept, protocol)
    if protocol.judges:
        wrong, says_wrong, says_right = judged(kept, mode)
        parts["judgement accuracy"] = (np.where(wrong, says_wrong, says_right), everything)
        parts["judgement F1"] = (2 * (wrong & says_wrong), says_wrong.astype(int) + wrong)
    wanted = parts if names is None else {name: parts[name] for name in names if name in parts}
    _, of, counts = np.unique(arrays.problem, return_inverse=True, return_counts=True)
    problems = {int(number): chain[0].problem for number, chain in zip(of, kept, strict=True)}
    found: dict[str, Sums] = {}
    for name, pair in wanted.items():
        columns = [np.bincount(of, weights=np.asarray(x, dtype=np.float64)) / counts for x in pair]
        table = np.stack(columns, axis=1)
        found[name] = {problems[number]: row for number, row in enumerate(table)}
    if names is None and turns > 1:
        found |= _sequential(own, arrays, [problems[number] for number in range(len(counts))], of)
    return found


def _sequential(
    own: Mapping[str, Sequence[bool]],
    arrays: Trajectories,
    problems: Sequence[str],
    of: NDArray[np.int64],
) -> dict[str, Sums]:
    """``seq@k`` and what it gains over pass@2k, for all k that both can be told for (``metrics.correction``)."""
    n = np.array([len(own.get(problem, [])) for problem in problems])
    c = np.array([sum(own.get(problem, [])) for problem in problems])
    counts = np.bincount(of)
    either = np.bincount(of, weights=either_right(arrays)).astype(np.int64)
    fewest = min(int(counts.min()), int(n.min()) // 2)
    found: dict[str, Sums] = {}
    for k in default_ks(fewest) if fewest else ():
        scores = pass_at_k(counts, either, k)
        gains = scores - pass_at_k(n, c, 2 * k)
        for name, values in ((f"seq@{k}", scores), (f"seq@{k} gain", gains)):
            found[name] = {p: np.array([value, 1.0]) for p, value in zip(problems, values, strict=True)}
    return found


def _lift(
    own: Mapping[str, Sequence[bool]],
    arrays: Trajectories,
    kept: Sequence[Sequence[Attempt]],
    protocol: Protocol,
) -> tuple[FloatArray, FloatArray]:
    """Of failed attempts that were revised: right ones, less what other first attempts at the problem give
    (``metrics.correction``)."""
    rights = [own.get(chain[0].problem, []) for chain in kept]
    others = np.array([len(x) for x in rights]) - protocol.own
    state = arrays.state
    asked = arrays.asked[:, 1] if state.shape[1] > 1 else np.zeros(len(state), bool)
    counted = asked & ~state[:, 0] & (others > 0)
    fresh = np.array([sum(x) for x in rights]) / np.maximum(others, 1)
    right = state[:, min(1, state.shape[1] - 1)]
    return np.where(counted, right - fresh, 0.0), counted.astype(np.float64)


def aligned(tables: Sequence[Sums]) -> tuple[list[str], FloatArray]:
    """The problems that all tables have, in order, and their sums: shape (tables, problems, 2)."""
    problems = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if not problems:
        return [], np.zeros((len(tables), 0, 2))
    return problems, np.array([[table[problem] for problem in problems] for table in tables])
